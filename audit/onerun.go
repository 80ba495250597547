package audit

import "math"

// OneRun is the outcome of guessing coins in one run: of Canaries canaries
// Guesses were guessed and the rest abstained from, and Correct guesses were
// right. How many are guessed must be chosen before the scores are seen.
type OneRun struct {
	Canaries int `json:"canaries"`
	Guesses  int `json:"guesses"`
	Correct  int `json:"correct"`
}

// Epsilon returns a lower bound on epsilon at delta, with the given confidence,
// that assumes nothing but that the coins were fair and independent. It is the
// larger of two bounds, each at half the allowed error:
//
//   - Steinke, Nasr, Jagielski 2023, https://arxiv.org/abs/2305.08846, Thm. 5.2.
//   - Mahloujifar, Melis, Chaudhuri 2024, https://arxiv.org/abs/2410.22235, Alg. 3,
//     with the trade-off curve of (epsilon, delta).
func (o OneRun) Epsilon(delta, confidence float64) float64 {
	alpha := (1 - confidence) / 2
	return max(
		rising(func(epsilon float64) bool { return o.steinke(epsilon, delta) <= alpha }),
		rising(func(epsilon float64) bool { return o.excludes(pureCurve(epsilon, delta), alpha) }),
	)
}

// rising returns the largest epsilon for which excluded holds, which holds below
// it.
func rising(excluded func(epsilon float64) bool) float64 {
	lo, hi := 0.0, 1.0
	if !excluded(0) {
		return 0
	}
	for excluded(hi) && hi < 1e3 {
		lo, hi = hi, 2*hi
	}
	for range 40 {
		if mid := (lo + hi) / 2; excluded(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// steinke bounds the probability of so many correct guesses from an (epsilon,
// delta)-private mechanism: P(B >= v) + 2·m·delta·max_i P(v > B >= v-i)/i, where
// B is binomial of r and e^ε/(1+e^ε).
func (o OneRun) steinke(epsilon, delta float64) float64 {
	p := 1 / (1 + math.Exp(-epsilon))
	beta := binomialFrom(o.Correct, o.Guesses, p)
	most, sum := 0.0, 0.0
	for i := 1; i <= o.Correct; i++ {
		sum += binomialAt(o.Correct-i, o.Guesses, p)
		most = max(most, sum/float64(i))
	}
	return min(1, beta+2*float64(o.Canaries)*delta*most)
}

// binomialAt returns P(X = k).
func binomialAt(k, n int, p float64) float64 {
	if k < 0 || k > n {
		return 0
	}
	choose := lgamma(float64(n+1)) - lgamma(float64(k+1)) - lgamma(float64(n-k+1))
	return math.Exp(choose + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}

func lgamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}

// tradeoff returns the least share of false positives that a test with this
// share of true positives must have. It is increasing and convex.
type tradeoff func(truePositives float64) (falsePositives float64)

// pureCurve is that of (epsilon, delta) alone.
func pureCurve(epsilon, delta float64) tradeoff {
	e := math.Exp(epsilon)
	return func(r float64) float64 { return max(0, (r-delta)/e, 1-delta-e*(1-r)) }
}

// excludes says whether a mechanism with this trade-off curve has a chance of at
// most alpha to allow so many correct guesses.
//
// Let r_i and h_i be the parts of the event, that at least i guesses are right,
// in which a given canary is guessed right and wrong. Within the event a coin
// that is turned makes a right guess wrong, so h_i >= curve(r_(i+1)); counting
// the canaries by how many guesses are right bounds r_i - r_(i+1) by
// i/(guesses - i)·(h_i - h_(i+1)). Both are followed down to zero, where they
// add up to the share of canaries that are guessed; if they come out larger,
// the chance of the event was smaller than alpha.
func (o OneRun) excludes(curve tradeoff, alpha float64) bool {
	m, c := float64(o.Canaries), float64(o.Correct)
	guesses := float64(o.Guesses)
	r, h := alpha*c/m, alpha*(guesses-c)/m
	for i := o.Correct - 1; i >= 0; i-- {
		next := max(h, curve(r))
		if next == h {
			break // Neither can change any more.
		}
		r = min(1, r+float64(i)/(guesses-float64(i))*(next-h))
		h = next
	}
	return r+h > guesses/m
}

// epsilonAlong returns a lower bound with the given confidence that assumes, as
// the claim does, that the privacy curve is that of the run's mechanism with some
// noise: Mahloujifar et al. 2024 with the curves of f in place of (epsilon, delta).
func (o OneRun) epsilonAlong(f *family, confidence float64) (float64, error) {
	var powers []float64
	for k := 0; float64(k)*epsilonStep <= 8; k++ {
		powers = append(powers, math.Exp(float64(k)*epsilonStep))
	}
	return f.least(func(i int) (bool, error) {
		var deltas []float64
		for k := range powers {
			d, err := f.delta(i, k)
			if err != nil {
				return false, err
			}
			deltas = append(deltas, d)
		}
		return o.excludes(func(r float64) float64 {
			least := 0.0
			for k, d := range deltas {
				least = max(least, (r-d)/powers[k], 1-d-powers[k]*(1-r))
			}
			return least
		}, 1-confidence), nil
	})
}
