package accountant

import (
	"fmt"
	"math"
)

// A pair (P, Q) of distributions on a line dominates a mechanism when, for
// every epsilon, the mechanism's hockey-stick divergence between neighbours is
// at most that of P from Q (Zhu, Dong, Wang 2022, Def. 7,
// https://arxiv.org/abs/2106.08567). Pairs compose: the product of dominating
// pairs dominates the composition (Thm. 10).
//
// Each pair is arranged so that its privacy loss L(x) = ln dP/dQ (x) never
// falls as x grows.
type pair interface {
	// loss returns L(x).
	loss(x float64) float64
	// cut returns the largest x with L(x) <= g; -Inf if there is none, +Inf if
	// every x has it.
	cut(g float64) float64
	// at returns the mass of P and Q on both sides of x.
	at(x float64) edge
	// support returns losses lo <= hi such that P puts at most exp(lnTail) on
	// losses above hi; P(L < lo) need only be small.
	support(lnTail float64) (lo, hi float64)
	// moment returns ln E_P[exp(lambda L)], that is lambda times the Rényi
	// divergence of order lambda+1 of P from Q.
	moment(lambda float64) float64
	// sketch returns a coarse picture of the loss under P, within support.
	sketch(lnTail float64) sketch
	// jitter bounds how far a cut between losses lo and hi lies, measured in
	// loss, from where exact arithmetic would put it.
	jitter(lo, hi float64) float64
}

// edge is the mass of P and Q at or below (Lo) and above (Hi) a point. Each
// value has relative error at most rel, whichever side is the small one.
type edge struct {
	pLo, pHi, qLo, qHi float64
	rel                float64
}

// ulp is the unit roundoff of float64.
const ulp = 0x1p-53

// between returns the mass of P and Q between two edges and bounds on the
// rounding of each. Differences are taken on the side where the mass is
// small, never as 1-x minus 1-y.
func between(a, b edge) (p, pErr, q, qErr float64) {
	rel := max(a.rel, b.rel)
	p, pErr = difference(a.pLo, a.pHi, b.pLo, b.pHi, rel)
	q, qErr = difference(a.qLo, a.qHi, b.qLo, b.qHi, rel)
	return p, pErr, q, qErr
}

func difference(aLo, aHi, bLo, bHi, rel float64) (mass, err float64) {
	switch {
	case bLo <= 0.5:
		mass, err = bLo-aLo, rel*bLo
	case aHi <= 0.5:
		mass, err = aHi-bHi, rel*aHi
	default:
		mass, err = 1-aLo-bHi, rel*(aLo+bHi)+2*ulp
	}
	return max(mass, 0), err
}

// phase is one pair composed count times with itself.
type phase struct {
	pair
	count int
}

// direction is the whole composition seen from one side of the neighbouring
// relation.
type direction struct {
	name   string // "remove", "add" or "replace"
	phases []phase
}

// directions turns events into the compositions whose worst member is the
// privacy of the events. It is the one place where clipping norm, units and
// neighbouring relation decide sensitivity:
//
//	add-or-remove, zero-out  one unit moves the sum by at most 1 clipping norm
//	                         per example it has; both directions are followed
//	replace-one              the sum moves from -1 to +1: twice as far
func directions(events []Event, n Neighboring) ([]direction, error) {
	if err := validateEvents(events, n); err != nil {
		return nil, err
	}
	events = mergeGaussians(Group(events))
	if n == ReplaceOne {
		d := direction{name: "replace"}
		for i, e := range events {
			p, err := replacePair(e)
			if err != nil {
				return nil, fmt.Errorf("event %d: %w", i, err)
			}
			d.phases = append(d.phases, phase{p, e.Count})
		}
		return []direction{d}, nil // Symmetric: P from Q is the mirror of Q from P.
	}
	remove, add := direction{name: "remove"}, direction{name: "add"}
	asymmetric := false
	for _, e := range events {
		r, a, symmetric := addRemovePairs(e)
		remove.phases = append(remove.phases, phase{r, e.Count})
		add.phases = append(add.phases, phase{a, e.Count})
		asymmetric = asymmetric || !symmetric
	}
	if !asymmetric {
		return []direction{remove}, nil
	}
	return []direction{remove, add}, nil
}

// mergeGaussians composes all unsampled Gaussian events into one. This is
// exact: k of them with noise multipliers m_i are one with 1/m² = Σ 1/m_i².
func mergeGaussians(events []Event) []Event {
	precision, terms := 0.0, 0
	var rest []Event
	for _, e := range events {
		if e.SamplingProbability == 1 && (e.Mechanism == Gaussian || e.Mechanism == PoissonGaussian) {
			k := float64(max(e.ExamplesPerUnit, 1))
			precision += float64(e.Count) * (k / e.NoiseMultiplier) * (k / e.NoiseMultiplier)
			terms++
			continue
		}
		rest = append(rest, e)
	}
	if terms == 0 {
		return rest
	}
	// Rounded towards less noise, which can only cost more.
	noise := 1 / math.Sqrt(precision) * (1 - float64(4+2*terms)*ulp)
	return append(rest, Event{Mechanism: Gaussian, NoiseMultiplier: noise, SamplingProbability: 1, Count: 1})
}

// addRemovePairs returns the dominating pairs of both directions. symmetric
// says that they are the same.
func addRemovePairs(e Event) (remove, add pair, symmetric bool) {
	q, s, k := e.SamplingProbability, e.NoiseMultiplier, max(e.ExamplesPerUnit, 1)
	switch e.Mechanism {
	case Gaussian:
		p := newMixture(s, certain(float64(k)), certain(0))
		return p, p, true
	case PoissonGaussian:
		up, none := binomialShift(k, q), certain(0)
		return newMixture(s, up, none), newMixture(s, none, up), q == 1
	case TruncatedPoissonGaussian:
		return truncatedPairs(e)
	case Laplace:
		p := &laplace{scale: s / float64(k), up: 1}
		return p, p, true
	case PoissonLaplace:
		return &laplace{scale: s, up: q}, &laplace{scale: s, down: q}, q == 1
	case DiscreteGaussian:
		p := newDiscrete(s, max(e.LatticeSensitivity, 1), 1)
		return p, p, true
	}
	panic("accountant: validated event has no pair: " + e.Mechanism.String())
}

// replacePair returns the dominating pair of replace-one: the two records lie
// at -1 and +1 clipping norm.
func replacePair(e Event) (pair, error) {
	q, s, k := e.SamplingProbability, e.NoiseMultiplier, max(e.ExamplesPerUnit, 1)
	switch e.Mechanism {
	case Gaussian:
		return newMixture(s, certain(float64(k)), certain(float64(k))), nil
	case PoissonGaussian:
		if k > 1 && q < 1 {
			return nil, fmt.Errorf("examples per unit is %d, want 1 for replace-one; use add-or-remove or sample by unit", k)
		}
		return newMixture(s, binomialShift(k, q), binomialShift(k, q)), nil
	case Laplace:
		return &laplace{scale: s / float64(k), up: 1, down: 1}, nil
	case PoissonLaplace:
		return &laplace{scale: s, up: q, down: q}, nil
	case DiscreteGaussian:
		return newDiscrete(s, max(e.LatticeSensitivity, 1), 2), nil
	}
	return nil, fmt.Errorf("mechanism %s has no replace-one guarantee; want add-or-remove or zero-out", e.Mechanism)
}
