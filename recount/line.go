package recount

import (
	"fmt"
	"math"

	"github.com/scumble-dp/scumble/accountant"
)

// pair is a pair (P, Q) of mixtures of Gaussians of standard deviation sigma on
// a line, as densities relative to N(0, sigma²): P is exp(numerator(x)), Q is
// exp(denominator(x)). The loss is their difference.
type pair struct {
	sigma                  float64
	count                  float64
	numerator, denominator func(x float64) float64
	slope                  float64 // The loss changes by at most slope per unit of x.
}

// direction is a composition seen from one side.
type direction struct {
	name            string // "remove", "add" or "replace".
	pairs           []pair
	c, start, bound float64 // Of the saddle point.
}

// directions returns the sides of a composition, each of which bounds the
// divergence of neighbours in one order.
func directions(events []accountant.Event, n accountant.Neighboring) ([]direction, error) {
	var remove, add, replace direction
	remove.name, add.name, replace.name = "remove", "add", "replace"
	for i, e := range events {
		if err := e.Validate(); err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		switch {
		case e.Mechanism != accountant.PoissonGaussian && e.Mechanism != accountant.Gaussian:
			return nil, fmt.Errorf("event %d is %s, want %s or %s: %w", i, e.Mechanism, accountant.PoissonGaussian, accountant.Gaussian, ErrUnknown)
		case e.ExamplesPerUnit > 1:
			return nil, fmt.Errorf("event %d has %d examples per unit, want 1: %w", i, e.ExamplesPerUnit, ErrUnknown)
		}
		// With a unit that has 1 at its place and is there with probability q,
		// P = (1-q) N(0) + q N(1) relative to N(0) is 1 - q + q exp((2x-1)/(2σ²)).
		variance := e.NoiseMultiplier * e.NoiseMultiplier
		with := func(x float64) float64 { return lnMix(e.SamplingProbability, (2*x-1)/(2*variance)) }
		against := func(x float64) float64 { return with(-x) } // A unit at -1.
		without := func(float64) float64 { return 0 }
		p := pair{sigma: e.NoiseMultiplier, count: float64(e.Count), slope: 1 / variance}
		p.numerator, p.denominator = with, without
		remove.pairs = append(remove.pairs, p)
		p.numerator, p.denominator = without, with
		add.pairs = append(add.pairs, p)
		p.numerator, p.denominator, p.slope = with, against, 2/variance
		replace.pairs = append(replace.pairs, p)
	}
	switch n {
	case accountant.AddOrRemove:
		return []direction{remove, add}, nil
	case accountant.ReplaceOne:
		return []direction{replace}, nil // Its mirror is itself.
	}
	return nil, fmt.Errorf("neighboring relation is %s, want %s or %s: %w", n, accountant.AddOrRemove, accountant.ReplaceOne, ErrUnknown)
}

// lnMix returns ln(1 - q + q e^t).
func lnMix(q, t float64) float64 {
	if q == 1 {
		return t
	}
	if t > 30 {
		return t + math.Log(q) + math.Log1p((1-q)/q*math.Exp(-t))
	}
	return math.Log1p(q * math.Expm1(t))
}

// tilted is the loss of one step under P weighted by exp(c·loss), on points of
// the line: weight sums to 1.
type tilted struct {
	loss, weight []float64
	count        float64
	lnMean       float64 // ln E_P[exp(c L)], of one step.
}

// width is how many standard deviations of a Gaussian are kept: exp(-width²/2) is
// 1e-38.
const width = 13

// tilt sums over the line with n times as many points as real c needs.
//
// The trapezoidal rule errs by the Fourier transform of the summand at
// 2π/step. Weights are near Gaussian of width sigma, and have branch points
// π sigma² from the line.
func (p *pair) tilt(c float64, n int) tilted {
	step := min(p.sigma/6, p.sigma*p.sigma/2) / float64(n)
	low, high := -width*p.sigma-c-1, width*p.sigma+c+2
	points := int((high-low)/step) + 1
	t := tilted{count: p.count, loss: make([]float64, points), weight: make([]float64, points)}
	largest := math.Inf(-1)
	for i := range points {
		x := low + float64(i)*step
		top, bottom := p.numerator(x), p.denominator(x)
		t.loss[i] = top - bottom
		t.weight[i] = -x*x/(2*p.sigma*p.sigma) + top + c*(top-bottom)
		largest = max(largest, t.weight[i])
	}
	sum := 0.0
	for i, w := range t.weight {
		t.weight[i] = math.Exp(w - largest)
		sum += t.weight[i]
	}
	t.lnMean = largest + math.Log(sum*step/(p.sigma*math.Sqrt(2*math.Pi)))
	kept := 0
	for i, w := range t.weight {
		if w > 1e-22 { // What is left out is below 1e-16 of the sum.
			t.loss[kept], t.weight[kept] = t.loss[i], w/sum
			kept++
		}
	}
	t.loss, t.weight = t.loss[:kept], t.weight[:kept]
	return t
}

// lnMoment returns K(c) for real c.
func (d *direction) lnMoment(c float64) float64 {
	total := 0.0
	for i := range d.pairs {
		total += d.pairs[i].count * d.pairs[i].tilt(c, 1).lnMean
	}
	return total
}
