package dataset

import (
	"fmt"
	"path/filepath"
	"slices"
)

// cifarSide is the size of CIFAR's images, and of SVHN's, in pixels.
const (
	cifarSide  = 32
	cifarImage = 3 * cifarSide * cifarSide // Bytes.
)

// coarse is the attribute that asks for CIFAR-100's groups of classes.
const coarse = "coarse"

// cifarFiles returns the files of a split, and whether they are pickles.
func cifarFiles(dir string, format Format, split Split) (files []string, python bool, err error) {
	names := []string{"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"}
	switch {
	case format == CIFAR10 && split == Test:
		names = []string{"test_batch"}
	case format == CIFAR100 && split == Test:
		names = []string{"test"}
	case format == CIFAR100:
		names = []string{"train"}
	}
	for _, ending := range []string{".bin", ""} {
		files = files[:0]
		missing := ""
		for _, name := range names {
			path := filepath.Join(dir, name+ending)
			if isFile(path) {
				files = append(files, path)
			} else if missing == "" {
				missing = name + ending
			}
		}
		switch {
		case missing == "":
			return files, ending == "", nil
		case len(files) > 0:
			return nil, false, invalid(dir, "put all files of the split there", "has no %s", missing)
		}
	}
	return nil, false, invalid(dir, "put the files of the binary or of the Python version there", "has neither %s.bin nor %[1]s", names[0])
}

// cifar100Names returns the names of the classes, or of their groups.
func cifar100Names(o Options) ([]string, error) {
	switch o.Attribute {
	case "":
		return slices.Clone(cifar100Fine), nil
	case coarse:
		return slices.Clone(cifar100Coarse), nil
	}
	return nil, fmt.Errorf("attribute is %q, want %q for CIFAR-100's 20 groups of classes, or none for its 100 classes: %w", o.Attribute, coarse, ErrInvalid)
}

// openCIFAR reads the binary or the Python version of CIFAR-10 and CIFAR-100
// (https://www.cs.toronto.edu/~kriz/cifar.html).
func openCIFAR(dir string, format Format, o Options) (*Set, error) {
	names, field := cifar10Names, "labels"
	if format == CIFAR100 {
		var err error
		if names, err = cifar100Names(o); err != nil {
			return nil, err
		}
		field = "fine_labels"
		if o.Attribute == coarse {
			field = "coarse_labels"
		}
	}
	files, python, err := cifarFiles(dir, format, o.Split)
	if err != nil {
		return nil, err
	}
	a := &array{height: cifarSide, width: cifarSide, channels: 3}
	for _, path := range files {
		data, err := o.readPublished(path, format, maxPublished)
		if err != nil {
			return nil, err
		}
		var bad *Error
		if python {
			bad = a.addPickle(data, field)
		} else {
			bad = a.addRecords(data, format, o.Attribute == coarse)
		}
		if bad != nil {
			bad.Path = path
			return nil, bad
		}
	}
	return a.set(dir, names, o)
}

// addRecords adds the images of a file of the binary version: for each a byte
// of label (CIFAR-100: group, then class) and the planes of three colours.
func (a *array) addRecords(data []byte, format Format, groups bool) *Error {
	labels, at := 1, 0
	if format == CIFAR100 {
		labels = 2
		if !groups {
			at = 1
		}
	}
	record := labels + cifarImage
	if len(data) == 0 || len(data)%record != 0 {
		return invalid("", "the file was cut or is of another kind", "%d bytes, want a multiple of %d", len(data), record)
	}
	a.pixels = slices.Grow(a.pixels, len(data)/record*cifarImage)
	for ; len(data) > 0; data = data[record:] {
		a.labels = append(a.labels, int(data[at]))
		a.pixels = interleave(a.pixels, data[labels:record], 3)
	}
	return nil
}

// addPickle adds the images of a file of the Python version: a dictionary with
// data, [n, 3072] bytes of planes, and a list of labels.
func (a *array) addPickle(data []byte, field string) *Error {
	batch, err := unpickleBatch(data)
	if err != nil {
		return &Error{Problem: "not a batch of CIFAR's Python version", Err: err, Next: "the file is damaged or of another kind"}
	}
	labels, ok := batch.lists[field]
	if !ok {
		return invalid("", "the file is of another data set", "the batch has no list %q", field)
	}
	if len(labels)*cifarImage != len(batch.data) {
		return invalid("", "the file is damaged", "%d labels and %d bytes of images, want %d bytes for each", len(labels), len(batch.data), cifarImage)
	}
	a.labels = append(a.labels, labels...)
	a.pixels = slices.Grow(a.pixels, len(batch.data))
	for i := range labels {
		a.pixels = interleave(a.pixels, batch.data[i*cifarImage:(i+1)*cifarImage], 3)
	}
	return nil
}
