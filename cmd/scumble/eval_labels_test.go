package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/dataset"
)

func TestLabelRules(t *testing.T) {
	r, err := parseLabelRules([]string{"7=seven", "7=A Sept", "cat=black cat", "21=twenty-one"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(r.classes, " ") != "7 cat 21" {
		t.Errorf("classes are %q", r.classes)
	}
	for text, want := range map[string]int{"a bold SEVEN, tilted left": 0, "seventy": -1, "a sept": 0, "a black cat.": 1, "cat, black": -1, "black-cat": 1,
		"twenty one": 2, "": -1, "seven seven": 0} {
		if got, many := r.label(text); got != want || many {
			t.Errorf("%q is of class %d (%v), want %d", text, got, many, want)
		}
	}
	if _, many := r.label("a seven beside a black cat"); !many {
		t.Error("two classes in one caption go unseen")
	}
	for _, bad := range [][]string{{"seven"}, {"=seven", "a=b"}, {"7=", "a=b"}, {"7= - ", "a=b"}, {"7=seven"}} {
		if _, err := parseLabelRules(bad); exitCode(err) != exitMisuse {
			t.Errorf("%q: error is %v", bad, err)
		}
	}
}

// Captions of private images are in no error; prompts are public.
func TestLabelRulesKeepCaptions(t *testing.T) {
	r, err := parseLabelRules([]string{"1=one", "2=two"})
	if err != nil {
		t.Fatal(err)
	}
	for _, public := range []bool{true, false} {
		set := &dataset.Set{Height: 1, Width: 1, Channels: 1, Pixels: []byte{1, 2}, Captions: []string{"a one", "quetzalcoatl"}}
		err := r.apply(set, "folder", public)
		var bad *dataset.Error
		if !errors.As(err, &bad) || bad.Path != "folder" || strings.Contains(err.Error(), "quetzalcoatl") != public {
			t.Errorf("public %v: error is %v", public, err)
		}
	}
}
