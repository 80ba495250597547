package generate

import (
	"slices"

	"github.com/scumble-dp/scumble/dataset"
)

// Relabel draws images and gives each the label that a classifier gives it, until there
// is one per label. Images that the model draws for one class and the classifier takes for another are
// kept, which a choice ([Agreeing]) would throw away: a student learns from them where the
// classes meet, as in distillation (Hinton et al. 2015, https://arxiv.org/abs/1503.02531). Of a
// class of which there are more than labels ask for, those that came last are left over; for the
// places of the others images are drawn again, at most rounds times in all, which is at least 1. Places that are
// empty then take what is left over, under the classifier's label, so
// that there are as many images as labels. Two rules keep that usable:
//
//   - A class that no image was taken for until the last round keeps those of that round that were drawn for it.
//   - An image that is taken for a class that labels do not have stays with the class it was drawn for, where
//     nothing else is left.
//
// Both are disputed. draw and classify are those of [Agreeing].
func Relabel(labels []int, rounds int, draw func(labels []int, round int) (*dataset.Set, error), classify func(*dataset.Set) ([]int, error)) (*dataset.Set, Agreement, error) {
	r := relabelling{labels: labels, free: map[int][]int{}, found: map[int]bool{}}
	missing := make([]int, len(labels))
	for i, label := range labels {
		missing[i] = i
		r.free[label] = append(r.free[label], i)
	}
	for round := 0; round < rounds && len(missing) > 0; round++ {
		set, said, err := judged(labels, missing, round, draw, classify)
		if err != nil {
			return nil, r.agreement, err
		}
		r.take(set, said, round == rounds-1)
		missing = missing[:0]
		for _, places := range r.free {
			missing = append(missing, places...)
		}
		slices.Sort(missing)
	}
	for _, i := range missing {
		r.fill(i)
	}
	return r.out, r.agreement, nil
}

// relabelling is what [Relabel] has so far.
type relabelling struct {
	labels    []int
	out       *dataset.Set
	free      map[int][]int // Places of each label without an image.
	found     map[int]bool  // Classes of which there is one.
	over      []spare       // Images of classes that are full.
	strange   []spare       // Images of classes that labels do not have.
	agreement Agreement
}

// spare is an image that has no place yet.
type spare struct {
	pixels      []byte
	drawn, said int
}

// take gives the images of a round their places.
func (r *relabelling) take(set *dataset.Set, said []int, last bool) {
	if r.out == nil {
		r.out = empty(set, r.labels)
	}
	r.agreement.Drawn += set.Len()
	keeps := map[int]bool{}
	if last {
		keeps = r.unnamed(set.Labels, said)
	}
	for k, drawn := range set.Labels {
		s := spare{set.Image(k), drawn, said[k]}
		places, wanted := r.free[s.said]
		switch {
		case keeps[drawn]:
			r.put(r.free[drawn][0], s, drawn)
			r.free[drawn] = r.free[drawn][1:]
		case !wanted:
			r.strange = keep(r.strange, s, len(r.labels))
		case len(places) == 0:
			r.over = keep(r.over, s, len(r.labels))
		default:
			r.put(places[0], s, s.said)
			r.free[s.said] = places[1:]
			r.found[s.said] = true
		}
	}
}

// unnamed returns the classes that keep the images drawn for them, since nothing else
// was taken for them. To leave a class its images may take the last one from another.
func (r *relabelling) unnamed(drawn, said []int) map[int]bool {
	keeps := map[int]bool{}
	for changed := true; changed; {
		changed = false
		named := map[int]bool{}
		for k, label := range said {
			named[label] = named[label] || !keeps[drawn[k]]
		}
		for _, label := range drawn {
			if !r.found[label] && !named[label] && !keeps[label] {
				keeps[label], changed = true, true
			}
		}
	}
	return keeps
}

// fill gives a place that no image was drawn for one that is left over: as many as
// there are labels were drawn in the first round, so there is one.
func (r *relabelling) fill(i int) {
	if len(r.over) > 0 {
		r.put(i, r.over[0], r.over[0].said)
		r.over = r.over[1:]
		return
	}
	r.put(i, r.strange[0], r.strange[0].drawn)
	r.strange = r.strange[1:]
}

// put makes an image that of a place, under a label.
func (r *relabelling) put(i int, s spare, label int) {
	copy(r.out.Image(i), s.pixels)
	r.out.Labels[i] = label
	switch {
	case label != s.said:
		r.agreement.Disputed++
	case label != s.drawn:
		r.agreement.Labelled++
	}
}

// keep appends a spare image, unless there are as many as can be needed.
func keep(spares []spare, s spare, most int) []spare {
	if len(spares) == most {
		return spares
	}
	s.pixels = slices.Clone(s.pixels) // Not the whole round.
	return append(spares, s)
}
