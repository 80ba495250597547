package accountant

import (
	"math"
	"testing"
)

// hockeyStick is δ(ε) of one step in closed form: the loss is monotone, so the
// worst event is x > cut(ε).
func hockeyStick(p pair, epsilon float64) float64 {
	e := p.at(p.cut(epsilon))
	return max(0, e.pHi-math.Exp(epsilon)*e.qHi)
}

// twoSteps is δ(ε) of two steps by integration over the first one:
// ∫ P(dx) δ₂(ε - L(x)), here as a Riemann sum over tiny cells of x.
func twoSteps(first, second pair, epsilon float64) float64 {
	const cells = 30000
	lo, hi := -14.0*noiseOf(first), 14*noiseOf(first)+1
	sum := 0.0
	left := first.at(lo)
	for i := 1; i <= cells; i++ {
		x := lo + (hi-lo)*float64(i)/cells
		right := first.at(x)
		p, _, _, _ := between(left, right)
		mid := x - (hi-lo)/(2*cells)
		sum += p * hockeyStick(second, epsilon-first.loss(mid))
		left = right
	}
	return sum
}

func noiseOf(p pair) float64 {
	if m, ok := p.(*mixture); ok {
		return m.s
	}
	return 3
}

func bothDirections(t *testing.T, n Neighboring, events ...Event) []direction {
	t.Helper()
	d, err := directions(events, n)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestOneStepIsExact compares delta of single steps with the closed form.
func TestOneStepIsExact(t *testing.T) {
	cases := []struct {
		n Neighboring
		e Event
	}{
		{AddOrRemove, DPSGD(1, 0.01, 1)},
		{AddOrRemove, DPSGD(0.5, 0.3, 1)},
		{AddOrRemove, DPSGD(8, 0.001, 1)},
		{ReplaceOne, DPSGD(1, 0.1, 1)},
		{ReplaceOne, DPSGD(4, 0.5, 1)},
		{AddOrRemove, Event{Mechanism: Laplace, NoiseMultiplier: 2, SamplingProbability: 1, Count: 1}},
		{ReplaceOne, Event{Mechanism: Laplace, NoiseMultiplier: 3, SamplingProbability: 1, Count: 1}},
		{AddOrRemove, Event{Mechanism: PoissonLaplace, NoiseMultiplier: 1, SamplingProbability: 0.2, Count: 1}},
		{ReplaceOne, Event{Mechanism: PoissonLaplace, NoiseMultiplier: 1, SamplingProbability: 0.2, Count: 1}},
		{AddOrRemove, Event{Mechanism: DiscreteGaussian, NoiseMultiplier: 3, SamplingProbability: 1, Count: 1}},
		{AddOrRemove, Event{Mechanism: PoissonGaussian, NoiseMultiplier: 2, SamplingProbability: 0.1, Count: 1, ExamplesPerUnit: 4}},
		{ZeroOut, Event{Mechanism: TruncatedPoissonGaussian, NoiseMultiplier: 2, SamplingProbability: 0.1, Count: 1, BatchLimit: 12, DatasetSize: 100}},
	}
	for _, c := range cases {
		for _, epsilon := range []float64{0, 0.1, 0.9} {
			exact := 0.0
			for _, d := range bothDirections(t, c.n, c.e) {
				exact = max(exact, hockeyStick(d.phases[0].pair, epsilon))
			}
			r, err := PLD{}.Delta([]Event{c.e}, c.n, epsilon)
			if err != nil {
				t.Fatal(err)
			}
			// The mesh adds at most 1e-4 relative where delta is not negligible.
			if r.Delta < exact*(1-1e-12) || r.Delta > exact*(1+2e-3)+1e-13 || r.Lower > exact*(1+1e-12) {
				t.Errorf("%s %+v at epsilon %g: delta %.9g, lower %.9g, exact %.9g", c.n, c.e, epsilon, r.Delta, r.Lower, exact)
			}
		}
	}
}

// TestTwoStepsByIntegration compares compositions of two with numerical
// integration, whose error with 30000 cells is below 1e-6 relative.
func TestTwoStepsByIntegration(t *testing.T) {
	laplaceOnce := Event{Mechanism: Laplace, NoiseMultiplier: 3, SamplingProbability: 1, Count: 1}
	cases := []struct {
		n      Neighboring
		events [2]Event
	}{
		{AddOrRemove, [2]Event{DPSGD(1, 0.01, 1), DPSGD(1.0000001, 0.01, 1)}},
		{AddOrRemove, [2]Event{DPSGD(0.7, 0.1, 1), DPSGD(2, 0.3, 1)}},
		{AddOrRemove, [2]Event{DPSGD(1.5, 0.2, 1), laplaceOnce}},
		{ReplaceOne, [2]Event{DPSGD(2, 0.1, 1), DPSGD(1, 0.02, 1)}},
	}
	for _, c := range cases {
		for _, epsilon := range []float64{0.1, 0.5, 2} {
			exact := 0.0
			for _, d := range bothDirections(t, c.n, c.events[:]...) {
				exact = max(exact, twoSteps(d.phases[0].pair, d.phases[1].pair, epsilon))
			}
			r, err := PLD{}.Delta(c.events[:], c.n, epsilon)
			if err != nil {
				t.Fatal(err)
			}
			if r.Delta < exact*(1-1e-6) || r.Delta > exact*(1+2e-3) || r.Lower > exact*(1+1e-6) {
				t.Errorf("%+v at epsilon %g: delta %.9g, lower %.9g, integral %.9g", c.events, epsilon, r.Delta, r.Lower, exact)
			}
		}
	}
}

// TestLaplaceClosedForm: ε = 1/b + 2 ln(1 - δ).
func TestLaplaceClosedForm(t *testing.T) {
	for _, b := range []float64{0.5, 1, 2, 10} {
		for _, delta := range []float64{1e-2, 1e-5, 1e-9} {
			e := Event{Mechanism: Laplace, NoiseMultiplier: b, SamplingProbability: 1, Count: 1}
			r, err := PLD{}.Epsilon([]Event{e}, AddOrRemove, delta)
			if err != nil {
				t.Fatal(err)
			}
			exact := max(0, 1/b+2*math.Log1p(-delta))
			if r.Epsilon < exact || r.Epsilon > exact*(1+1e-4)+1e-9 || r.Lower > exact+1e-15 {
				t.Errorf("b %g, delta %g: epsilon %.12g, lower %.12g, exact %.12g", b, delta, r.Epsilon, r.Lower, exact)
			}
		}
	}
}

// TestFinerMeshLowersEpsilon: the discretisation only adds, and less when finer.
func TestFinerMeshLowersEpsilon(t *testing.T) {
	events := []Event{DPSGD(1.1, 0.02, 500)}
	before := math.Inf(1)
	lower := 0.0
	for _, mesh := range []float64{8e-3, 4e-3, 2e-3, 1e-3, 5e-4} {
		r, err := PLD{Mesh: mesh}.Epsilon(events, AddOrRemove, 1e-6)
		if err != nil {
			t.Fatal(err)
		}
		if r.Epsilon > before || r.Lower < lower*(1-1e-3) {
			t.Errorf("mesh %g: [%.9g, %.9g] after [%.9g, %.9g] on a coarser one", mesh, r.Lower, r.Epsilon, lower, before)
		}
		before, lower = r.Epsilon, r.Lower
	}
	if before-lower > 2e-3*before {
		t.Errorf("interval [%.9g, %.9g] is wide", lower, before)
	}
}

// TestMomentsByQuadrature compares moment with a plain sum on a fine grid.
func TestMomentsByQuadrature(t *testing.T) {
	pairs := map[string]pair{
		"remove":  newMixture(0.8, binomialShift(1, 0.03), certain(0)),
		"add":     newMixture(0.8, certain(0), binomialShift(1, 0.03)),
		"replace": newMixture(1.3, binomialShift(1, 0.1), binomialShift(1, 0.1)),
		"user":    newMixture(2, binomialShift(5, 0.1), certain(0)),
		"laplace": &laplace{scale: 2, up: 0.3},
		"lap":     &laplace{scale: 2, up: 0.3, down: 0.3},
	}
	for name, p := range pairs {
		for _, lambda := range []float64{0.1, 1, 3.7, 20} {
			const cells = 100000
			lo, hi := -60.0, 60+lambda
			sum := 0.0
			left := p.at(lo)
			sum += left.pLo * math.Exp(lambda*p.loss(lo))
			for i := 1; i <= cells; i++ {
				x := lo + (hi-lo)*float64(i)/cells
				right := p.at(x)
				m, _, _, _ := between(left, right)
				sum += m * math.Exp(lambda*p.loss(x-(hi-lo)/(2*cells)))
				left = right
			}
			got, want := p.moment(lambda), math.Log(sum)
			if math.Abs(got-want) > 1e-5*math.Abs(want)+1e-8 {
				t.Errorf("%s: moment(%g) = %.12g, quadrature gives %.12g", name, lambda, got, want)
			}
		}
	}
}
