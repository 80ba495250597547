package generate

import (
	"slices"
	"strings"
	"testing"

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
