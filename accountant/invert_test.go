package accountant

import (
	"math"
	"math/cmplx"
	"os"
	"testing"

	"pgregory.net/rapid"
)

// drawPair draws what spectrum must know: sampled, unsampled, by unit, cut
// batches, and replace-one.
func drawPair(t *rapid.T) pair {
	between := func(name string, lo, hi float64) float64 {
		return lo * math.Pow(hi/lo, rapid.Float64Range(0, 1).Draw(t, name))
	}
	s, q := between("noise", 0.4, 20), between("probability", 1e-4, 0.6)
	up, none := binomialShift(rapid.IntRange(1, 5).Draw(t, "examples per unit"), q), certain(0)
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		return newMixture(s, up, none)
	case 1:
		return newMixture(s, none, up)
	case 2:
		return newMixture(s, binomialShift(1, q), binomialShift(1, q))
	case 3:
		return newMixture(s, certain(1), none)
	}
	remove, _, _ := truncatedPairs(Event{Mechanism: TruncatedPoissonGaussian, NoiseMultiplier: s,
		SamplingProbability: q, Count: 1, BatchLimit: 1 + int(1.2*1000*q), DatasetSize: 1000})
	return remove
}

// TestSpectrumByQuadrature compares the transform with a sum over 60000 small
// cells of the line, each at the loss of its middle. A cell of width w has
// error (|z| L' w)²/24 and P's density there is smooth: 1e-6 in all. The error that
// spectrum states must be far smaller.
func TestSpectrumByQuadrature(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPair(t)
		m, ok := p.(*mixture)
		if !ok {
			return // A union adds up spectra of mixtures.
		}
		lambda := rapid.Float64Range(0.1, 12).Draw(t, "lambda")
		y := rapid.Float64Range(0, 20).Draw(t, "y")
		s, ok := m.spectrum(lambda, y)
		if !ok {
			t.Fatal("no spectrum of an ordinary mixture")
		}
		if e := s.errorAt(y); !(e < 1e-9) || !(s.lnErr < 1e-9) {
			t.Fatalf("errors are %g and %g, want below 1e-9", e, s.lnErr)
		}
		lo, hi := m.peaks(lambda)
		lo, hi = lo-9*m.s, hi+9*m.s
		const cells = 60000
		w := (hi - lo) / cells
		var sum complex128
		for i := range cells {
			x := lo + (float64(i)+0.5)*w
			ln := -x*x/(2*m.s*m.s) + m.ratio(x, m.up, m.logUp) - s.lnM
			sum += cmplx.Exp(complex(ln, 0)+complex(lambda, y)*complex(m.loss(x), 0)) * complex(w/(m.s*math.Sqrt(2*math.Pi)), 0)
		}
		got := 1 + s.transform(y, 2)[1]
		if d := cmplx.Abs(got - sum); !(d < 1e-8) {
			t.Fatalf("transform at %g+%gi is %v, quadrature gives %v", lambda, y, got, sum)
		}
	})
}

// TestEnvelopeIsABound: no |φ(y)| beyond a limit is above the envelope there.
func TestEnvelopeIsABound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPair(t).(smooth)
		lambda := rapid.Float64Range(0.1, 12).Draw(t, "lambda")
		s, ok := p.spectrum(lambda, 0)
		if !ok {
			t.Skip("drawn again: no inversion is offered there, PLD takes the grid")
		}
		limit := math.Pow(10, rapid.Float64Range(-1, 2).Draw(t, "log limit")) / math.Sqrt(s.variance)
		bound := p.envelope(lambda, s.lnM)(limit)
		if bound > 0 {
			t.Fatalf("envelope is %g, above 0", bound)
		}
		s, ok = p.spectrum(lambda, 4*limit)
		if !ok {
			t.Skip("drawn again: no inversion is offered there, PLD takes the grid")
		}
		for i := range 40 {
			y := limit * math.Pow(4, float64(i)/40)
			size := cmplx.Abs(1 + s.transform(y, 2)[1])
			if size > math.Exp(bound)+s.errorAt(y) {
				t.Fatalf("|φ(%g)| is %.12g, above the bound %.12g from %g on", y, size, math.Exp(bound), limit)
			}
		}
	})
}

// TestInversionAgreesWithGrid: two ways to the same number that share the
// dominating pairs only. Both are intervals, so they overlap; and the
// discretisation only adds, so the inverted upper end is above that of the
// grid by no more than its own interval's width. A grid's epsilon is negative
// where δ alone covers the loss; the inversion says 0 there.
func TestInversionAgreesWithGrid(t *testing.T) {
	draw := func(i int) (events []Event, n Neighboring, delta float64) {
		r := rapid.Custom(func(t *rapid.T) []float64 {
			return rapid.SliceOfN(rapid.Float64Range(0, 1), 8, 8).Draw(t, "uniform")
		}).Example(i)
		between := func(u, lo, hi float64) float64 { return lo * math.Pow(hi/lo, u) }
		n = Neighboring(1 + int(r[0]*2.999))
		for k := range 1 + i%2 {
			e := DPSGD(between(r[1+3*k], 0.6, 12), between(r[2+3*k], 1e-3, 0.4), int(between(r[3+3*k], 20, 3000)))
			switch {
			case i%5 == 1 && n != ReplaceOne:
				e.ExamplesPerUnit = 2 + k
			case i%5 == 2 && n == ZeroOut:
				e.Mechanism, e.DatasetSize, e.BatchLimit = TruncatedPoissonGaussian, 1000, 1+int(1100*e.SamplingProbability)
			}
			events = append(events, e)
		}
		return events, n, between(r[7], 1e-12, 1e-3)
	}
	count := 10
	if os.Getenv("SCUMBLE_SLOW") != "" {
		count = 400
	}
	inverted := 0
	for i := range count {
		events, n, delta := draw(i)
		for _, d := range bothDirections(t, n, events...) {
			q := query{d: d, delta: delta, forEpsilon: true}
			lower, upper, ok := q.inverted()
			if !ok {
				continue
			}
			inverted++
			g := PLD{}.ask(d, delta, 0, true)
			gridUpper := max(0, g.bounded(upward))
			gridLower := max(0, g.bounded(downward))
			if !(lower <= upper) || upper-lower > widestWidth*upper {
				t.Errorf("%+v %s: inverted [%.12g, %.12g]", events, d.name, lower, upper)
			}
			if upper > gridUpper*(1+1e-9)+1e-12+(upper-lower) || lower > gridUpper*(1+1e-12) || upper < gridLower*(1-1e-12) {
				t.Errorf("%+v, %s, %s, delta %g: inverted [%.12g, %.12g], grid [%.12g, %.12g]",
					events, n, d.name, delta, lower, upper, gridLower, gridUpper)
			}
		}
	}
	if inverted < count {
		t.Errorf("%d of about %d directions were inverted, want nearly all", inverted, 2*count)
	}
}

// TestInversionOfGaussians: the closed form of k Gaussian steps, which `once`
// would take if asked, by the contour.
func TestInversionOfGaussians(t *testing.T) {
	for _, mu := range []float64{0.05, 0.7, 3, 20} {
		for _, delta := range []float64{0.1, 1e-3, 1e-6, 1e-12, 1e-60} {
			exact, err := GDP{Mu: mu, Exact: true}.Epsilon(delta)
			if err != nil {
				t.Fatal(err)
			}
			const steps = 50
			d := direction{name: "remove", phases: []phase{{newMixture(math.Sqrt(steps)/mu, certain(1), certain(0)), steps}}}
			q := query{d: d, delta: delta, forEpsilon: true}
			lower, upper, ok := q.inverted()
			if !ok {
				t.Errorf("mean %g, delta %g: not inverted", mu, delta)
				continue
			}
			// The closed form itself cancels: it is good to 1e-12 or so.
			if lower > exact*(1+1e-11) || upper < exact*(1-1e-11) || upper-lower > 1e-7*upper {
				t.Errorf("mean %g, delta %g: [%.14g, %.14g], exact %.14g", mu, delta, lower, upper, exact)
			}
		}
	}
}

// TestIntervalsOfRealRunsAreNarrow: upper and lower bound meet to 1e-8, and
// the recorded answer of another implementation, good to 1e-6, lies there.
func TestIntervalsOfRealRunsAreNarrow(t *testing.T) {
	for _, g := range readGolden(t) {
		if g.Task == "calibrate_sigma" || len(g.ID) < 4 || g.ID[:4] != "real" {
			continue
		}
		n, err := g.neighboring()
		if err != nil {
			t.Fatal(err)
		}
		events, err := g.events()
		if err != nil {
			t.Fatal(err)
		}
		r, err := PLD{}.Epsilon(events, n, *g.Delta)
		if err != nil {
			t.Fatal(err)
		}
		if r.Epsilon-r.Lower > 1e-8*r.Epsilon {
			t.Errorf("%s: [%.12g, %.12g] is wider than 1e-8", g.ID, r.Lower, r.Epsilon)
		}
		if d := r.Epsilon/g.Expected.Truth.Best - 1; math.Abs(d) > 2e-6 {
			t.Errorf("%s: %.10g, recorded %.10g", g.ID, r.Epsilon, g.Expected.Truth.Best)
		}
	}
}

// TestOnceIsExact: every pair, one step, against the tails themselves.
func TestOnceIsExact(t *testing.T) {
	for _, p := range []pair{
		newMixture(1, binomialShift(1, 0.01), certain(0)), newMixture(0.7, certain(0), binomialShift(1, 0.3)),
		&laplace{scale: 2, up: 1}, &laplace{scale: 1, up: 0.2, down: 0.2}, newDiscrete(2, 1, 1),
	} {
		for _, epsilon := range []float64{0, 0.05, 0.3, 1.5} {
			exact := hockeyStick(p, epsilon)
			lo, hi := once{p}.bound(epsilon, downward), once{p}.bound(epsilon, upward)
			if lo > exact || hi < exact || hi-lo > 1e-11 {
				t.Errorf("%T at %g: [%.15g, %.15g], want around %.15g", p, epsilon, lo, hi, exact)
			}
		}
	}
}
