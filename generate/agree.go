package generate

import (
	"fmt"
	"slices"

	"github.com/scumble-dp/scumble/dataset"
)

// Agreement says what became of images that a classifier judged.
type Agreement struct {
	Drawn    int `json:"drawn"`              // Images, with those that were thrown away.
	Disputed int `json:"disputed"`           // Images kept although the classifier takes them for another class.
	Labelled int `json:"labelled,omitempty"` // Images kept under another class than they were drawn for, the classifier's.
}

// Agreeing draws one image per label which a classifier takes for that label: others are
// thrown away and drawn again, at most rounds times in all. Where the last round gave
// no such image either, its image is kept, so that every class has as many as was
// asked for.
//
//   - draw returns an image for each label. It must give others in another round.
//   - classify returns the labels that the classifier gives to images.
func Agreeing(labels []int, rounds int, draw func(labels []int, round int) (*dataset.Set, error), classify func(*dataset.Set) ([]int, error)) (*dataset.Set, Agreement, error) {
	var out *dataset.Set
	var a Agreement
	missing := make([]int, len(labels)) // Places in labels.
	for i := range missing {
		missing[i] = i
	}
	for round := range rounds {
		set, said, err := judged(labels, missing, round, draw, classify)
		if err != nil {
			return nil, a, err
		}
		a.Drawn += len(missing)
		if out == nil {
			out = empty(set, labels)
		}
		var still []int
		for k, i := range missing {
			copy(out.Image(i), set.Image(k)) // The last one is kept, if none was agreed on.
			if said[k] != labels[i] {
				still = append(still, i)
			}
		}
		if missing = still; len(missing) == 0 {
			break
		}
	}
	a.Disputed = len(missing)
	return out, a, nil
}

// judged draws an image for each of the missing places and asks the classifier what they are.
func judged(labels, missing []int, round int, draw func(labels []int, round int) (*dataset.Set, error), classify func(*dataset.Set) ([]int, error)) (*dataset.Set, []int, error) {
	wanted := make([]int, len(missing))
	for k, i := range missing {
		wanted[k] = labels[i]
	}
	set, err := draw(wanted, round)
	if err != nil {
		return nil, nil, err
	}
	if set.Len() != len(wanted) || !slices.Equal(set.Labels, wanted) {
		return nil, nil, fmt.Errorf("%d images were drawn for %d labels, or for others", set.Len(), len(wanted))
	}
	said, err := classify(set)
	if err != nil {
		return nil, nil, err
	}
	if len(said) != set.Len() {
		return nil, nil, fmt.Errorf("%d labels for %d images", len(said), set.Len())
	}
	return set, said, nil
}

// empty returns a set like another, with room for one image per label.
func empty(like *dataset.Set, labels []int) *dataset.Set {
	out := *like
	out.Pixels, out.Labels = make([]byte, len(labels)*like.ImageSize()), slices.Clone(labels)
	return &out
}
