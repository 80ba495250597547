package generate

import (
	"fmt"
	"slices"

	"github.com/scumble-dp/scumble/dataset"
)

// Agreement says what became of images that a classifier judged.
type Agreement struct {
	Drawn    int `json:"drawn"`    // Images, with those that were thrown away.
	Disputed int `json:"disputed"` // Images kept although the classifier took them for another class until the last round.
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
		wanted := make([]int, len(missing))
		for k, i := range missing {
			wanted[k] = labels[i]
		}
		set, err := draw(wanted, round)
		if err != nil {
			return nil, a, err
		}
		if set.Len() != len(wanted) || !slices.Equal(set.Labels, wanted) {
			return nil, a, fmt.Errorf("%d images were drawn for %d labels, or for others", set.Len(), len(wanted))
		}
		said, err := classify(set)
		if err != nil {
			return nil, a, err
		}
		a.Drawn += len(wanted)
		if out == nil {
			whole := *set
			whole.Pixels, whole.Labels = make([]byte, len(labels)*set.ImageSize()), slices.Clone(labels)
			out = &whole
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
