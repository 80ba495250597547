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
	Labelled int `json:"labelled,omitempty"` // Images that the classifier put into another class than they were drawn for.
}

// Relabel gives every image the label that a classifier gives it. Those that are told
// apart wrongly by the model that drew them are kept, which a choice would throw away: a
// student learns from them where the classes meet, as in distillation (Hinton et al. 2015,
// https://arxiv.org/abs/1503.02531). Where no image would be left of a class, those drawn
// for it keep their label, and are disputed.
func Relabel(set *dataset.Set, classify func(*dataset.Set) ([]int, error)) (*dataset.Set, Agreement, error) {
	said, err := classify(set)
	if err != nil {
		return nil, Agreement{}, err
	}
	if len(said) != set.Len() {
		return nil, Agreement{}, fmt.Errorf("%d labels for %d images", len(said), set.Len())
	}
	out := *set
	out.Labels = slices.Clone(said)
	// To take the images of one class back may take the last one from another.
	for changed := true; changed; {
		changed = false
		for i, drawn := range set.Labels {
			if !slices.Contains(out.Labels, drawn) {
				changed = true
				for k := i; k < len(said); k++ {
					if set.Labels[k] == drawn {
						out.Labels[k] = drawn
					}
				}
			}
		}
	}
	a := Agreement{Drawn: set.Len()}
	for i, drawn := range set.Labels {
		switch {
		case said[i] == drawn:
		case out.Labels[i] == drawn:
			a.Disputed++
		default:
			a.Labelled++
		}
	}
	return &out, a, nil
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
