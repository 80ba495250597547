// Package accountanttest holds the tests that every accountant must pass.
package accountanttest

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/scumble-dp/scumble/accountant"
)

// DrawDPSGD draws an event that training could make: noise multiplier 0.5 to
// 20, sampling probability 1e-4 to 0.5, 1 to 5000 steps, uniform in their logarithms.
// Equal seeds give equal events.
func DrawDPSGD(seed int) accountant.Event {
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	between := func(lo, hi float64) float64 { return lo * math.Pow(hi/lo, r.Float64()) }
	return accountant.DPSGD(between(0.5, 20), between(1e-4, 0.5), int(between(1, 5000)))
}

// Run tests an accountant on so many drawn problems.
func Run(t *testing.T, a accountant.Accountant, draws int) {
	t.Run("refuses", func(t *testing.T) { refuses(t, a) })
	t.Run("nothing costs nothing", func(t *testing.T) {
		if e := epsilon(t, a, nil, accountant.AddOrRemove, 1e-5); e != 0 {
			t.Errorf("epsilon of no events is %g", e)
		}
	})
	t.Run("not below exact Gaussian", func(t *testing.T) { exactGaussian(t, a) })
	for i := range draws {
		e := DrawDPSGD(i)
		delta := []float64{1e-3, 1e-5, 1e-6, 1e-9}[i%4]
		n := []accountant.Neighboring{accountant.AddOrRemove, accountant.ReplaceOne}[i%2]
		monotone(t, a, e, n, delta)
		composes(t, a, e, DrawDPSGD(i+1000), n, delta)
		inverse(t, a, e, n, delta)
	}
}

func epsilon(t *testing.T, a accountant.Accountant, events []accountant.Event, n accountant.Neighboring, delta float64) float64 {
	t.Helper()
	r, err := a.Epsilon(events, n, delta)
	if err != nil {
		t.Fatalf("epsilon of %+v: %v", events, err)
	}
	if !(r.Epsilon >= 0) || r.Delta != delta || r.Neighboring != n {
		t.Fatalf("epsilon of %+v at delta %g gave %+v", events, delta, r)
	}
	return r.Epsilon
}

// monotone: each change makes the cost larger by far more than the accuracy of
// an accountant, so it may not come out smaller.
func monotone(t *testing.T, a accountant.Accountant, e accountant.Event, n accountant.Neighboring, delta float64) {
	t.Helper()
	base := epsilon(t, a, []accountant.Event{e}, n, delta)
	more, louder, often := e, e, e
	more.Count += 1 + e.Count/50
	louder.NoiseMultiplier /= 1.02
	often.SamplingProbability = min(1, e.SamplingProbability*1.02)
	for name, changed := range map[string]accountant.Event{"steps": more, "less noise": louder, "sampling": often} {
		if after := epsilon(t, a, []accountant.Event{changed}, n, delta); after < base {
			t.Errorf("epsilon of %+v fell from %.9g to %.9g with more %s", e, base, after, name)
		}
	}
	if after := epsilon(t, a, []accountant.Event{e}, n, delta/2); after < base {
		t.Errorf("epsilon of %+v fell from %.9g to %.9g with half the delta", e, base, after)
	}
	if n == accountant.AddOrRemove {
		if after := epsilon(t, a, []accountant.Event{e}, accountant.ReplaceOne, delta); after < base {
			t.Errorf("epsilon of %+v fell from %.9g to %.9g for replace-one", e, base, after)
		}
	}
}

// composes: order and grouping of events do not matter; more events cost more.
func composes(t *testing.T, a accountant.Accountant, x, y accountant.Event, n accountant.Neighboring, delta float64) {
	t.Helper()
	both := epsilon(t, a, []accountant.Event{x, y}, n, delta)
	part := x
	part.Count = x.Count / 2
	rest := x
	rest.Count -= part.Count
	split := []accountant.Event{y, rest}
	if part.Count > 0 {
		split = append(split, part)
	}
	if again := epsilon(t, a, split, n, delta); math.Abs(again-both) > 1e-6*both+1e-9 {
		t.Errorf("epsilon of %+v and %+v changed from %.12g to %.12g when split and reordered", x, y, both, again)
	}
	if alone := epsilon(t, a, []accountant.Event{x}, n, delta); both < alone*(1-1e-4) {
		t.Errorf("epsilon of %+v fell from %.9g to %.9g with %+v besides", x, alone, both, y)
	}
}

// inverse: Delta at Epsilon(delta) is delta, up to the accuracy of both.
func inverse(t *testing.T, a accountant.Accountant, e accountant.Event, n accountant.Neighboring, delta float64) {
	t.Helper()
	eps := epsilon(t, a, []accountant.Event{e}, n, delta)
	if eps == 0 {
		return
	}
	r, err := a.Delta([]accountant.Event{e}, n, eps)
	if err != nil {
		t.Fatal(err)
	}
	if r.Delta > delta*1.05 || r.Delta < delta/1.05 {
		t.Errorf("delta of %+v at epsilon %.9g is %.9g, want about %g", e, eps, r.Delta, delta)
	}
}

func exactGaussian(t *testing.T, a accountant.Accountant) {
	t.Helper()
	for _, c := range []struct {
		noise float64
		count int
	}{{1, 1}, {0.5, 1}, {10, 1000}, {100, 100000}, {3, 7}} {
		events := []accountant.Event{accountant.DPSGD(c.noise, 1, c.count)}
		for _, n := range []accountant.Neighboring{accountant.AddOrRemove, accountant.ReplaceOne, accountant.ZeroOut} {
			g, err := accountant.ApproximateGDP(events, n)
			if err != nil || !g.Exact {
				t.Fatalf("exact curve: %+v, %v", g, err)
			}
			for _, delta := range []float64{1e-2, 1e-5, 1e-9, 1e-12, 1e-14} {
				exact, err := g.Epsilon(delta)
				if err != nil {
					t.Fatal(err)
				}
				if got := epsilon(t, a, events, n, delta); got < exact-1e-9 || got > exact*1.35+0.1 {
					t.Errorf("epsilon of %+v, %s, delta %g is %.12g, exact is %.12g", events, n, delta, got, exact)
				}
			}
		}
	}
}

func refuses(t *testing.T, a accountant.Accountant) {
	t.Helper()
	nan, inf := math.NaN(), math.Inf(1)
	good := accountant.DPSGD(1, 0.01, 10)
	with := func(change func(*accountant.Event)) accountant.Event {
		e := good
		change(&e)
		return e
	}
	bad := map[string]accountant.Event{
		"zero event":       {},
		"unknown":          with(func(e *accountant.Event) { e.Mechanism = 99 }),
		"NaN noise":        with(func(e *accountant.Event) { e.NoiseMultiplier = nan }),
		"no noise":         with(func(e *accountant.Event) { e.NoiseMultiplier = 0 }),
		"negative noise":   with(func(e *accountant.Event) { e.NoiseMultiplier = -1 }),
		"infinite noise":   with(func(e *accountant.Event) { e.NoiseMultiplier = inf }),
		"NaN sampling":     with(func(e *accountant.Event) { e.SamplingProbability = nan }),
		"no sampling":      with(func(e *accountant.Event) { e.SamplingProbability = 0 }),
		"sampling above 1": with(func(e *accountant.Event) { e.SamplingProbability = 1.0000001 }),
		"no steps":         with(func(e *accountant.Event) { e.Count = 0 }),
		"negative steps":   with(func(e *accountant.Event) { e.Count = -1 }),
		"too many steps":   with(func(e *accountant.Event) { e.Count = math.MaxInt }),
		"sampled Gaussian": with(func(e *accountant.Event) { e.Mechanism = accountant.Gaussian }),
		"stray field":      with(func(e *accountant.Event) { e.BatchLimit = 3 }),
		"negative unit":    with(func(e *accountant.Event) { e.ExamplesPerUnit = -1 }),
	}
	for name, e := range bad {
		if _, err := a.Epsilon([]accountant.Event{good, e}, accountant.AddOrRemove, 1e-5); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := a.Delta([]accountant.Event{e}, accountant.AddOrRemove, 1); err == nil {
			t.Errorf("%s: no error from Delta", name)
		}
	}
	for _, delta := range []float64{0, -1, 1, 2, nan, inf} {
		if _, err := a.Epsilon([]accountant.Event{good}, accountant.AddOrRemove, delta); err == nil {
			t.Errorf("delta %g: no error", delta)
		}
	}
	for _, e := range []float64{-1e-9, nan, inf} {
		if _, err := a.Delta([]accountant.Event{good}, accountant.AddOrRemove, e); err == nil {
			t.Errorf("epsilon %g: no error", e)
		}
	}
	for _, n := range []accountant.Neighboring{0, 99} {
		if _, err := a.Epsilon([]accountant.Event{good}, n, 1e-5); err == nil {
			t.Errorf("relation %d: no error", n)
		}
	}
}
