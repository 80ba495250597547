package recount

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/scumble-dp/scumble/accountant"
)

// ErrUnsettled is what errors wrap where the sums would take too long: single
// steps, and noise so rare and so low that the loss is nearly discrete. It says
// nothing about a claim.
var ErrUnsettled = errors.New("second count of epsilon did not settle")

// ErrUnknown is what errors wrap for events and relations that the second count
// does not know.
var ErrUnknown = errors.New("second count of epsilon does not know it")

// Answer is an epsilon and how well it is known.
type Answer struct {
	Epsilon   float64 `json:"epsilon"`
	Error     float64 `json:"error"`     // Estimate of the absolute error of Epsilon.
	Direction string  `json:"direction"` // "remove", "add" or "replace": which decides.
	Points    int     `json:"points"`    // Of the contours.
}

// Epsilon returns the least epsilon at which the events are (epsilon,
// delta)-differentially private. Delta is in [1e-30, 0.5].
//
// It takes Gaussian noise on sums, with or without Poisson sampling, under
// add-or-remove and replace-one; anything else is an error.
func Epsilon(events []accountant.Event, n accountant.Neighboring, delta float64) (Answer, error) {
	if !(delta >= 1e-30 && delta <= 0.5) {
		return Answer{}, fmt.Errorf("delta is %g, want in [1e-30, 0.5]", delta)
	}
	if len(events) == 0 {
		return Answer{}, errors.New("there are no events, want what was done to private data")
	}
	all, err := directions(events, n)
	if err != nil {
		return Answer{}, err
	}
	for i := range all {
		all[i].c, all[i].start, all[i].bound = all[i].saddle(delta)
	}
	slices.SortFunc(all, func(a, b direction) int { return cmp.Compare(b.bound, a.bound) })
	worst := Answer{Epsilon: -1}
	points := 0
	for i := range all {
		if all[i].bound < worst.Epsilon {
			break // It cannot decide.
		}
		a, err := all[i].epsilon(delta)
		if err != nil {
			return Answer{}, fmt.Errorf("direction %s: %w", all[i].name, err)
		}
		points += a.Points
		if a.Epsilon > worst.Epsilon {
			worst = a
		}
	}
	worst.Points = points
	return worst, nil
}

// epsilon solves δ(ε) = delta.
func (d *direction) epsilon(delta float64) (Answer, error) {
	start := max(d.start, 0)
	k, err := d.contour(d.c, start, delta)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Direction: d.name, Points: len(k.value)}
	if v, _ := k.delta(0); v <= delta {
		return a, nil
	}
	low, high, err := k.bracket(start, delta)
	if err != nil {
		return Answer{}, err
	}
	for range 60 {
		middle := (low + high) / 2
		if v, _ := k.delta(middle); v > delta {
			low = middle
		} else {
			high = middle
		}
	}
	a.Epsilon = high
	// From the error of δ to that of ε, by the slope of δ.
	h := 1e-4 * (high + 1e-3)
	before, _ := k.delta(high)
	after, uncertain := k.delta(high + h)
	a.Error = uncertain / max((before-after)/h, 1e-300)
	return a, nil
}

// bracket widens an interval around start, which is near, until the divergence
// is above delta at its lower end and not at its upper one. It is above at 0.
func (k *contour) bracket(start, delta float64) (low, high float64, err error) {
	low, high = start, start
	for width := 0.01 * (start + 0.01); width < 100*(start+1); width *= 2 {
		if v, _ := k.delta(low); v <= delta {
			low = max(0, low-width)
		} else if v, _ := k.delta(high); v > delta {
			high += width
		} else {
			return low, high, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: no epsilon near %g has delta %g", ErrUnsettled, start, delta)
}
