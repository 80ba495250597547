package accountant

import (
	"errors"
	"fmt"
	"math"
)

// ErrBudget is what errors wrap when a target or a budget leaves no room.
// Commands map it to its own exit code.
var ErrBudget = errors.New("privacy budget would be exceeded")

// fits reports whether spent and plan together keep the claim.
func fits(acc Accountant, spent []Event, plan Event, n Neighboring, epsilon, delta float64) (float64, error) {
	events := append(append(make([]Event, 0, len(spent)+1), spent...), plan)
	r, err := acc.Epsilon(events, n, delta)
	return r.Epsilon, err
}

func quick(acc Accountant) Accountant {
	if p, ok := acc.(PLD); ok {
		p.UpperOnly = true
		return p
	}
	return acc
}

// checkTarget validates what all calibrations share and that spent alone
// leaves room.
func checkTarget(acc Accountant, spent []Event, n Neighboring, epsilon, delta float64) error {
	if err := validateDelta(delta); err != nil {
		return err
	}
	if !(epsilon > 0) || epsilon > maxEpsilon {
		return fmt.Errorf("target epsilon is %g, want in (0, %g]", epsilon, maxEpsilon)
	}
	if len(spent) == 0 {
		return nil
	}
	r, err := acc.Epsilon(spent, n, delta)
	if err != nil {
		return fmt.Errorf("events already spent: %w", err)
	}
	if r.Epsilon >= epsilon {
		return fmt.Errorf("events already spent cost epsilon %.6g at delta %g, target is %g: %w", r.Epsilon, delta, epsilon, ErrBudget)
	}
	return nil
}

// CalibrateNoiseMultiplier returns the least noise multiplier, rounded up to 6
// digits, with which spent and plan together are (epsilon, delta)-differentially
// private according to acc. The noise multiplier in plan is ignored.
//
// Guarantee: acc was asked about the returned value and confirmed the claim.
func CalibrateNoiseMultiplier(acc Accountant, spent []Event, plan Event, n Neighboring, epsilon, delta float64) (float64, error) {
	acc = quick(acc)
	plan.NoiseMultiplier = 1
	if err := plan.Validate(); err != nil {
		return 0, err
	}
	if err := checkTarget(acc, spent, n, epsilon, delta); err != nil {
		return 0, err
	}
	// Work on x = ln noise, y = ln(ε/target), which is smooth and falls.
	evaluate := func(x float64) (float64, error) {
		plan.NoiseMultiplier = math.Exp(x)
		e, err := fits(acc, spent, plan, n, epsilon, delta)
		return math.Log(max(e, 1e-12) / epsilon), err
	}
	x, err := solveFalling(evaluate, startNoise(plan, epsilon, delta), math.Log(minNoise), math.Log(maxNoise))
	if err != nil {
		return 0, fmt.Errorf("noise multiplier for epsilon %g at delta %g: %w", epsilon, delta, err)
	}
	nm := roundUp(math.Exp(x))
	for range 100 {
		plan.NoiseMultiplier = nm
		e, err := fits(acc, spent, plan, n, epsilon, delta)
		if err != nil {
			return 0, err
		}
		if e <= epsilon {
			return nm, nil
		}
		nm = roundUp(nm * (1 + 2e-6))
	}
	return 0, fmt.Errorf("noise multiplier for epsilon %g at delta %g: none near %g suffices; give more delta or epsilon", epsilon, delta, nm)
}

// startNoise guesses ln of the noise multiplier from the central limit,
// μ = q sqrt(T (exp(1/s²) - 1)) and ε ~ μ²/2 + μ sqrt(2 ln 1/δ).
func startNoise(plan Event, epsilon, delta float64) float64 {
	l := math.Sqrt(-2 * math.Log(delta))
	mu := math.Sqrt(l*l+2*epsilon) - l
	r := mu / (plan.SamplingProbability * math.Sqrt(float64(plan.Count)))
	s := 1 / math.Sqrt(math.Log1p(r*r))
	s *= float64(max(plan.ExamplesPerUnit, 1))
	return math.Log(min(max(s, 0.3), 1e6))
}

// solveFalling returns x with f(x) <= 0 and f(x - tolerance) near 0, for a
// falling f, by bracketing from start and then regula falsi with the Illinois
// weights.
func solveFalling(f func(float64) (float64, error), start, lowest, highest float64) (float64, error) {
	x := min(max(start, lowest), highest)
	y, err := f(x)
	if err != nil {
		return 0, err
	}
	a, fa, b, fb := x, y, x, y // f(a) > 0 >= f(b).
	step := 0.1
	for fb > 0 {
		if b >= highest {
			return 0, fmt.Errorf("not even %g suffices: %w", math.Exp(highest), ErrBudget)
		}
		a, fa = b, fb
		b = min(b+step, highest)
		step *= 2.5
		if fb, err = f(b); err != nil {
			return 0, err
		}
	}
	for fa <= 0 {
		if a <= lowest {
			return lowest, nil
		}
		b, fb = a, fa
		a = max(a-step, lowest)
		step *= 2.5
		if fa, err = f(a); err != nil {
			return 0, err
		}
	}
	const tolerance = 1e-7
	side := 0
	for range 60 {
		if b-a < tolerance || -fb < 2e-7 {
			break
		}
		m := (a*fb - b*fa) / (fb - fa)
		// Aim a hair to the safe side, and stay inside.
		m = min(max(m+tolerance/3, a+0.01*tolerance), b-0.01*tolerance)
		fm, err := f(m)
		if err != nil {
			return 0, err
		}
		if fm > 0 {
			a, fa = m, fm
			if side == 1 {
				fb /= 2
			}
			side = 1
		} else {
			b, fb = m, fm
			if side == -1 {
				fa /= 2
			}
			side = -1
		}
	}
	return b, nil
}

// roundUp rounds to 6 significant digits, upward.
func roundUp(x float64) float64 { return roundDigits(x, math.Ceil) }

func roundDigits(x float64, to func(float64) float64) float64 {
	exponent := 5 - int(math.Floor(math.Log10(x)))
	if exponent >= 0 {
		p := math.Pow10(exponent)
		return to(x*p) / p
	}
	p := math.Pow10(-exponent)
	return to(x/p) * p
}

// CalibrateSteps returns the largest count with which spent and plan together
// are (epsilon, delta)-differentially private according to acc; the count in
// plan is ignored. It is at least 1: if not even one step fits, the error
// wraps ErrBudget.
//
// Guarantee: acc was asked about the returned value and confirmed the claim.
func CalibrateSteps(acc Accountant, spent []Event, plan Event, n Neighboring, epsilon, delta float64) (int, error) {
	acc = quick(acc)
	plan.Count = 1
	if err := plan.Validate(); err != nil {
		return 0, err
	}
	if err := checkTarget(acc, spent, n, epsilon, delta); err != nil {
		return 0, err
	}
	over := func(count int) (float64, error) {
		plan.Count = count
		e, err := fits(acc, spent, plan, n, epsilon, delta)
		return math.Log(max(e, 1e-12) / epsilon), err
	}
	y, err := over(1)
	if err != nil {
		return 0, err
	}
	if y > 0 {
		return 0, fmt.Errorf("one step costs epsilon %.6g at delta %g, target is %g; use more noise: %w", epsilon*math.Exp(y), delta, epsilon, ErrBudget)
	}
	// f(fit) <= 0 < f(not): interpolate ε in ln count, fall back on halving.
	fit, not := 1, 0
	fFit, fNot := y, 0.0
	const most = 1 << 30
	for not == 0 {
		// ε grows about like sqrt(count) or faster: aim a little past.
		next := int(min(float64(fit)*min(max(math.Exp(-1.9*fFit)*1.05, 2), 4096), most))
		if y, err = over(next); err != nil {
			return 0, err
		}
		if y > 0 {
			not, fNot = next, y
		} else if next == most {
			return most, nil
		} else {
			fit, fFit = next, y
		}
	}
	for i := 0; not-fit > 1; i++ {
		lf, ln := math.Log(float64(fit)), math.Log(float64(not))
		m := int(math.Exp(lf + (ln-lf)*(-fFit)/(fNot-fFit)))
		if i%3 == 2 {
			m = fit + (not-fit)/2
		}
		m = min(max(m, fit+1), not-1)
		if y, err = over(m); err != nil {
			return 0, err
		}
		if y > 0 {
			not, fNot = m, y
			continue
		}
		fit, fFit = m, y
		if not-fit > 1 { // Often the very next one is over.
			if y, err = over(fit + 1); err != nil {
				return 0, err
			}
			if y > 0 {
				return fit, nil
			}
			fit, fFit = fit+1, y
		}
	}
	return fit, nil
}

// CalibrateSamplingProbability returns the largest sampling probability,
// rounded down to 6 digits, with which spent and plan together are (epsilon,
// delta)-differentially private according to acc; the one in plan is ignored.
//
// Guarantee: acc was asked about the returned value and confirmed the claim.
func CalibrateSamplingProbability(acc Accountant, spent []Event, plan Event, n Neighboring, epsilon, delta float64) (float64, error) {
	acc = quick(acc)
	plan.SamplingProbability = 1
	if err := plan.Validate(); err != nil {
		return 0, err
	}
	switch plan.Mechanism {
	case PoissonGaussian, PoissonLaplace, TruncatedPoissonGaussian:
	default:
		return 0, fmt.Errorf("mechanism is %s, want poisson-gaussian, poisson-laplace or truncated-poisson-gaussian: others do not sample", plan.Mechanism)
	}
	if err := checkTarget(acc, spent, n, epsilon, delta); err != nil {
		return 0, err
	}
	evaluate := func(x float64) (float64, error) {
		plan.SamplingProbability = min(1, math.Exp(-x))
		e, err := fits(acc, spent, plan, n, epsilon, delta)
		return math.Log(max(e, 1e-12) / epsilon), err
	}
	x, err := solveFalling(evaluate, 4, 0, -math.Log(minProbability))
	if err != nil {
		return 0, fmt.Errorf("sampling probability for epsilon %g at delta %g: %w", epsilon, delta, err)
	}
	q := math.Exp(-x)
	if q < 1 {
		q = max(roundDigits(q, math.Floor), minProbability)
	}
	for range 100 {
		plan.SamplingProbability = q
		e, err := fits(acc, spent, plan, n, epsilon, delta)
		if err != nil {
			return 0, err
		}
		if e <= epsilon {
			return q, nil
		}
		q = roundDigits(q*(1-2e-6), math.Floor)
	}
	return 0, fmt.Errorf("sampling probability for epsilon %g at delta %g: none near %g suffices", epsilon, delta, q)
}
