package accountant

import (
	"fmt"
	"math"
)

// GDP is the trade-off curve of one Gaussian with mean Mu and variance 1
// (Dong, Roth, Su 2019, https://arxiv.org/abs/1905.02383). Unless Exact, it is
// a central limit approximation, it may lie BELOW the truth, and it must never
// be stated as a guarantee.
type GDP struct {
	Mu    float64 `json:"mu"`
	Exact bool    `json:"exact"` // All events are unsampled Gaussian: Mu is the truth.
}

// ApproximateGDP returns the limit μ = q sqrt(T (exp(1/s²) - 1)) for sampled
// steps (Bu et al. 2019, https://arxiv.org/abs/1911.11607), and exactly
// sqrt(T)/s for unsampled ones; squares of μ add.
func ApproximateGDP(events []Event, n Neighboring) (GDP, error) {
	if err := validateEvents(events, n); err != nil {
		return GDP{}, err
	}
	square, exact := 0.0, true
	for i, e := range events {
		if e.Mechanism != Gaussian && e.Mechanism != PoissonGaussian || e.ExamplesPerUnit > 1 {
			return GDP{}, fmt.Errorf("event %d: mechanism is %s with %d examples per unit, want gaussian or poisson-gaussian with 1",
				i, e.Mechanism, max(e.ExamplesPerUnit, 1))
		}
		q, v, t := e.SamplingProbability, e.NoiseMultiplier*e.NoiseMultiplier, float64(e.Count)
		switch {
		case q == 1 && n == ReplaceOne:
			square += 4 * t / v
		case q == 1:
			square += t / v
		case n == ReplaceOne: // E (P - Q)² / N(0) of the two shifted densities.
			square += 2 * q * q * t * (math.Exp(1/v) - math.Exp(-1/v))
			exact = false
		default:
			square += q * q * t * math.Expm1(1/v)
			exact = false
		}
	}
	return GDP{Mu: math.Sqrt(square), Exact: exact}, nil
}

// Delta returns the hockey-stick divergence of N(μ, 1) from N(0, 1),
// Φ(μ/2 - ε/μ) - e^ε Φ(-μ/2 - ε/μ) (ibid. Cor. 2.13).
func (g GDP) Delta(epsilon float64) float64 {
	if g.Mu == 0 {
		return 0
	}
	a := normalTail(epsilon/g.Mu - g.Mu/2)
	b := math.Exp(epsilon + math.Log(normalTail(epsilon/g.Mu+g.Mu/2)))
	return max(0, a-b)
}

// Epsilon returns the inverse of Delta, at least 0.
func (g GDP) Epsilon(delta float64) (float64, error) {
	if err := validateDelta(delta); err != nil {
		return 0, err
	}
	if g.Delta(0) <= delta {
		return 0, nil
	}
	lo, hi := 0.0, 1.0
	for g.Delta(hi) > delta {
		if hi *= 2; hi > 1e12 {
			return math.Inf(1), nil
		}
	}
	for range 200 {
		m := lo + (hi-lo)/2
		if g.Delta(m) > delta {
			lo = m
		} else {
			hi = m
		}
	}
	return hi, nil
}

func normalTail(x float64) float64 { return 0.5 * math.Erfc(x/math.Sqrt2) }
