package dataset

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// emnistFile is how EMNIST names its images.
var emnistFile = regexp.MustCompile(`^emnist-(byclass|bymerge|balanced|letters|digits|mnist)-(train|test)-images[-.]idx3-ubyte(\.gz)?$`)

// emnistImages is a file of images and the part it belongs to.
type emnistImages struct{ path, part string }

// emnistIn lists the files of images in a folder.
func emnistIn(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if emnistFile.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out
}

// findEMNIST returns the images of the part and split asked for.
func findEMNIST(path string, o Options) (*emnistImages, error) {
	if isFile(path) {
		m := emnistFile.FindStringSubmatch(filepath.Base(path))
		if m == nil {
			return nil, invalid(path, "keep the published name, which says how to read it", "not named as EMNIST's images, such as emnist-balanced-train-images-idx3-ubyte.gz")
		}
		return &emnistImages{path, m[1]}, nil
	}
	split := o.Split
	if split == "" {
		split = Train
	}
	found := map[string]string{}
	var parts []string
	for _, name := range emnistIn(path) {
		m := emnistFile.FindStringSubmatch(name)
		if m[2] != string(split) || o.Attribute != "" && m[1] != o.Attribute {
			continue
		}
		if found[m[1]] == "" {
			parts = append(parts, m[1])
			found[m[1]] = filepath.Join(path, name)
		}
	}
	switch {
	case len(parts) == 0 && o.Attribute != "":
		return nil, invalid(path, "put its images and labels there", "no images of EMNIST's part %s, split %s", o.Attribute, split)
	case len(parts) == 0:
		return nil, invalid(path, "put the images and labels there", "no images of EMNIST's split %s", split)
	case len(parts) > 1:
		return nil, invalid(path, "choose one as the attribute (data.attribute: "+parts[0]+")", "holds several parts of EMNIST: %s", strings.Join(parts, ", "))
	}
	return &emnistImages{found[parts[0]], parts[0]}, nil
}

// classes returns the characters in the order of the labels (Cohen et al. 2017,
// Fig. 1; its mapping files). Letters are capital where the two cases are one.
func (e *emnistImages) classes() []string {
	out := slices.Clone(digitNames)
	letter := func(first byte, which string) {
		for c := first; c < first+26; c++ {
			if which == "" || strings.IndexByte(which, c) >= 0 {
				out = append(out, string(c))
			}
		}
	}
	switch e.part {
	case "byclass":
		letter('A', "")
		letter('a', "")
	case "bymerge", "balanced":
		letter('A', "")
		letter('a', "abdefghnqrt")
	case "letters":
		out = nil
		letter('A', "")
	}
	return out
}

// openEMNIST reads a part of EMNIST. Its images are stored column by column, as
// MATLAB has them, and are turned; the labels of letters start at 1.
func openEMNIST(path string, o Options) (*Set, error) {
	e, err := findEMNIST(path, o)
	if err != nil {
		return nil, err
	}
	labelsPath := o.Labels
	if labelsPath == "" || !isFile(path) {
		if labelsPath, err = labelsBeside(e.path); err != nil {
			return nil, err
		}
	}
	shape, pixels, err := openIDX(e.path)
	if err != nil {
		return nil, err
	}
	labelShape, labels, err := openIDX(labelsPath)
	if err != nil {
		return nil, err
	}
	if len(shape) != 3 || len(labelShape) != 1 || shape[1] != shape[2] {
		return nil, invalid(e.path, "the files are of another kind", "IDX files of %d and %d dimensions, want 3, of square images, and 1", len(shape), len(labelShape))
	}
	a := &array{height: shape[1], width: shape[2], channels: 1, pixels: pixels, labels: make([]int, len(labels))}
	for i := range shape[0] {
		transpose(pixels[i*shape[1]*shape[2]:], shape[1])
	}
	for i, l := range labels {
		a.labels[i] = int(l)
		if e.part == "letters" {
			a.labels[i]--
		}
	}
	return a.set(e.path, e.classes(), o)
}

// transpose turns a square image of one channel over its diagonal.
func transpose(pixels []byte, size int) {
	for y := range size {
		for x := range y {
			pixels[y*size+x], pixels[x*size+y] = pixels[x*size+y], pixels[y*size+x]
		}
	}
}
