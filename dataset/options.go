package dataset

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What the readers take. The models are built for these.
const (
	MinSize    = 28  // Pixels.
	MaxSize    = 256 // Pixels.
	MinClasses = 2   // Of a labelled set.
	MaxClasses = 100 // Of a labelled set.
)

// Split names a part of a folder that holds several IDX pairs.
type Split string

const (
	Train Split = "train" // train-images-idx3-ubyte and its labels.
	Test  Split = "test"  // test-images-… or t10k-images-…
)

// Options says what a reader should find. The zero value takes the size,
// channels and classes as they come; a private run sets all three from its
// config, which is public, so that none is read off the data.
type Options struct {
	// Size is the wanted height and width in pixels. Zero means that of the
	// first image.
	Size int

	// Channels is the number wanted, 1 or 3; images of the other kind are
	// converted. Zero means that of the first image, and all must agree.
	Channels int

	// Classes are the wanted class names, in the order of the labels. Nil means
	// the folder names, numbers first, in order; for IDX, "0" up to the largest
	// label.
	Classes []string

	// AllowEmpty accepts a class without images, as a small test set may have.
	AllowEmpty bool

	// Split is the part to read where the files tell one. Empty means Train.
	Split Split

	// Format is the layout of the files. Empty means the one that is there.
	Format Format

	// Attribute chooses what the files leave open. CelebA: the attribute whose
	// presence is the class; empty means Male. EMNIST: the part, such as balanced,
	// where a folder holds several. CIFAR-100: coarse, for its 20 groups of
	// classes. SVHN: extra, to add the easier digits to the training split.
	Attribute string

	// AnyChecksum takes files whose contents are not those that were published
	// under their names, such as a part of them.
	AnyChecksum bool

	// Labels is the IDX file of the labels, for Open with a path to the IDX file
	// of the images. Empty means the file beside it with "labels" and "idx1" in
	// place of "images" and "idx3".
	Labels string
}

func (o Options) check() error {
	if o.Size != 0 && (o.Size < MinSize || o.Size > MaxSize) {
		return fmt.Errorf("size is %d pixels, want %d to %d: %w", o.Size, MinSize, MaxSize, ErrInvalid)
	}
	if o.Channels != 0 && o.Channels != 1 && o.Channels != 3 {
		return fmt.Errorf("channels are %d, want 1 or 3: %w", o.Channels, ErrInvalid)
	}
	if o.Split != "" && o.Split != Train && o.Split != Test {
		return fmt.Errorf("split is %q, want %q or %q: %w", o.Split, Train, Test, ErrInvalid)
	}
	if o.Classes != nil {
		return checkClassCount("", len(o.Classes))
	}
	return nil
}

func checkClassCount(path string, n int) error {
	if n < MinClasses || n > MaxClasses {
		return invalid(path, "put the images of each class in a folder of its own", "%d classes, want %d to %d", n, MinClasses, MaxClasses)
	}
	return nil
}

// checkSize says whether an image of height × width pixels can be taken where
// size (0: any) is wanted. source is what asked for that size.
func checkSize(path string, width, height, size int, source string) *Error {
	switch {
	case size != 0 && (width != size || height != size):
		return invalid(path, resizeHint(size), "image is %dx%d pixels, but %s is %dx%d", width, height, source, size, size)
	case width != height:
		return invalid(path, resizeHint(min(max(width, MinSize), MaxSize)), "image is %dx%d pixels, want a square", width, height)
	case width < MinSize:
		return invalid(path, resizeHint(MinSize), "image is %dx%d pixels, want %d to %d", width, height, MinSize, MaxSize)
	case width > MaxSize:
		return invalid(path, resizeHint(MaxSize), "image is %dx%d pixels, want %d to %d", width, height, MinSize, MaxSize)
	}
	return nil
}

// resizeHint gives a command of ImageMagick, the tool most people have.
func resizeHint(size int) string {
	return fmt.Sprintf("make all images %dx%d, for example: mogrify -resize '%dx%d!' FOLDER/*/*.png", size, size, size, size)
}

// compareNames orders class names: numbers first, by value, then the rest.
func compareNames(a, b string) int {
	x, errX := strconv.ParseUint(a, 10, 63)
	y, errY := strconv.ParseUint(b, 10, 63)
	switch {
	case errX == nil && errY == nil && x != y:
		if x < y {
			return -1
		}
		return 1
	case errX == nil && errY != nil:
		return -1
	case errX != nil && errY == nil:
		return 1
	}
	return strings.Compare(a, b)
}

// Check says whether the set is whole: pixels fill whole images, there is one
// label for each, and every label names a class.
func (s *Set) Check() error {
	size := s.ImageSize()
	if s.Height <= 0 || s.Width <= 0 || s.Channels <= 0 {
		return fmt.Errorf("images of %dx%d pixels, %d channels: want positive sizes: %w", s.Width, s.Height, s.Channels, ErrInvalid)
	}
	if len(s.Pixels)%size != 0 {
		return fmt.Errorf("%d bytes of pixels, want a multiple of %d: %w", len(s.Pixels), size, ErrInvalid)
	}
	if s.Captions != nil && len(s.Captions) != s.Len() {
		return fmt.Errorf("%d captions for %d images, want as many: %w", len(s.Captions), s.Len(), ErrInvalid)
	}
	if s.Labels == nil {
		return nil
	}
	if len(s.Labels) != s.Len() {
		return fmt.Errorf("%d labels for %d images, want as many: %w", len(s.Labels), s.Len(), ErrInvalid)
	}
	if i := slices.IndexFunc(s.Labels, func(l int) bool { return l < 0 || l >= len(s.Classes) }); i >= 0 {
		return fmt.Errorf("label %d of image %d, want 0 to %d: %w", s.Labels[i], i, len(s.Classes)-1, ErrInvalid)
	}
	return nil
}

// checkFull refuses a class without images.
func (s *Set) checkFull(path string) error {
	seen := make([]bool, len(s.Classes))
	for _, l := range s.Labels {
		seen[l] = true
	}
	if i := slices.Index(seen, false); i >= 0 {
		return invalid(path, "add images or leave the class out", "class %q has no images, want at least one", s.Classes[i])
	}
	return nil
}
