package dataset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"os"
	"path/filepath"
	"slices"
	"strings"

	// The formats that image.Decode knows, with gif.
	_ "image/jpeg"
	_ "image/png"

	_ "golang.org/x/image/bmp"
	_ "golang.org/x/image/webp"
)

// OpenFolder reads a folder that holds one folder of images for each class:
// CLASS/NAME.png (or jpg, jpeg, gif, bmp, webp). Names that start with a dot,
// Thumbs.db and desktop.ini are passed over; anything else that is not an image
// is an error that names it. Links are followed. All images must be opaque,
// square, of one frame and of one size.
func OpenFolder(dir string, o Options) (*Set, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	classes, err := classFolders(dir)
	if err != nil {
		return nil, err
	}
	s := &Set{Classes: slices.Clone(o.Classes), Channels: o.Channels}
	if o.Classes == nil {
		s.Classes = classes
	}
	if err := checkClassCount(dir, len(s.Classes)); err != nil {
		return nil, err
	}
	b := builder{Set: s, size: o.Size}
	for _, class := range classes {
		label := slices.Index(s.Classes, class)
		if label < 0 {
			return nil, invalid(filepath.Join(dir, class), "remove the folder or name the class", "class %q is not among the %d wanted", class, len(s.Classes))
		}
		paths, err := imageFiles(filepath.Join(dir, class))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			if err := b.add(path, label); err != nil {
				return nil, err
			}
		}
	}
	if s.Len() == 0 {
		return nil, invalid(dir, "", "no images, want at least one")
	}
	if !o.AllowEmpty {
		if err := s.checkFull(dir); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// classFolders lists the folders in dir in the order of labels.
func classFolders(dir string) ([]string, error) {
	var classes []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, openError(dir, err)
	}
	for _, e := range entries {
		if passedOver(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path) // Follows links, unlike the entry.
		if err != nil {
			return nil, openError(path, err)
		}
		if !info.IsDir() {
			return nil, invalid(path, "move it away, or into the folder of its class", "not a folder, want one folder for each class")
		}
		classes = append(classes, e.Name())
	}
	slices.SortFunc(classes, compareNames)
	return classes, nil
}

// imageEndings are those of the files that we read.
var imageEndings = []string{".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp"}

// imageFiles lists the images of a class, by name.
func imageFiles(dir string) ([]string, error) {
	var paths []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, openError(dir, err)
	}
	for _, e := range entries {
		if passedOver(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil {
			return nil, openError(path, err)
		}
		switch ext := strings.ToLower(filepath.Ext(path)); {
		case info.IsDir():
			return nil, invalid(path, "put all images of a class in one folder", "a folder within a class, want images")
		case !info.Mode().IsRegular():
			return nil, invalid(path, "move it away", "not a file, want an image")
		case !slices.Contains(imageEndings, ext):
			return nil, invalid(path, "move it away or convert it", "not an image we read, want png, jpg, gif, bmp or webp")
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// builder collects images that must agree.
type builder struct {
	*Set
	size  int    // Wanted size; 0 until the first image.
	first string // The file that size and channels were taken from; empty if asked for.
	grey  string // The file that channels were taken from; empty if asked for.
}

func (b *builder) add(path string, label int) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return openError(path, err)
	}
	return b.addImage(path, data, label)
}

// addImage adds the image that data hold; path names it in errors.
func (b *builder) addImage(path string, data []byte, label int) error {
	source := "the size asked for"
	if b.first != "" {
		source = b.first
	}
	img, err := decode(data, func(width, height int) *Error {
		return checkSize(path, width, height, b.size, source)
	})
	var bad *Error
	if errors.As(err, &bad) {
		bad.Path = path
		return bad
	}
	if err != nil {
		return err
	}
	width := img.Bounds().Dx()
	if b.size == 0 {
		b.size, b.first = width, path
	}
	b.Height, b.Width = width, width
	channels := 3
	if isGrey(img) {
		channels = 1
	}
	switch {
	case b.Channels == 0:
		b.Channels, b.grey = channels, path
	case b.grey != "" && channels != b.Channels:
		return invalid(path, "ask for 1 or 3 channels, and all images are converted", "image has %s, but %s has %s",
			channelWord(channels), b.grey, channelWord(b.Channels))
	}
	pixels, err := bytesOf(img, b.Channels)
	if err != nil {
		return invalid(path, "flatten it onto the background it should have", "%s", err)
	}
	b.Pixels = append(b.Pixels, pixels...)
	b.Labels = append(b.Labels, label)
	return nil
}

func channelWord(channels int) string {
	if channels == 1 {
		return "grey only"
	}
	return "colour"
}

// decode reads an image, after check has approved of its size, so that a small
// file cannot ask for much memory.
func decode(data []byte, check func(width, height int) *Error) (img image.Image, err error) {
	defer func() {
		// A decoder that panics has met a broken file. Its words may hold
		// contents, so they are dropped.
		if recover() != nil {
			img, err = nil, invalid("", "the file is damaged", "cannot decode the image")
		}
	}()
	if len(data) == 0 {
		return nil, invalid("", "replace the file", "the file is empty, want an image")
	}
	config, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, unreadable(err)
	}
	if bad := check(config.Width, config.Height); bad != nil {
		return nil, bad
	}
	img, _, err = image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, unreadable(err)
	}
	if img.Bounds().Dx() != config.Width || img.Bounds().Dy() != config.Height {
		return nil, invalid("", "save it as png", "the first frame does not fill the image")
	}
	if format == "gif" && manyFrames(data) || format == "png" && animatedPNG(data) {
		return nil, invalid("", "save the frame that is meant as png", "the image is animated, want one frame")
	}
	return img, nil
}

// manyFrames says whether a GIF has a second frame. A decoder that fails behind
// the first one has met a second, or garbage: neither is one whole image.
func manyFrames(data []byte) bool {
	all, err := gif.DecodeAll(bytes.NewReader(data))
	return err != nil || len(all.Image) > 1
}

// animatedPNG says whether a PNG, which was decoded, has a chunk acTL with more
// than one frame before its pixels.
func animatedPNG(data []byte) bool {
	for at := len("\x89PNG\r\n\x1a\n"); at+12 <= len(data); {
		size, kind := binary.BigEndian.Uint32(data[at:]), string(data[at+4:at+8])
		switch {
		case kind == "IDAT" || uint64(size) > uint64(len(data)-at-12):
			return false
		case kind == "acTL" && size >= 4:
			return binary.BigEndian.Uint32(data[at+8:]) > 1
		}
		at += 12 + int(size)
	}
	return false
}

// unreadable keeps the one cause that is safe to print.
func unreadable(err error) error {
	if errors.Is(err, image.ErrFormat) {
		return invalid("", "replace the file", "not a png, jpg, gif, bmp or webp image, whatever its name")
	}
	return invalid("", "replace the file", "unreadable image: it is damaged or of a kind we lack")
}

func isGrey(img image.Image) bool {
	return img.ColorModel() == color.GrayModel || img.ColorModel() == color.Gray16Model
}

var errTransparent = errors.New("image has transparent pixels, want none")

// bytesOf returns the [height, width, channels] bytes of an opaque image.
func bytesOf(img image.Image, channels int) ([]byte, error) {
	box := img.Bounds()
	out := make([]byte, 0, box.Dx()*box.Dy()*channels)
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			r, g, b, a := img.At(x, y).RGBA()
			if a != 0xffff {
				return nil, errTransparent
			}
			red, green, blue := byte(r>>8), byte(g>>8), byte(b>>8)
			if channels == 3 {
				out = append(out, red, green, blue)
			} else {
				out = append(out, luma(red, green, blue))
			}
		}
	}
	return out, nil
}
