package dataset

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// IDX is the format of MNIST (http://yann.lecun.com/exdb/mnist/): two zero
// bytes, a type (8: unsigned byte), the number of dimensions, each dimension as
// a big-endian uint32, then the values, the last dimension varying fastest.
const idxByte = 8

// idxMaxBytes bounds what a header may ask for.
const idxMaxBytes = 1 << 34

// OpenIDX reads images, [n, height, width] or [n, height, width, channels]
// bytes, and their labels, [n] bytes, from IDX files, plain or compressed by
// gzip. An empty labels path means images without labels.
func OpenIDX(imagesPath, labelsPath string, o Options) (*Set, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	shape, pixels, err := openIDX(imagesPath)
	if err != nil {
		return nil, err
	}
	s, err := idxImages(imagesPath, shape, pixels, o)
	if err != nil || labelsPath == "" {
		return s, err
	}
	shape, labels, err := openIDX(labelsPath)
	if err != nil {
		return nil, err
	}
	if len(shape) != 1 {
		return nil, invalid(labelsPath, "give the file of labels (…-labels-idx1-ubyte)", "IDX file has %d dimensions, want 1 for labels", len(shape))
	}
	if shape[0] != s.Len() {
		return nil, invalid(labelsPath, "check that both files are of the same split", "%d labels for the %d images of %s", shape[0], s.Len(), imagesPath)
	}
	if err := s.label(labelsPath, labels, o.Classes); err != nil {
		return nil, err
	}
	if !o.AllowEmpty {
		if err := s.checkFull(labelsPath); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// label sets labels and classes. Without wanted classes they are "0" to the
// largest label.
func (s *Set) label(path string, labels []byte, classes []string) error {
	if classes == nil {
		n := 1 + int(slices.Max(labels))
		if err := checkClassCount(path, n); err != nil {
			return err
		}
		for i := range n {
			classes = append(classes, strconv.Itoa(i))
		}
	}
	s.Classes = slices.Clone(classes)
	s.Labels = make([]int, len(labels))
	for i, l := range labels {
		if int(l) >= len(classes) {
			return invalid(path, "name all classes in the config", "label %d of image %d is out of range, want 0 to %d", l, i, len(classes)-1)
		}
		s.Labels[i] = int(l)
	}
	return nil
}

// idxImages makes a set of the contents of an IDX file.
func idxImages(path string, shape []int, pixels []byte, o Options) (*Set, error) {
	if len(shape) == 1 {
		return nil, invalid(path, "give the file of images (…-images-idx3-ubyte)", "IDX file has 1 dimension, want 3 or 4 for images")
	}
	s := &Set{Height: shape[1], Width: shape[2], Channels: 1, Pixels: pixels}
	if len(shape) == 4 {
		s.Channels = shape[3]
	}
	if shape[0] == 0 {
		return nil, invalid(path, "", "no images, want at least one")
	}
	if bad := checkSize(path, s.Width, s.Height, o.Size, "the size asked for"); bad != nil {
		bad.Next = "resize the images before packing them as IDX"
		return nil, bad
	}
	if s.Channels != 1 && s.Channels != 3 {
		return nil, invalid(path, "", "images have %d channels, want 1 or 3", s.Channels)
	}
	if o.Channels != 0 && o.Channels != s.Channels {
		s = s.convert(o.Channels)
	}
	return s, nil
}

// convert returns the set with the other number of channels.
func (s *Set) convert(channels int) *Set {
	out := *s
	out.Channels = channels
	out.Pixels = make([]byte, 0, s.Len()*s.Height*s.Width*channels)
	for i := 0; i < len(s.Pixels); i += s.Channels {
		if s.Channels == 1 {
			v := s.Pixels[i]
			out.Pixels = append(out.Pixels, v, v, v)
		} else {
			out.Pixels = append(out.Pixels, luma(s.Pixels[i], s.Pixels[i+1], s.Pixels[i+2]))
		}
	}
	return &out
}

// luma is the brightness of a colour (ITU-R BT.601, as in JPEG).
func luma(r, g, b byte) byte {
	return byte((19595*uint32(r) + 38470*uint32(g) + 7471*uint32(b) + 1<<15) >> 16)
}

func openIDX(path string) (shape []int, values []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, openError(path, err)
	}
	defer f.Close()
	shape, values, err = readIDX(f)
	var bad *Error
	if errors.As(err, &bad) {
		bad.Path = path
		return nil, nil, bad
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return shape, values, nil
}

// readIDX parses one IDX file of bytes, 1, 3 or 4 dimensions.
func readIDX(r io.Reader) (shape []int, values []byte, err error) {
	in := bufio.NewReader(r)
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, nil, broken("gzip", err)
		}
		in = bufio.NewReader(z)
	}
	var head [4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, nil, broken("header", err)
	}
	if head[0] != 0 || head[1] != 0 {
		return nil, nil, invalid("", "give an IDX file, as MNIST's", "not an IDX file: it starts with %#02x%02x, want two zero bytes", head[0], head[1])
	}
	if head[2] != idxByte {
		return nil, nil, invalid("", "convert the values to bytes", "IDX values of type %#02x, want %#02x (unsigned byte)", head[2], idxByte)
	}
	rank := int(head[3])
	if rank != 1 && rank != 3 && rank != 4 {
		return nil, nil, invalid("", "", "IDX file has %d dimensions, want 1 (labels), 3 or 4 (images)", rank)
	}
	total := int64(1)
	for range rank {
		var size uint32
		if err := binary.Read(in, binary.BigEndian, &size); err != nil {
			return nil, nil, broken("header", err)
		}
		shape = append(shape, int(size))
		// No overflow: total is at most 2^34 and size below 2^32.
		if total *= int64(size); total > idxMaxBytes {
			return nil, nil, invalid("", "", "IDX header asks for over %d bytes", int64(idxMaxBytes))
		}
	}
	// ReadAll grows with what is there, so that a false header costs no memory.
	values, err = io.ReadAll(io.LimitReader(in, total+1))
	if err != nil {
		return nil, nil, broken("values", err)
	}
	if int64(len(values)) != total {
		got := "at least " + strconv.Itoa(len(values))
		if int64(len(values)) < total {
			got = strconv.Itoa(len(values))
		}
		return nil, nil, invalid("", "the file was cut or is of another kind", "%s bytes after the header, want %d", got, total)
	}
	return shape, values, nil
}

// broken tells a file that ends or does not decompress from a failing disk.
func broken(part string, err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return err
	}
	return &Error{Problem: "cannot read the " + part, Err: err, Next: "the file is damaged or of another kind"}
}

// openError makes a missing or locked file the user's mistake; other failures
// are the machine's.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return invalid(path, "check the path", "no such file or folder")
	case errors.Is(err, os.ErrPermission):
		return invalid(path, "allow it for the user who runs scumble", "no permission to read")
	case errors.Is(err, syscall.ELOOP):
		return invalid(path, "remove it or point it at an image", "a link that leads to itself")
	}
	return fmt.Errorf("open data set: %w", err)
}

// WriteIDX writes the images, and labels unless labelsPath is empty, as IDX
// files, compressed where the name ends in ".gz". Colour images get a fourth
// dimension.
func WriteIDX(imagesPath, labelsPath string, s *Set) error {
	if err := s.Check(); err != nil {
		return err
	}
	shape := []int{s.Len(), s.Height, s.Width}
	if s.Channels != 1 {
		shape = append(shape, s.Channels)
	}
	if err := writeIDX(imagesPath, shape, s.Pixels); err != nil || labelsPath == "" {
		return err
	}
	if s.Labels == nil {
		return fmt.Errorf("write %s: the images have no labels: %w", labelsPath, ErrInvalid)
	}
	labels := make([]byte, len(s.Labels))
	for i, l := range s.Labels {
		if l > 255 {
			return fmt.Errorf("write %s: label %d, want at most 255 in IDX: %w", labelsPath, l, ErrInvalid)
		}
		labels[i] = byte(l)
	}
	return writeIDX(labelsPath, []int{len(labels)}, labels)
}

func writeIDX(path string, shape []int, values []byte) error {
	var b bytes.Buffer
	b.Write([]byte{0, 0, idxByte, byte(len(shape))})
	for _, size := range shape {
		b.Write(binary.BigEndian.AppendUint32(nil, uint32(size)))
	}
	return writeFile(path, func(w io.Writer) error {
		if !strings.HasSuffix(path, ".gz") {
			_, err := w.Write(append(b.Bytes(), values...))
			return err
		}
		z := gzip.NewWriter(w)
		if _, err := z.Write(append(b.Bytes(), values...)); err != nil {
			return err
		}
		return z.Close()
	})
}
