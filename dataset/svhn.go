package dataset

import (
	"fmt"
	"path/filepath"
)

// extra is the attribute that adds SVHN's easier digits to the training split.
const extra = "extra"

// openSVHN reads the cropped digits of Street View House Numbers (Netzer et al.
// 2011): X, [32, 32, 3, n] bytes, and y, [n, 1], where 10 stands for the digit 0.
func openSVHN(path string, o Options) (*Set, error) {
	files := []string{path}
	if !isFile(path) {
		name := "train_32x32.mat"
		if o.Split == Test {
			name = "test_32x32.mat"
		}
		files[0] = filepath.Join(path, name)
		switch {
		case o.Attribute == extra && o.Split != Test:
			files = append(files, filepath.Join(path, "extra_32x32.mat"))
		case o.Attribute != "":
			return nil, fmt.Errorf("attribute is %q, want %q with the training split of SVHN, or none: %w", o.Attribute, extra, ErrInvalid)
		}
	}
	a := &array{height: cifarSide, width: cifarSide, channels: 3}
	for _, file := range files {
		data, err := o.readPublished(file, SVHN, 4*maxPublished)
		if err != nil {
			return nil, err
		}
		if bad := a.addSVHN(data); bad != nil {
			bad.Path = file
			return nil, bad
		}
	}
	return a.set(path, digitNames, o)
}

// addSVHN adds the images of one file.
func (a *array) addSVHN(data []byte) *Error {
	var images, labels *matArray
	err := readMat(data, func(m matArray) error {
		switch m.name {
		case "X":
			images = &m
		case "y":
			labels = &m
		}
		return nil
	})
	if err != nil {
		return &Error{Problem: "cannot read the arrays", Err: err, Next: "the file is damaged or of another kind"}
	}
	if images == nil || labels == nil || len(images.shape) != 4 || images.shape[0] != cifarSide || images.shape[1] != cifarSide || images.shape[2] != 3 {
		return invalid("", "give the cropped digits (format 2), such as train_32x32.mat", "the file has no X of 32x32x3xn bytes, or no y")
	}
	n := images.shape[3]
	if len(labels.bytes) != n {
		return invalid("", "the file is damaged", "%d labels for %d images, want as many", len(labels.bytes), n)
	}
	for i, l := range labels.bytes {
		if l == 10 {
			l = 0
		}
		a.labels = append(a.labels, int(l))
		columns := images.bytes[i*cifarImage : (i+1)*cifarImage] // Column by column, colour by colour.
		for y := range cifarSide {
			for x := range cifarSide {
				for c := range 3 {
					a.pixels = append(a.pixels, columns[(c*cifarSide+x)*cifarSide+y])
				}
			}
		}
	}
	return nil
}
