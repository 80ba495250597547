package accountant

import "math"

// once answers for a single step, whose hockey-stick curve is a difference of
// two tails:
//
//	δ(ε) = P(L > ε) - e^ε Q(L > ε).
//
// The cut at loss ε is inexact by jitter j. Between the exact one and ours p
// and e^ε q differ by a factor exp(±2j), so at most expm1(2j) P(L > ε-j) is
// missing or too much.
type once struct{ pair }

// bound returns a bound on δ(ε) in the sense s.
func (o once) bound(epsilon float64, s sense) float64 {
	j := o.jitter(epsilon, epsilon)
	e, near := o.at(o.cut(epsilon)), o.at(o.cut(epsilon-j))
	between := math.Expm1(2*j) * near.pHi * 2
	if epsilon > 700 {
		if s == downward {
			return 0
		}
		return min(1, e.pHi*(1+e.rel)+between)
	}
	up := float64(s)
	d := e.pHi*(1+up*e.rel) - math.Exp(epsilon)*e.qHi*(1-up*(e.rel+(4+epsilon)*ulp)) + up*between
	return min(1, max(0, d+up*4*ulp*e.pHi))
}

// inverted answers a query between bounds.
func (o once) inverted(delta, epsilon float64, forEpsilon bool) (lower, upper float64, ok bool) {
	if !forEpsilon {
		return o.bound(epsilon, downward), o.bound(epsilon, upward), true
	}
	search := func(s sense) float64 { // bound(lo) > delta >= bound(hi).
		lo, hi := 0.0, 1.0
		if o.bound(0, s) <= delta {
			return 0
		}
		for o.bound(hi, s) > delta {
			if lo, hi = hi, 2*hi; hi > maxEpsilon {
				return math.Inf(1)
			}
		}
		for hi-lo > 1e-13*hi {
			if m := lo + (hi-lo)/2; o.bound(m, s) > delta {
				lo = m
			} else {
				hi = m
			}
		}
		if s == upward {
			return hi
		}
		return lo
	}
	upper = search(upward)
	return min(search(downward), upper), upper, !math.IsInf(upper, 1)
}
