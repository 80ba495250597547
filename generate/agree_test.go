package generate

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/dataset"
)

// The image of a place is the last one drawn for it: the first that the classifier
// agreed on, or that of the last round.
func TestAgreeing(t *testing.T) {
	labels := []int{0, 1, 0, 1, 1}
	agreed := []int{0, 2, 1, 9, 0} // Round from which the classifier agrees, by place.
	places := [][]int{{0, 1, 2, 3, 4}, {1, 2, 3}, {1, 3}}
	draw := func(wanted []int, round int) (*dataset.Set, error) {
		set := &dataset.Set{Height: 1, Width: 2, Channels: 1, Classes: []string{"a", "b"}, Labels: slices.Clone(wanted)}
		if len(wanted) != len(places[round]) {
			t.Fatalf("round %d draws %d images, want %d", round, len(wanted), len(places[round]))
		}
		for k, i := range places[round] {
			if wanted[k] != labels[i] {
				t.Errorf("round %d draws label %d at place %d, want %d", round, wanted[k], i, labels[i])
			}
			set.Pixels = append(set.Pixels, byte(i), byte(round))
		}
		return set, nil
	}
	classify := func(set *dataset.Set) ([]int, error) {
		var said []int
		for k := range set.Len() {
			i, round := int(set.Image(k)[0]), int(set.Image(k)[1])
			label := labels[i]
			if round < agreed[i] {
				label = 1 - label
			}
			said = append(said, label)
		}
		return said, nil
	}
	set, a, err := Agreeing(labels, 3, draw, classify)
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{0, 0, 1, 2, 2, 1, 3, 2, 4, 0}; !slices.Equal(set.Pixels, want) || !slices.Equal(set.Labels, labels) || len(set.Classes) != 2 {
		t.Errorf("images are %v %v, want %v %v", set.Pixels, set.Labels, want, labels)
	}
	if a != (Agreement{Drawn: 10, Disputed: 1}) {
		t.Errorf("agreement is %+v, want 10 drawn, 1 disputed", a)
	}
	wrong := func([]int, int) (*dataset.Set, error) {
		return &dataset.Set{Height: 1, Width: 1, Channels: 1, Labels: []int{0}, Pixels: []byte{0}}, nil
	}
	if _, _, err := Agreeing(labels, 3, wrong, classify); err == nil || !strings.Contains(err.Error(), "1 images were drawn for 5 labels") {
		t.Errorf("images for other labels: error is %v", err)
	}
}

// Whatever a classifier says, every class keeps an image, and an image that it does not change
// keeps its class.
func TestRelabelLeavesNoClassEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "images")
		labels := rapid.SliceOfN(rapid.IntRange(0, 3), n, n).Draw(t, "labels")
		said := rapid.SliceOfN(rapid.IntRange(0, 3), n, n).Draw(t, "said")
		set := &dataset.Set{Height: 1, Width: 1, Channels: 1, Pixels: make([]byte, n), Labels: labels, Classes: []string{"a", "b", "c", "d"}}
		got, a, err := Relabel(set, func(*dataset.Set) ([]int, error) { return said, nil })
		if err != nil {
			t.Fatal(err)
		}
		disputed, labelled := 0, 0
		for i, label := range got.Labels {
			switch {
			case label != said[i] && label != labels[i]:
				t.Fatalf("image %d has label %d, drawn for %d and taken for %d", i, label, labels[i], said[i])
			case label == said[i] && label != labels[i]:
				labelled++
			case label != said[i]:
				disputed++
			}
			if !slices.Contains(got.Labels, labels[i]) {
				t.Fatalf("labels are %v, drawn for %v: class %d is empty", got.Labels, labels, labels[i])
			}
		}
		if a != (Agreement{Drawn: n, Disputed: disputed, Labelled: labelled}) {
			t.Fatalf("agreement is %+v, want %d disputed and %d labelled", a, disputed, labelled)
		}
	})
}

// Every image is kept as it is, with the classifier's label.
func TestRelabel(t *testing.T) {
	set := &dataset.Set{Height: 1, Width: 1, Channels: 1, Pixels: []byte{1, 2, 3}, Labels: []int{0, 1, 1}, Classes: []string{"a", "b"}}
	got, a, err := Relabel(set, func(s *dataset.Set) ([]int, error) { return []int{0, 0, 1}, nil })
	if err != nil || a != (Agreement{Drawn: 3, Labelled: 1}) || !slices.Equal(got.Labels, []int{0, 0, 1}) || !slices.Equal(got.Pixels, set.Pixels) {
		t.Errorf("got %+v, %+v (%v)", got, a, err)
	}
	if !slices.Equal(set.Labels, []int{0, 1, 1}) {
		t.Errorf("labels of what was given are now %v", set.Labels)
	}
	got, a, err = Relabel(set, func(s *dataset.Set) ([]int, error) { return []int{1, 1, 1}, nil })
	if err != nil || a != (Agreement{Drawn: 3, Disputed: 1}) || !slices.Equal(got.Labels, []int{0, 1, 1}) {
		t.Errorf("a class that the classifier never names: %+v, %+v (%v), want its image under its label", got, a, err)
	}
	if _, _, err := Relabel(set, func(*dataset.Set) ([]int, error) { return []int{0}, nil }); err == nil {
		t.Error("one label for three images is taken")
	}
	broken := errors.New("broken")
	if _, _, err := Relabel(set, func(*dataset.Set) ([]int, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("error is %v, want the classifier's", err)
	}
}
