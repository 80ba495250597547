package accountant

import "math"

// A sketch is a coarse picture of one step's loss under P: atoms at loss[k]
// with ln mass lnP[k], tails left out. Tilts, meshes and windows are chosen
// with it; no bound rests on it.
type sketch struct {
	loss, lnP []float64
}

// sketchNodes is the number of atoms of a sketch of a continuous loss.
const sketchNodes = 512

// cumulants returns K(λ) = ln Σ p exp(λ l) and its first derivative.
func (s sketch) cumulants(lambda float64) (k, k1 float64) {
	top := math.Inf(-1)
	for i, l := range s.loss {
		top = max(top, s.lnP[i]+lambda*l)
	}
	sum, first := 0.0, 0.0
	for i, l := range s.loss {
		if e := s.lnP[i] + lambda*l - top; e > -60 {
			w := math.Exp(e)
			sum += w
			first += w * l
		}
	}
	return top + math.Log(sum), first / sum
}

// sketches are those of all phases of a direction, with their counts.
type sketches struct {
	steps  []sketch
	counts []float64
}

func (d direction) sketch(lnTail float64) sketches {
	var s sketches
	for _, p := range d.phases {
		s.steps = append(s.steps, p.sketch(lnTail))
		s.counts = append(s.counts, float64(p.count))
	}
	return s
}

func (s sketches) cumulants(lambda float64) (k, k1 float64) {
	for i, one := range s.steps {
		a, b := one.cumulants(lambda)
		k += s.counts[i] * a
		k1 += s.counts[i] * b
	}
	return k, k1
}

// Bounds of the search for tilts λ and orders λ+1.
const (
	lowestTilt  = 1e-6
	highestTilt = 1e12
)

// largest returns the largest x in [lowest, highest] for which below holds, to
// a part in 1e4; below holds up to some x and not beyond.
func largest(below func(x float64) bool, lowest, highest float64) float64 {
	a, b := math.Log(lowest), math.Log(highest)
	if !below(lowest) {
		return lowest
	}
	for b-a > 1e-4 {
		m := a + (b-a)/2
		if below(math.Exp(m)) {
			a = m
		} else {
			b = m
		}
	}
	return math.Exp(a)
}

// tiltForDelta returns the λ that minimises the Chernoff bound
// (K(λ) - ln δ)/λ on epsilon, where λ K' - K = -ln δ, and that bound. Bounded
// losses may have no such λ; theirs is one at which the tilted distribution
// has long reached its end.
func (s sketches) tiltForDelta(delta float64) (lambda, bound float64) {
	l := -math.Log(delta)
	_, mean := s.cumulants(0)
	lambda = largest(func(x float64) bool {
		k, k1 := s.cumulants(x)
		return x*k1-k < l && k-x*mean < 8*(l+1)
	}, lowestTilt, highestTilt)
	k, _ := s.cumulants(lambda)
	return lambda, (k + l) / lambda
}

// tiltForEpsilon returns the λ that minimises the Chernoff bound
// exp(K(λ) - λ ε) on delta, where K' = ε.
func (s sketches) tiltForEpsilon(epsilon float64) float64 {
	_, mean := s.cumulants(0)
	return largest(func(x float64) bool {
		k, k1 := s.cumulants(x)
		return k1 < epsilon && k-x*epsilon > -720 && k-x*mean < 300
	}, lowestTilt, highestTilt)
}

// The window of the tilted sum may miss mass exp(-lnOutside) on either side.
const lnOutside = 32

// window returns losses between which the tilted sum lies up to exp(-lnOutside)
// on either side, with the θ of the Chernoff bounds that show it: those that
// minimise (K(λ±θ) - K(λ) + lnOutside)/θ.
func (s sketches) window(lambda float64) (bottom, top, thetaDown, thetaUp float64) {
	k, mean := s.cumulants(lambda)
	distance := func(sign float64) (theta, far float64) {
		theta = largest(func(t float64) bool {
			kt, k1 := s.cumulants(lambda + sign*t)
			rise := kt - k
			// Past an end of the loss the bound falls for ever: stop where
			// little is left to gain.
			return sign*t*k1-rise < lnOutside && rise-sign*t*mean < 100*lnOutside
		}, 1e-4*lowestTilt, highestTilt)
		kt, _ := s.cumulants(lambda + sign*theta)
		return theta, (kt - k + lnOutside) / theta
	}
	thetaUp, top = distance(1)
	thetaDown, bottom = distance(-1)
	return -bottom, top, thetaDown, thetaUp
}

// moment returns ln E[exp(λ L)] of the whole composition under P.
func (d direction) moment(lambda float64) float64 {
	k := 0.0
	for _, p := range d.phases {
		k += float64(p.count) * p.moment(lambda)
	}
	return k
}

// minimize returns about the minimum of f over x in [lowest, highest], f
// falling and then rising: growing steps from start, then golden sections in
// ln x. A step upward that gains less than the part gain ends the growth, for
// f that falls for ever towards a limit.
func minimize(f func(float64) float64, start, lowest, highest, gain float64) (x, fx float64) {
	f0 := func(lx float64) float64 {
		y := f(math.Exp(lx))
		if math.IsNaN(y) {
			return math.Inf(1)
		}
		return y
	}
	b := math.Log(start)
	for math.IsInf(f0(b), 1) && b > math.Log(lowest) {
		b -= 0.7
	}
	a, c := b-0.7, b+0.7
	fa, fb, fc := f0(a), f0(b), f0(c)
	for fc < fb && c < math.Log(highest) && fb-fc > gain*math.Abs(fb) {
		a, b, c = b, c, c+1.5*(c-b)
		fa, fb, fc = fb, fc, f0(c)
	}
	for fa < fb && a > math.Log(lowest) {
		a, b, c = a-1.5*(b-a), a, b
		fa, fb, fc = f0(a), fa, fb
	}
	const golden = 0.381966011250105
	for range 60 {
		if c-a < 1e-4 {
			break
		}
		if c-b > b-a {
			m := b + golden*(c-b)
			if fm := f0(m); fm < fb {
				a, b, fb = b, m, fm
			} else {
				c = m
			}
		} else {
			m := b - golden*(b-a)
			if fm := f0(m); fm < fb {
				c, b, fb = b, m, fm
			} else {
				a = m
			}
		}
	}
	return math.Exp(b), fb
}
