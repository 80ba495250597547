package accountant

import (
	"fmt"
	"math"
)

// Selection describes hyperparameter tuning that releases the best of a random
// number of runs (Papernot, Steinke 2021, https://arxiv.org/abs/2110.03620).
// The number is drawn once, from the truncated negative binomial distribution
// of the given Shape and mean, secretly and before any run; each run
// draws its hyperparameters afresh from a fixed public distribution; only the
// best run's output leaves. Every field is public.
type Selection struct {
	MeanRuns float64 `json:"mean_runs"` // Expected number of runs, at least 1. Required.
	// Shape η: 1 is the geometric distribution, 0 the logarithmic one, +Inf the
	// Poisson one, which may draw no run at all.
	Shape float64 `json:"shape"`
}

func (s Selection) validate() error {
	if !(s.MeanRuns >= 1) || s.MeanRuns > 1e9 {
		return fmt.Errorf("mean runs is %g, want 1 to 1e9", s.MeanRuns)
	}
	if !(s.Shape >= 0) {
		return fmt.Errorf("shape is %g, want 0 or more; 1 is geometric", s.Shape)
	}
	return nil
}

// SelectEpsilon returns the claim for a selection among runs, where events are
// those of one run at its most costly hyperparameters.
//
// With r the Rényi curve of one run and γ the distribution's parameter
// (ibid. Thm. 2),
//
//	r'(α) = r(α) + ln E[K]/(α-1) + (1+η) min over β of ((1-1/β) r(β) + ln(1/γ)/β)
//
// and for the Poisson distribution of mean m (Thm. 6), with δ̂ the delta of one
// run at ε̂ = ln(1 + 1/(α-1)),
//
//	r'(α) = r(α) + m δ̂ + ln(m)/(α-1).
//
// Guarantee: as RDP.Epsilon, for the output of the best run alone.
func (a RDP) SelectEpsilon(events []Event, s Selection, n Neighboring, delta float64) (Result, error) {
	if err := s.validate(); err != nil {
		return Result{}, err
	}
	if err := validateDelta(delta); err != nil {
		return Result{}, err
	}
	dirs, err := directions(events, n)
	if err != nil {
		return Result{}, err
	}
	result := Result{Delta: delta, Neighboring: n}
	if len(events) == 0 {
		return result, nil
	}
	r := func(order float64) float64 { return worstDivergence(dirs, order) }
	penalty := func(order float64) float64 { return 0 }
	if math.IsInf(s.Shape, 1) {
		penalty = func(order float64) float64 {
			_, ln, err := a.best(func(o float64) float64 { return lnDeltaFromDivergence(r(o), o, math.Log1p(1/(order-1))) })
			if err != nil {
				return math.Inf(1)
			}
			return s.MeanRuns * math.Exp(min(ln, 0))
		}
	} else {
		lnGamma := math.Log(s.gamma())
		_, c, err := a.best(func(o float64) float64 { return (1-1/o)*r(o) - lnGamma/o })
		if err != nil {
			return Result{}, err
		}
		penalty = func(float64) float64 { return (1 + s.Shape) * c }
	}
	order, e, err := a.best(func(o float64) float64 {
		return epsilonFromDivergence(r(o)+math.Log(s.MeanRuns)/(o-1)+penalty(o), o, delta)
	})
	if err != nil {
		return Result{}, err
	}
	result.Epsilon, result.Order = max(0, e), order
	return result, nil
}

// gamma returns the parameter γ in (0, 1] of the distribution with the wanted
// mean, rounded towards a larger mean.
func (s Selection) gamma() float64 {
	if s.Shape == 1 {
		return 1 / s.MeanRuns
	}
	lo, hi := 0.0, 1.0 // Means: infinite and 1.
	for range 200 {
		g := lo + (hi-lo)/2
		if g <= lo || g >= hi {
			break
		}
		if s.mean(g) < s.MeanRuns {
			hi = g
		} else {
			lo = g
		}
	}
	return max(lo, 1e-300)
}

// mean returns E[K] = η (1/γ - 1)/(1 - γ^η), or (1/γ - 1)/ln(1/γ) for η = 0
// (ibid. Def. 1).
func (s Selection) mean(gamma float64) float64 {
	ln := -math.Log(gamma)
	if ln < 1e-8 {
		return 1
	}
	if s.Shape == 0 {
		return math.Expm1(ln) / ln
	}
	return s.Shape * math.Expm1(ln) / -math.Expm1(-s.Shape*ln)
}
