package subsample

import (
	"math"
	"testing"
)

// Every example's inclusion count is Binomial(steps, q). The chi-square of n
// counts has n degrees of freedom; we allow six standard deviations, a false
// alarm below 1e-6 over all cases.
func TestInclusionIsBinomial(t *testing.T) {
	for _, q := range []float64{0.5, 0.1, 0.003} {
		const n, steps = 500, 4000
		p, err := NewPoisson(n, q)
		if err != nil {
			t.Fatal(err)
		}
		counts := make([]float64, n)
		sizes := make([]float64, steps)
		var pairs float64 // Times that neighbours i, i+1 joined together.
		for s := range steps {
			batch := p.Draw()
			sizes[s] = float64(len(batch))
			for k, i := range batch {
				counts[i]++
				if k > 0 && batch[k-1] == i-1 {
					pairs++
				}
			}
		}
		var chi, mean, variance float64
		for _, c := range counts {
			d := c - steps*q
			chi += d * d / (steps * q * (1 - q))
		}
		if z := (chi - n) / math.Sqrt(2*n); math.Abs(z) > 6 {
			t.Errorf("q=%g: chi-square of inclusion counts is %.1f over %d examples (z=%.1f)", q, chi, n, z)
		}
		for _, s := range sizes {
			mean += s / steps
		}
		for _, s := range sizes {
			variance += (s - mean) * (s - mean) / (steps - 1)
		}
		// A fixed-size or shuffled sampler would have variance 0. The relative
		// error of a variance estimate is about sqrt(2/steps).
		want := n * q * (1 - q)
		if math.Abs(variance/want-1) > 7*math.Sqrt(2.0/steps)+7/math.Sqrt(steps*want) {
			t.Errorf("q=%g: variance of the batch size is %.3f, want %.3f", q, variance, want)
		}
		trials := float64((n - 1) * steps)
		if z := (pairs - trials*q*q) / math.Sqrt(trials*q*q*(1+2*q-3*q*q)); math.Abs(z) > 6 {
			t.Errorf("q=%g: neighbours joined together %.0f times, want about %.0f", q, pairs, trials*q*q)
		}
	}
}

// All pairs of examples join together as often as independent coins would: the
// counts of pairs are Binomial(steps, q²) each, and uncorrelated for distinct
// pairs up to shared examples, which widens the spread of their chi-square by at most
// 1 + 4nq/(1+q). Six of those standard deviations are a false alarm below 1e-7.
func TestPairsAreIndependent(t *testing.T) {
	const n, steps = 40, 20000
	for _, q := range []float64{0.5, 0.1} {
		p, err := NewPoisson(n, q)
		if err != nil {
			t.Fatal(err)
		}
		var joint [n][n]float64
		for range steps {
			batch := p.Draw()
			for k, i := range batch {
				for _, j := range batch[:k] {
					joint[j][i]++
				}
			}
		}
		chi := 0.0
		for i := range n {
			for j := range i {
				d := joint[j][i] - steps*q*q
				chi += d * d / (steps * q * q * (1 - q*q))
				if math.Abs(d) > 7*math.Sqrt(steps*q*q*(1-q*q)) {
					t.Errorf("q=%g: examples %d and %d joined together %.0f times, want about %.0f", q, j, i, joint[j][i], steps*q*q)
				}
			}
		}
		pairs := float64(n * (n - 1) / 2)
		if z := (chi - pairs) / math.Sqrt(2*pairs*(1+4*n*q/(1+q))); math.Abs(z) > 6 {
			t.Errorf("q=%g: chi-square of %.0f pairs is %.1f (z=%.1f)", q, pairs, chi, z)
		}
	}
}

func TestProbabilityIsNeverRoundedUp(t *testing.T) {
	for _, q := range []float64{1e-9, 1e-7, 0.1, 1.0 / 3, 1} {
		p, err := NewPoisson(1, q)
		if err != nil {
			t.Fatal(err)
		}
		if got := math.Ldexp(float64(p.threshold), -63); got > q || got < q*(1-1e-9) {
			t.Errorf("probability %g became %g", q, got)
		}
	}
}

func TestCertainAndEmptyDraws(t *testing.T) {
	p, err := NewPoisson(7, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(p.Draw()); got != 7 {
		t.Errorf("probability 1 drew %d of 7", got)
	}
	p, err = NewPoisson(3, 1e-12)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(p.Draw()); got != 0 { // False alarm 3e-12.
		t.Errorf("probability 1e-12 drew %d", got)
	}
}

func TestBadArguments(t *testing.T) {
	for _, q := range []float64{0, -1, 1.1, math.NaN(), math.Inf(1)} {
		if _, err := NewPoisson(10, q); err == nil {
			t.Errorf("probability %g was accepted", q)
		}
	}
	if _, err := NewPoisson(-1, 0.5); err == nil {
		t.Error("a negative number of examples was accepted")
	}
}

// Two samplers never draw the same batches: keys are fresh.
func TestKeysDiffer(t *testing.T) {
	a, _ := NewPoisson(1000, 0.5)
	b, _ := NewPoisson(1000, 0.5)
	same := 0
	in := map[int]bool{}
	for _, i := range a.Draw() {
		in[i] = true
	}
	for _, i := range b.Draw() {
		if in[i] {
			same++
		}
	}
	if math.Abs(float64(same)-250) > 7*math.Sqrt(1000*0.25*0.75) {
		t.Errorf("two samplers share %d examples, want about 250", same)
	}
}
