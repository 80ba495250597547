package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ClassNames is [ClassNamesOf] for a path of any format.
func ClassNames(path string) ([]string, error) { return ClassNamesOf(path, Options{}) }

// folderNames returns the names of the class folders in dir, in the order that
// OpenFolder gives labels.
func folderNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, openError(dir, err)
	}
	var names []string
	for _, e := range entries {
		if passedOver(e.Name()) {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && info.IsDir() {
			names = append(names, e.Name())
		}
	}
	if names == nil {
		return nil, invalid(dir, "put the images of each class in a folder of its own", "holds neither class folders nor IDX files")
	}
	slices.SortFunc(names, compareNames)
	return names, nil
}

// maxClassName is what file systems take, in bytes.
const maxClassName = 200

// CheckClassName says whether a class of that name can be written as a folder,
// on any system.
func CheckClassName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a class has no name, want one: %w", ErrInvalid)
	case strings.HasPrefix(name, "."):
		return fmt.Errorf("class %q starts with a dot, as hidden folders do; choose another name: %w", name, ErrInvalid)
	case strings.ContainsAny(name, `/\`):
		return fmt.Errorf("class %q has a slash in it and cannot name a folder; choose another name: %w", name, ErrInvalid)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("class %q has characters that do not print; choose another name: %w", name, ErrInvalid)
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("class %q starts or ends with a blank; choose another name: %w", name, ErrInvalid)
	case len(name) > maxClassName:
		return fmt.Errorf("class %q… has %d bytes, want at most %d: %w", name[:20], len(name), maxClassName, ErrInvalid)
	case passedOver(name):
		return fmt.Errorf("class %q has the name of a file that systems leave in folders; choose another name: %w", name, ErrInvalid)
	}
	return nil
}

// passedOver says whether a file or folder of that name is not part of a data
// set: hidden ones, and those that Windows leaves in folders of pictures.
func passedOver(name string) bool {
	return strings.HasPrefix(name, ".") || strings.EqualFold(name, "thumbs.db") || strings.EqualFold(name, "desktop.ini")
}
