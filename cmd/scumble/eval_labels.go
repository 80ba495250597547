package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/scumble-dp/scumble/dataset"
)

// noLabels says why a text run has no accuracy.
const noLabels = "the images have prompts, not classes, so there is no accuracy; --label-of CLASS=WORDS says which prompts show which class"

// labelRules say which class a caption shows: rules[i] in words, one class each.
// They come from the command line and are public.
type labelRules struct {
	classes []string   // In the order that they are named first.
	of      []int      // Class of each rule.
	words   [][]string // Of each rule, in lower case.
}

// parseLabelRules reads CLASS=WORDS, any number of them for a class.
func parseLabelRules(list []string) (*labelRules, error) {
	if len(list) == 0 {
		return nil, nil
	}
	r := &labelRules{}
	for _, rule := range list {
		class, text, ok := strings.Cut(rule, "=")
		class = strings.TrimSpace(class)
		words := wordsOf(text)
		if !ok || class == "" || len(words) == 0 {
			return nil, misuse(fmt.Errorf("--label-of is %q, want CLASS=WORDS, such as 7=seven", rule))
		}
		label := slices.Index(r.classes, class)
		if label < 0 {
			label = len(r.classes)
			r.classes = append(r.classes, class)
		}
		r.of, r.words = append(r.of, label), append(r.words, words)
	}
	if n := len(r.classes); n < dataset.MinClasses || n > dataset.MaxClasses {
		return nil, misuse(fmt.Errorf("--label-of names %d classes, want %d to %d", n, dataset.MinClasses, dataset.MaxClasses))
	}
	return r, nil
}

// wordsOf cuts a text into words in lower case.
func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsNumber(c) && !unicode.IsMark(c) })
}

// label returns the class of a text: the one whose words stand in it, side by
// side and in order. many says that those of two classes do; -1 is for none.
func (r *labelRules) label(text string) (label int, many bool) {
	label = -1
	words := wordsOf(text)
	for i, want := range r.words {
		for at := 0; at+len(want) <= len(words); at++ {
			if !slices.Equal(words[at:at+len(want)], want) {
				continue
			}
			if label >= 0 && label != r.of[i] {
				return -1, true
			}
			label = r.of[i]
		}
	}
	return label, false
}

// apply gives a set with captions the classes of its captions. Errors name a
// caption only where captions are public.
func (r *labelRules) apply(set *dataset.Set, path string, public bool) error {
	labels := make([]int, set.Len())
	for i, text := range set.Captions {
		label, many := r.label(text)
		if label < 0 {
			what := fmt.Sprintf("the caption of image %d", i+1)
			if public {
				what = fmt.Sprintf("prompt %q", text)
			}
			problem := what + " has the words of no class"
			if many {
				problem = what + " has the words of two classes"
			}
			return &dataset.Error{Path: path, Problem: problem + " of --label-of", Next: "name words that stand in the captions of one class each"}
		}
		labels[i] = label
	}
	set.Labels, set.Classes = labels, r.classes
	return nil
}

// match gives reference images with captions their classes, where they can be had,
// and says whether they are those of the synthetic ones.
func (e *evaluating) match(train, test *dataset.Set, reference string) (bool, error) {
	if test.Captions != nil && test.Labels == nil && e.rules != nil {
		if err := e.rules.apply(test, reference, e.public); err != nil {
			return false, err
		}
	}
	if train.Labels == nil || test.Labels == nil {
		return false, nil
	}
	if !slices.Equal(train.Classes, test.Classes) {
		return false, &dataset.Error{Path: reference, Problem: fmt.Sprintf("the reference has the classes %s, the synthetic images %s",
			strings.Join(test.Classes, ", "), strings.Join(train.Classes, ", ")), Next: "name the same classes, in the same order, by --label-of"}
	}
	return true, nil
}

// unlabelled decides what happens without classes: what was asked for by name is
// an error.
func (e *evaluating) unlabelled(test *dataset.Set) error {
	hint := noLabels
	if test.Captions == nil && test.Labels == nil {
		hint = "the reference images have no labels, so there is no accuracy"
	}
	if e.chosen || e.protocol != "" {
		return misuse(withHint(errors.New(hint), "--classifiers none leaves it away"))
	}
	e.classifiers, e.note = nil, hint
	return nil
}
