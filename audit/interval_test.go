package audit

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// The tails of the binomial are sums of its probabilities, and each end of an
// interval is where the tail has the wanted size.
func TestBinomial(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "n")
		k := rapid.IntRange(0, n).Draw(t, "k")
		p := rapid.Float64Range(0.001, 0.999).Draw(t, "p")
		upTo := 0.0
		for i := range k + 1 {
			upTo += binomialAt(i, n, p)
		}
		if got := binomialUpTo(k, n, p); math.Abs(got-upTo) > 1e-9 {
			t.Fatalf("P(X <= %d) is %g, want %g", k, got, upTo)
		}
		if got := binomialFrom(k+1, n, p); math.Abs(got-(1-upTo)) > 1e-9 {
			t.Fatalf("P(X > %d) is %g, want %g", k, got, 1-upTo)
		}
		alpha := rapid.Float64Range(1e-6, 0.5).Draw(t, "alpha")
		if high := upperShare(k, n, alpha); k < n && math.Abs(binomialUpTo(k, n, high)-alpha) > 1e-9 {
			t.Fatalf("P(X <= %d) is %g at the upper end %g, want %g", k, binomialUpTo(k, n, high), high, alpha)
		}
		if low := lowerShare(k, n, alpha); k > 0 && math.Abs(binomialFrom(k, n, low)-alpha) > 1e-9 {
			t.Fatalf("P(X >= %d) is %g at the lower end %g, want %g", k, binomialFrom(k, n, low), low, alpha)
		}
	})
	// None of n: 1 - alpha^(1/n).
	if got, want := upperShare(0, 2500, 0.025), -math.Expm1(math.Log(0.025)/2500); math.Abs(got-want) > 1e-12 {
		t.Errorf("upper end for 0 of 2500 is %g, want %g", got, want)
	}
	if upperShare(7, 7, 0.1) != 1 || lowerShare(0, 7, 0.1) != 0 {
		t.Error("ends at all and none are not 1 and 0")
	}
}

func TestNormalAndChiSquare(t *testing.T) {
	for _, c := range []struct{ tail, want float64 }{{0.5, 0}, {0.025, 1.959963984540054}, {1e-6, 4.753424308822899}, {1e-12, 7.034483825301131}} {
		if got := normalQuantile(c.tail); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("quantile of tail %g is %.12f, want %.12f", c.tail, got, c.want)
		}
	}
	// Chi-square of 1000 degrees: 2.5 % quantiles 914.257 and 1089.531 (tables).
	low, high := chiSquareRange(1000, 0.025)
	if math.Abs(1000*low-914.257) > 0.05 || math.Abs(1000*high-1089.531) > 0.05 {
		t.Errorf("range is %g to %g, want 914.257 to 1089.531", 1000*low, 1000*high)
	}
}

// A step's score is the logarithm of the ratio of both densities.
func TestScoreIsTheLikelihoodRatio(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Mechanism{NoiseMultiplier: rapid.Float64Range(0.3, 5).Draw(t, "noise"), SamplingProbability: rapid.Float64Range(1e-4, 1).Draw(t, "q"), Steps: 1, Delta: 1e-5}
		x := rapid.Float64Range(-8, 9).Draw(t, "x")
		density := func(mean float64) float64 {
			return math.Exp(-(x - mean) * (x - mean) / (2 * m.NoiseMultiplier * m.NoiseMultiplier))
		}
		q := m.SamplingProbability
		in, out := (1-q)*density(0)+q*density(1), density(0)
		if out < 1e-250 || in < 1e-250 {
			return
		}
		if got, want := m.Score(x), math.Log(in/out); math.Abs(got-want) > 1e-9*(1+math.Abs(want)) {
			t.Fatalf("score of %g is %g, want %g", x, got, want)
		}
	})
}
