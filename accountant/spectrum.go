package accountant

import "math"

// spectrum is one step's tilted loss distribution as nodes of a quadrature:
// for |y| <= limit
//
//	E_P[exp((λ+iy) L)] = exp(lnM) Σ weight[k] exp(iy loss[k])
//
// up to the errors of errorAt. Weights are positive and sum to 1.
type spectrum struct {
	lambda, limit  float64
	loss, weight   []float64
	lnM            float64 // K(λ) of the step.
	mean, variance float64 // K'(λ), K''(λ).
	lnErr          float64 // Error of lnM.
	missing        float64 // Error of the sum from the rule itself.
	most, perY     float64 // Errors of the sum from rounding: 2·most, and y·perY if that is less.
	shift          float64 // The same from that of losses, by unit of y.
}

// errorAt bounds the error of transform at y. Rounding of a weight counts
// times |exp(iy loss) - 1|, because all weights add to 1.
func (s *spectrum) errorAt(y float64) float64 {
	return s.missing + min(2*s.most, y*s.perY) + y*s.shift
}

// meanSize returns E|L|.
func (s *spectrum) meanSize() float64 {
	sum := 0.0
	for k, w := range s.weight {
		sum += w * math.Abs(s.loss[k])
	}
	return sum
}

const (
	refresh = 32  // Recurrence steps of transform between fresh sines.
	block   = 128 // Terms of a sum that are added up before they join it.
)

// smooth is a pair whose transform z -> E_P[exp(z L)] is known for complex z,
// and falls along the imaginary axis.
type smooth interface {
	// spectrum returns the transform near λ >= 0 for |y| <= limit; ok is false
	// when that takes too many nodes.
	spectrum(lambda, limit float64) (s spectrum, ok bool)
	// envelope returns a bound on ln |φ| for all y >= limit, as a function of
	// limit, with φ the transform over its value at y = 0, exp(lnM).
	envelope(lambda, lnM float64) func(limit float64) float64
}

// mostNodes is the longest quadrature.
const mostNodes = 1 << 14

// spectrum applies the trapezoidal rule to
//
//	∫ N(x; 0, s²) R(x)^(1+z) S(-x)^(-z) dx,    z = λ+iy,
//
// with R and S the density ratios of P and Q to N(0, s²). For x+ia with θ = a/s²
// and cθ, dθ < π (c, d the largest centres) the terms of R lie in a cone of
// angle cθ: |R| <= R(x), |arg R| <= cθ, and likewise S, with |S| >= S(-x)
// cos(dθ/2). So there the integrand is analytic, and at most
//
//	exp(a²/2s² + |y|(c+d)θ) cos(dθ/2)^(-λ)
//
// times the one at real x and y = 0. The error of the rule is at most
// 2/(exp(2πa/dx) - 1) times the integral of that (Trefethen, Weideman 2014, Thm.
// 5.1, https://doi.org/10.1137/130932132). step picks dx to make this
// exp(-lnQuadrature).
func (m *mixture) spectrum(lambda, limit float64) (spectrum, bool) {
	p := spectrum{lambda: lambda, limit: limit}
	s, v := m.s, m.s*m.s
	dx := m.step(lambda, limit, m.up.centres[len(m.up.centres)-1], m.down.centres[len(m.down.centres)-1])
	lo, hi := m.peaks(lambda)
	lo, hi = lo-nodeReach*s, hi+nodeReach*s
	first, last := math.Floor(lo/dx), math.Ceil(hi/dx)
	if last-first > mostNodes {
		return p, false
	}
	n := int(last-first) + 1
	// The integrand is the density of N(0, s²), exp(-base), times exp(rise).
	bases, rises, losses := make([]float64, n), make([]float64, n), make([]float64, n)
	errors, shifts := make([]float64, n), make([]float64, n) // Of the rises and the losses.
	top, largest := math.Inf(-1), 0.0
	for i := range n {
		x := (first + float64(i)) * dx // Exact: dx has few digits.
		a, b := m.ratio(x, m.up, m.logUp), m.ratio(-x, m.down, m.logDown)
		aErr, bErr := ulp*m.ratioSize(x, a, m.up), ulp*m.ratioSize(x, b, m.down)
		bases[i], rises[i], losses[i] = x*x/(2*v), (1+lambda)*a-lambda*b, a-b
		errors[i] = 2*(1+lambda)*aErr + 2*lambda*bErr
		shifts[i] = aErr + bErr + 3*ulp*math.Abs(losses[i])
		top = max(top, rises[i]-bases[i])
		if bases[i] < lnNegligible {
			largest = max(largest, math.Abs(rises[i]))
		}
	}
	sum, small, smallErr := 0.0, 0.0, 0.0
	weights := make([]float64, n)
	for i := range n {
		weights[i] = math.Exp(rises[i] - bases[i] - top)
	}
	for from := 0; from < n; from += block {
		part := 0.0
		for _, w := range weights[from:min(from+block, n)] {
			part += w
		}
		sum += part
	}
	summing := (block + float64(n)/block) * ulp
	// What lies beyond both ends falls by exp(-nodeReach dx/s) a node at least.
	beyond := (weights[0] + weights[n-1]) / math.Expm1(nodeReach*dx/s)
	p.missing = 2 * (beyond/sum + 4*math.Exp(-lnQuadrature) + float64(n)*math.Exp(-lnNegligible))
	rel := 0.0 // Relative error of all weights together.
	for i, w := range weights {
		rel += w / sum * (errors[i] + (6*bases[i]+2*math.Abs(rises[i])+2*math.Abs(top)+8)*ulp)
	}
	rel += summing
	for i, w := range weights {
		if w < math.Exp(-lnNegligible)*sum {
			continue
		}
		w /= sum
		l := losses[i]
		// One weight may be off by its own error, and all by rel; sums and
		// recurrences of transform add the rest.
		c := w * (errors[i] + (6*bases[i]+2*math.Abs(rises[i])+2*math.Abs(top)+8)*ulp + rel + summing + (8*refresh+16)*ulp)
		p.weight, p.loss = append(p.weight, w), append(p.loss, l)
		p.most += c
		p.perY += c * math.Abs(l)
		p.shift += w * shifts[i]
		p.mean += w * l
	}
	for k, w := range p.weight {
		p.variance += w * (p.loss[k] - p.mean) * (p.loss[k] - p.mean)
	}
	density := dx / (s * math.Sqrt(2*math.Pi))
	p.lnM = top + math.Log(sum*density)
	p.lnErr = rel + p.missing + ulp*(8+4*math.Abs(top))
	if largest < 1 && top < 1 && lo <= -nodeReach*s && hi >= nodeReach*s {
		// M - 1 = ∫ N (exp(rise) - 1): keeps what is far below 1.
		for from := 0; from < n; from += block {
			part := 0.0
			for i := from; i < min(from+block, n); i++ {
				if bases[i] >= lnNegligible { // Without what is below 1.
					g := density * math.Exp(rises[i]-bases[i])
					part += g
					smallErr += g * (errors[i] + (6*bases[i]+2*math.Abs(rises[i])+8)*ulp + summing)
					continue
				}
				g := density * math.Exp(-bases[i])
				e := math.Expm1(rises[i])
				part += g * e
				smallErr += g * (math.Abs(e)*((6*bases[i]+8)*ulp+summing) + (1+math.Abs(e))*errors[i])
			}
			small += part
		}
		p.lnM = math.Log1p(small)
		p.lnErr = (smallErr+p.missing)/(1+small) + 4*ulp*math.Abs(p.lnM)
	}
	return p, p.lnErr < 1 && !math.IsInf(p.lnM, 0) // Also not NaN.
}

// peaks returns points between which the log integrand of spectrum has all
// its peaks, and outside of which it falls at least like N(0, s²). Its slope is
// ((1+λ) c(x) + λ d(-x) - x)/s², with c and d the posterior mean centres.
func (m *mixture) peaks(lambda float64) (lo, hi float64) {
	cMin, cMax := m.up.centres[0], m.up.centres[len(m.up.centres)-1]
	dMin, dMax := m.down.centres[0], m.down.centres[len(m.down.centres)-1]
	lo, hi = (1+lambda)*cMin+lambda*dMin, (1+lambda)*cMax+lambda*dMax
	if cMin == cMax { // One peak, because d(-x) falls.
		for hi-lo > 0.01*m.s {
			x := lo + (hi-lo)/2
			if (1+lambda)*cMin+lambda*m.posterior(-x, m.down, m.logDown) > x {
				lo = x
			} else {
				hi = x
			}
		}
	}
	return min(lo, 0), max(hi, 0)
}

// ratioSize bounds the error of a = ratio(±x) in units of ulp.
func (m *mixture) ratioSize(x, a float64, sh shift) float64 {
	centre := sh.centres[len(sh.centres)-1]
	if centre == 0 {
		return 0
	}
	u := centre * (math.Abs(x) + centre) / (m.s * m.s)
	size := 4 + 4*u + 3*math.Abs(a)
	if len(sh.centres) == 1 || len(sh.centres) == 2 && sh.centres[0] == 0 {
		// log1p(q expm1(u)) keeps small values relative: u q e^u / (1 - q + q e^u)
		// is at most (1+|u|) times that.
		size = min(size, 4*math.Abs(a)*(1+u))
	}
	return size
}

const (
	lnQuadrature = 45
	lnNegligible = 48
	nodeReach    = 10
)

// step returns the distance of nodes, with at most 20 binary digits.
func (m *mixture) step(lambda, limit, cMax, dMax float64) float64 {
	v := m.s * m.s
	best := 0.0
	for i := 1; i <= 32; i++ {
		theta := 0.98 * math.Pi / max(cMax, dMax) * float64(i) / 32
		// A Gaussian bound alone would take a = s·sqrt(2 lnQuadrature).
		theta = min(theta, float64(i)/16*math.Sqrt(2*lnQuadrature)/m.s)
		a := theta * v
		exponent := lnQuadrature + a*a/(2*v) + limit*(cMax+dMax)*theta - lambda*math.Log(math.Cos(dMax*theta/2))
		best = max(best, 2*math.Pi*a/exponent)
	}
	fraction, exponent := math.Frexp(best)
	return math.Ldexp(math.Floor(fraction*(1<<20))/(1<<20), exponent)
}

// transform returns Σ weight (exp(i j Δ loss) - 1) for j = 0..n-1: the
// characteristic function less 1, which for small losses is far below 1.
func (s *spectrum) transform(delta float64, n int) []complex128 {
	out := make([]complex128, n)
	size := len(s.weight)
	re, im := make([]float64, size), make([]float64, size)
	stepRe, stepIm := make([]float64, size), make([]float64, size) // exp(iΔl).
	addRe, addIm := make([]float64, size), make([]float64, size)   // weight (exp(iΔl) - 1).
	for k, l := range s.loss {
		less, sin := turn(delta * l)
		stepRe[k], stepIm[k] = 1+less, sin
		addRe[k], addIm[k] = s.weight[k]*less, s.weight[k]*sin
	}
	for j := range n {
		if j%refresh == 0 {
			y := float64(j) * delta
			for k, w := range s.weight {
				less, sin := turn(y * s.loss[k])
				re[k], im[k] = w*less, w*sin
			}
		}
		for from := 0; from < size; from += block {
			to := min(from+block, size)
			out[j] += advance(re[from:to], im[from:to], stepRe[from:to], stepIm[from:to], addRe[from:to], addIm[from:to])
		}
	}
	return out
}

// advance returns Σ (re + i im), and replaces each by itself times step plus add.
func advance(re, im, stepRe, stepIm, addRe, addIm []float64) complex128 {
	n := len(re)
	im, stepRe, stepIm, addRe, addIm = im[:n], stepRe[:n], stepIm[:n], addRe[:n], addIm[:n]
	var sumRe, sumIm float64
	for k, r := range re {
		i := im[k]
		sumRe += r
		sumIm += i
		re[k] = r*stepRe[k] - i*stepIm[k] + addRe[k]
		im[k] = r*stepIm[k] + i*stepRe[k] + addIm[k]
	}
	return complex(sumRe, sumIm)
}

// turn returns cos(a) - 1 and sin(a), both to relative accuracy.
func turn(a float64) (less, sin float64) {
	sin, cos := math.Sincos(a / 2)
	return -2 * sin * sin, 2 * sin * cos
}
