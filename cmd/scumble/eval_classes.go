package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/scumble-dp/scumble/dataset"
)

// labelOrder returns the class names of synthetic images in the order of the
// labels: those of --classes, or of the run that made them. Nil means as the folders
// sort.
func (e *evaluating) labelOrder() []string {
	if e.classes != nil {
		return e.classes
	}
	if e.runDir != "" {
		if r, err := loadResults(e.runDir); err == nil && r.Plan != nil && !r.Plan.Text {
			return r.Plan.Classes
		}
	}
	return nil
}

// checkOrder refuses a reference whose labels are numbers where nothing says which
// number is which class folder: sorted names are a guess, and a wrong one gives a
// wrong accuracy without a word.
func (e *evaluating) checkOrder(path string, train *dataset.Set) error {
	if e.labelOrder() != nil || train.Labels == nil {
		return nil
	}
	for place, want := range map[string]bool{path: true, e.reference: false} { // Folders against numbers only.
		format, _, err := dataset.Detect(place)
		if err != nil || (format == dataset.FolderFormat) != want {
			return nil //nolint:nilerr // Opening says what is wrong.
		}
	}
	numbers := make([]string, len(train.Classes))
	for i := range numbers {
		numbers[i] = strconv.Itoa(i)
	}
	published, err := dataset.ClassNamesOf(e.reference, dataset.Options{})
	if slices.Equal(train.Classes, numbers) || err == nil && slices.Equal(train.Classes, published) {
		return nil
	}
	return misuse(withHint(fmt.Errorf("the reference has labels in numbers, and nothing says which of the folders %s is which number", strings.Join(train.Classes, ", ")),
		"name them in the order of the labels: --classes NAMES"))
}
