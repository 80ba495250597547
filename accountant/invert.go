package accountant

import "math"

// inversion is a direction whose transform is known: its hockey-stick curve
// is the integral along a vertical line in the complex plane
//
//	δ(ε) = exp(K(λ) - λε)/π ∫_0^∞ Re[φ(y) exp(-iyε) / ((λ+iy)(λ+1+iy))] dy,   λ > 0,
//
// with K(λ) = ln E_P[exp(λL)] and φ the characteristic function of the tilted
// loss, because 1/(z(z+1)) is the transform of (1-e^-u)⁺.
//
// The trapezoidal rule of step Δ is the curve plus its copies (Poisson
// summation),
//
//	exp(λε) δ(ε) + Σ_{m≠0} exp(λ(ε+mW)) δ(ε+mW),   W = 2π/Δ,
//
// which are not negative: it can only come out too large, and Chernoff bounds
// say by how much. Every other error is bounded and added, see bound.
type inversion struct {
	lambda float64
	k      float64      // K(λ).
	step   float64      // Δ.
	terms  []complex128 // φ(jΔ) / ((λ+ijΔ)(λ+1+ijΔ)), the first one halved.
	error  float64      // Bound on the absolute error of the sum, but for that of exp(-iyε).
	sizes  float64      // Σ |terms|·(1+y), for the rest.
	lnRel  float64      // Bound on the relative error of exp(K(λ)).
	window float64      // W.
	// Chernoff bounds on copies: K(λ+up) - K(λ) and K(λ-down) - K(λ), at most.
	up, upRise, down, downRise float64
}

// Where to give up: nodes times terms, and terms.
const (
	mostWork  = 1 << 25
	mostTerms = 1 << 13
)

// moments returns K, K' and K” of the whole composition at λ, and a bound on
// the error of K.
func (d direction) moments(lambda float64) (k, k1, k2, err float64, ok bool) {
	for _, p := range d.phases {
		smooth, is := p.pair.(smooth)
		if !is {
			return 0, 0, 0, 0, false
		}
		s, ok := smooth.spectrum(lambda, 0)
		if !ok {
			return 0, 0, 0, 0, false
		}
		t := float64(p.count)
		k += t * s.lnM
		k1 += t * s.mean
		k2 += t * s.variance
		err += t * s.lnErr
	}
	return k, k1, k2, err + float64(4*len(d.phases))*ulp*math.Abs(k), true
}

// saddle returns a λ at which rising is 0 within its tolerance, for a function
// that rises with λ. rising also returns λ times its slope.
func saddle(rising func(lambda float64) (value, slope, tolerance float64, ok bool), start float64) (float64, bool) {
	lo, hi := math.Log(lowestTilt), math.Log(1e7)
	x := math.Log(start)
	for range 100 {
		value, slope, tolerance, ok := rising(math.Exp(x))
		if !ok || math.IsNaN(value) {
			hi = min(hi, x) // Too large a λ for float64 or the quadrature.
			value, slope = 1, 0
		} else if math.Abs(value) <= tolerance {
			return math.Exp(x), true
		}
		if value > 0 {
			hi = min(hi, x)
		} else {
			lo = max(lo, x)
		}
		if hi-lo < 1e-9 {
			return math.Exp(lo), true
		}
		next := x - value/slope
		if !(next > lo && next < hi) {
			next = lo + (hi-lo)/2
		}
		x = min(max(next, x-2), x+2)
	}
	return 0, false
}

// tiltFor returns a λ at which the tilted composition is centred on the answer.
func (q *query) tiltFor() (lambda float64, ok bool) {
	_, _, k2, _, ok := q.d.moments(1)
	if !ok || !(k2 > 0) {
		return 0, false
	}
	if q.forEpsilon { // Minimum of (K(λ) - ln δ)/λ.
		l := -math.Log(q.delta)
		return saddle(func(x float64) (float64, float64, float64, bool) {
			k, k1, k2, _, ok := q.d.moments(x)
			return x*k1 - k - l, x * x * k2, 0.05 * (l + 1), ok
		}, math.Sqrt(2*l/k2))
	}
	return q.saddleAt(q.epsilon, 1)
}

// saddleAt returns the minimum of K(λ) - λε - ln λ(λ+1): the saddle point of
// the integrand.
func (q *query) saddleAt(epsilon, start float64) (lambda float64, ok bool) {
	return saddle(func(x float64) (float64, float64, float64, bool) {
		_, k1, k2, _, ok := q.d.moments(x)
		return k1 - 1/x - 1/(1+x) - epsilon, x*k2 + 1/x + x/((1+x)*(1+x)), 0.1 * math.Sqrt(k2), ok
	}, start)
}

// lnAliases is how small copies of the curve are made, next to 1.
const lnAliases = 34

// invert evaluates the integrand of the composition at tilt λ for epsilons
// near centre; tails of the integral are cut where they are below cut.
func (d direction) invert(lambda, centre, cut float64) (v inversion, ok bool) {
	k, _, variance, kErr, ok := d.moments(lambda)
	if !ok || !(variance > 0) {
		return v, false
	}
	v.lambda, v.k = lambda, k
	deviation := math.Sqrt(variance)
	if !v.chooseWindow(d, deviation, centre) {
		return v, false
	}
	limit, tail, ok := d.cutOff(lambda, deviation, cut, 2*math.Pi*mostTerms/v.window)
	if !ok {
		return v, false
	}
	v.step = 2 * math.Pi / v.window
	n := int(math.Ceil(limit/v.step)) + 1
	v.error = tail
	v.terms = make([]complex128, n)
	for j := range v.terms {
		y := float64(j) * v.step
		v.terms[j] = 1 / (complex(lambda, y) * complex(lambda+1, y))
	}
	lnSize, lnMore := make([]float64, n), make([]float64, n) // ln |φ|, and ln of 1 + its relative error.
	angle := make([]float64, n)
	for _, p := range d.phases {
		s, ok := p.pair.(smooth).spectrum(lambda, float64(n)*v.step)
		if !ok || len(s.weight)*n > mostWork {
			return v, false
		}
		t := float64(p.count)
		for j, r := range s.transform(v.step, n) {
			ln := math.Log(math.Hypot(1+real(r), imag(r)))
			if real(r) > -0.5 {
				ln = 0.5 * math.Log1p(2*real(r)+real(r)*real(r)+imag(r)*imag(r))
			}
			arg := math.Atan2(imag(r), 1+real(r))
			if ln < -40 {
				ln, arg = -40, 0 // All error, which is more than it.
			}
			lnSize[j] += t * ln
			angle[j] += t * arg
			// With φ off by at most e, φ^t is off by at most a factor (1+e/|φ|)^t.
			lnMore[j] += t * (math.Log1p((s.errorAt(float64(j)*v.step)+2*math.Exp(-40))*math.Exp(-ln)) + 8*ulp*(math.Abs(ln)+math.Abs(arg)))
		}
	}
	for j := range v.terms {
		y := float64(j) * v.step
		kernel := v.step / math.Pi / (math.Hypot(lambda, y) * math.Hypot(lambda+1, y))
		size := math.Exp(lnSize[j])
		more := size * math.Expm1(min(lnMore[j], 1))
		if lnMore[j] > 1 {
			more = math.Exp(lnSize[j] + lnMore[j])
		}
		v.error += (more*(1+1e-9) + 64*ulp*size + 1e-290) * kernel
		v.sizes += size * (1 + y) * kernel
		sin, cos := math.Sincos(angle[j])
		v.terms[j] *= complex(size*cos, size*sin)
	}
	v.terms[0] /= 2
	v.lnRel = kErr + 8*ulp*(1+math.Abs(k))
	return v, true
}

// chooseWindow picks a W at which copies of the curve around centre are below
// exp(-lnAliases) next to 1.
func (v *inversion) chooseWindow(d direction, deviation, centre float64) bool {
	rise := func(theta float64) float64 {
		k, _, _, err, ok := d.moments(v.lambda + theta)
		if !ok {
			return math.Inf(1)
		}
		return k - v.k + err
	}
	// The best θ is that of a Gaussian, or less where large losses are rare.
	guess := 1.2 * math.Sqrt(2*lnAliases) / deviation
	best := func(sign, most float64) (theta, r, far float64) {
		far = math.Inf(1)
		worse := 0
		for t := guess; t > 1e-5*guess && worse < 3; t *= 0.7 {
			if t >= most {
				continue
			}
			rt := rise(sign * t)
			if f := (rt + lnAliases) / t; f < far {
				theta, r, far, worse = t, rt, f, 0
			} else if !math.IsInf(far, 1) {
				worse++
			}
		}
		return theta, r, far
	}
	var above, below float64
	v.up, v.upRise, above = best(1, math.Inf(1))
	v.down, v.downRise, below = best(-1, v.lambda)
	if far := (lnAliases - v.k) / v.lambda; far < below { // δ is at most 1.
		below, v.down, v.downRise = far, v.lambda, -v.k
	}
	v.window = max(above-centre, below+centre, 12*deviation) * 1.02
	return !math.IsInf(v.window, 0) && v.window > 0
}

// aliases bounds what copies of the curve add to the sum: with δ(ε) at most
// exp(K(λ+θ) - (λ+θ)ε), those W above, 2W above, ... add at most a geometric
// series, and so do those below with λ-θ >= 0.
func (v *inversion) aliases(epsilon float64) float64 {
	above := math.Exp(v.upRise-v.up*(epsilon+v.window)) / -math.Expm1(-v.up*v.window)
	below := math.Exp(v.downRise+v.down*(epsilon-v.window)) / -math.Expm1(-v.down*v.window)
	return (above + below) * math.Exp(v.lnRel) * (1 + 1e-9)
}

// cutOff returns a y beyond which the rule's sum holds at most tail <= wanted.
// With |φ| at most b there, and the sum over 1/|z(z+1)| <= 1/y² at most
// π/(step·limit), that is b/(π·limit).
func (d direction) cutOff(lambda, deviation, wanted, most float64) (limit, tail float64, ok bool) {
	envelopes := make([]func(float64) float64, len(d.phases))
	for i, p := range d.phases {
		s, ok := p.pair.(smooth).spectrum(lambda, 0)
		if !ok {
			return 0, 0, false
		}
		envelopes[i] = p.pair.(smooth).envelope(lambda, s.lnM)
	}
	for limit = 5 / deviation; limit < most; limit *= 1.1 {
		ln := 0.0
		for i, p := range d.phases {
			ln += float64(p.count) * envelopes[i](limit)
		}
		if tail = math.Exp(ln) / (math.Pi * limit); tail <= wanted {
			return limit, tail, true
		}
	}
	return 0, 0, false
}

// bound returns a bound on δ(ε) in the sense s.
func (v *inversion) bound(epsilon float64, s sense) float64 {
	sum := 0.0
	for j, f := range v.terms {
		sin, cos := math.Sincos(float64(j) * v.step * epsilon)
		sum += real(f)*cos + imag(f)*sin
	}
	sum *= v.step / math.Pi
	err := v.error + v.sizes*ulp*(8+float64(len(v.terms))+4*math.Abs(epsilon))
	scale := math.Exp(v.k - v.lambda*epsilon)
	rel := v.lnRel + 8*ulp*(1+math.Abs(v.k)+v.lambda*math.Abs(epsilon))
	if s == downward {
		return max(0, (sum-err-v.aliases(epsilon))*scale*math.Exp(-rel))
	}
	return min(1, max(0, sum+err)*scale*math.Exp(rel))
}

// inverted answers a query between bounds, if the transform allows and the
// bounds meet to wantedWidth. Delta and epsilon are bounded both ways.
func (q *query) inverted() (lower, upper float64, ok bool) {
	if p := q.d.phases; len(p) == 1 && p[0].count == 1 {
		lower, upper, ok = once{p[0].pair}.inverted(q.delta, q.epsilon, q.forEpsilon)
		if ok && upper-lower <= wantedWidth*upper+1e-300 {
			return lower, upper, true
		}
	}
	for _, p := range q.d.phases {
		if _, is := p.pair.(smooth); !is {
			return 0, 0, false
		}
	}
	q.lambda, ok = q.tiltFor()
	if !ok {
		return 0, 0, false
	}
	retilted, best := false, math.Inf(1)
	for range 8 {
		low, high, ok := q.invertedAt()
		settled := ok && high-low > best/2 && best <= widestWidth*upper
		if ok && high-low < best {
			lower, upper, best = low, high, high-low
		}
		switch {
		case settled:
			return lower, upper, true
		case best <= wantedWidth*upper+1e-300:
			return lower, upper, true
		case ok && !retilted && q.forEpsilon:
			// Aim at the answer.
			retilted = true
			lambda, ok := q.saddleAt(high, q.lambda)
			if !ok {
				return 0, 0, false
			}
			q.lambda = lambda
		default:
			// Where large losses are rare, the saddle point lies close to where
			// they take over, and copies of the curve are far away only for a
			// smaller λ.
			q.lambda *= 0.75
		}
	}
	return lower, upper, best <= widestWidth*upper
}

// How far apart inverted bounds may lie, relative: what is tried for, and what
// is still better than the grid.
const (
	wantedWidth = 1e-7
	widestWidth = 1e-4
)

func (q *query) invertedAt() (lower, upper float64, ok bool) {
	k, mean, variance, _, ok := q.d.moments(q.lambda)
	if !ok {
		return 0, 0, false
	}
	centre := q.epsilon
	// About what the integral is.
	scale := 1 / ((1 + q.lambda) * (1 + 2.5*q.lambda*math.Sqrt(variance)))
	if q.forEpsilon {
		centre = max(mean, 0)
		scale = min(scale, q.delta*math.Exp(q.lambda*centre-k))
	}
	v, ok := q.d.invert(q.lambda, centre, 1e-11*scale)
	if !ok {
		return 0, 0, false
	}
	q.points = len(v.terms)
	if !q.forEpsilon {
		if v.k-v.lambda*q.epsilon < -690 { // Out of reach of float64.
			return 0, 0, false
		}
		return v.bound(q.epsilon, downward), v.bound(q.epsilon, upward), true
	}
	if v.bound(0, upward) <= q.delta {
		return 0, 0, true
	}
	upper, ok = v.epsilon(q.delta, upward, centre)
	if !ok {
		return 0, 0, false
	}
	lower, ok = v.epsilon(q.delta, downward, upper)
	return min(lower, upper), upper, ok
}

// epsilon returns an ε with bound(ε, s) at most delta (upward), or at least delta
// (downward), and close to where they are equal. The curve falls, so either
// is a bound on the epsilon of delta, wherever the search ends.
func (v *inversion) epsilon(delta float64, s sense, start float64) (float64, bool) {
	target := math.Log(delta)
	f := func(e float64) float64 {
		b := v.bound(e, s)
		y := math.Log(max(b, 1e-320)) - target
		if b <= delta {
			return min(y, -1e-300)
		}
		return max(y, 1e-300)
	}
	// The bound falls about like exp(-λε) and slower nearer 0.
	x := start
	y := f(x)
	lo, hi := math.Inf(-1), math.Inf(1) // f(lo) > 0 >= f(hi).
	yLo, yHi := 0.0, 0.0
	set := func(x, y float64) {
		if y > 0 && x > lo {
			lo, yLo = x, y
		} else if y <= 0 && x < hi {
			hi, yHi = x, y
		}
	}
	set(x, y)
	margin := 2.0 // Digits that are not wanted, as a multiple of 1e-13.
	for i := range 200 {
		width := hi - lo
		if !math.IsInf(width, 1) && width <= 1e-12*hi {
			break
		}
		var next float64
		switch {
		case math.IsInf(hi, 1):
			next = lo + 1.5*yLo/(v.lambda+1) + 1e-300
		case math.IsInf(lo, -1):
			next = hi + 1.5*min(yHi, -1e-9)/v.lambda
			if next <= 0 {
				next = 0
			}
			if hi == 0 {
				return 0, true
			}
		case i%3 == 2:
			next = lo + width/2
		default:
			// The secant, moved so that the root falls on the far side of it in
			// turn and both ends close in.
			next = lo + width*yLo/(yLo-yHi) + margin*1e-13*hi
			margin = -margin
		}
		if !(next > lo && next < hi) {
			next = lo + width/2
		}
		if math.IsInf(next, 0) || math.IsNaN(next) {
			return 0, false
		}
		set(next, f(next))
	}
	if s == upward {
		return hi, !math.IsInf(hi, 1)
	}
	return max(lo, 0), true
}
