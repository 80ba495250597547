package accountant

import (
	"math"

	"gonum.org/v1/gonum/dsp/fourier"
)

// tilted is one phase's measure weighted by exp(λ loss) and scaled to sum 1.
type tilted struct {
	offset float64
	first  int
	count  int
	weight []float64
	lnM    float64 // ln Σ mass exp(λ loss).
	lnRel  float64 // Every weight is right up to a factor exp(±lnRel).
}

func (m *measure) tilt(lambda, h, scale float64, count int) tilted {
	t := tilted{offset: m.offset, first: m.first, count: count, weight: make([]float64, len(m.mass))}
	sum, largest := 0.0, 0.0
	for i, mass := range m.mass {
		if mass == 0 {
			continue
		}
		e := lambda*(m.offset+float64(m.first+i)*h) - scale
		w := mass * math.Exp(e)
		t.weight[i] = w
		sum += w
		if w > 1e-18 {
			largest = max(largest, math.Abs(e))
		}
	}
	for i := range t.weight {
		t.weight[i] /= sum
	}
	t.lnM = scale + math.Log(sum)
	// exp(e) is wrong by a factor 1 + |e| ulp; the sum adds pairwise-random
	// errors, bounded here by the square root of its length times 4.
	t.lnRel = ulp * (8 + 2*largest + math.Abs(scale) + 4*math.Sqrt(float64(len(t.weight))))
	return t
}

// lnMean returns ln Σ weight exp(θ loss).
func (t *tilted) lnMean(theta, h float64) float64 {
	low, high := t.offset+float64(t.first)*h, t.offset+float64(t.first+len(t.weight)-1)*h
	shift := 0.0
	if math.Abs(theta)*max(math.Abs(low), math.Abs(high)) > 600 { // exp could overflow.
		shift = math.Inf(-1)
		for i, w := range t.weight {
			if w > 0 {
				shift = max(shift, math.Log(w)+theta*(low+float64(i)*h))
			}
		}
	}
	sum := 0.0
	for i, w := range t.weight {
		if w > 0 {
			sum += w * math.Exp(theta*(low+float64(i)*h)-shift)
		}
	}
	return shift + math.Log(sum)
}

// composed is the loss distribution of a whole composition, tilted: the mass
// at loss(j) = offset + (base+j)·h is exp(lnScale - λ·loss(j)) · weight[j].
type composed struct {
	offset    float64
	h, lambda float64
	base      int
	weight    []float64
	lnScale   float64
	noise     float64 // Bound on the absolute rounding error of each weight.
	lnRel     float64 // Bound on the relative rounding of the whole, ln.
	above     float64 // Untilted mass above the window, at most.
	wrapped   float64 // Tilted mass from outside that wraps into the window, at most.
	inf       float64 // Untilted mass at infinity, at most.
	slack     float64 // Shift of the loss through rounding, at most.
}

// compose convolves count copies of each measure by FFT, after tilting. A
// circular convolution of length n is exact up to wrapping; mass that wraps
// only adds to entries, and is bounded.
//
// The results do not depend on scales, about ln E[exp(λ L)] by phase, or on
// the θ, but rounding and the length do.
func compose(measures []measure, phases []phase, scales []float64, lambda, h, thetaDown, thetaUp float64) composed {
	c := composed{h: h, lambda: lambda}
	parts := make([]tilted, len(measures))
	keepFinite := 0.0 // ln of the chance that no loss is infinite.
	lnUp, lnDown := 0.0, 0.0
	// Beyond θ = 1/h the grid itself would widen the Chernoff bounds.
	thetaUp, thetaDown = min(thetaUp, 1/h), min(thetaDown, 1/h)
	for i := range measures {
		count := phases[i].count
		parts[i] = measures[i].tilt(lambda, h, scales[i], count)
		p := &parts[i]
		t := float64(count)
		c.lnScale += t * p.lnM
		c.lnRel += t * p.lnRel
		c.slack += t * measures[i].slack
		c.offset += t * measures[i].offset
		keepFinite += t * math.Log1p(-min(measures[i].inf, 1))
		lnUp += t * p.lnMean(thetaUp, h)
		lnDown += t * p.lnMean(-thetaDown, h)
	}
	c.inf = -math.Expm1(keepFinite) * (1 + 1e-12)
	// Chernoff bounds of the measures themselves, at the θ given.
	top := (lnUp + lnOutside) / thetaUp
	bottom := -(lnDown + lnOutside) / thetaDown
	c.base = int(math.Floor((bottom-c.offset)/h)) - 1
	n := smoothLength(int(math.Ceil((top-c.offset)/h)) + 1 - c.base)
	start, end := c.loss(0), c.loss(n)
	lnAbove := min(lnUp-thetaUp*end, 0) + 1e-9
	lnBelow := min(lnDown+thetaDown*start, 0) + 1e-9
	c.wrapped = math.Exp(lnAbove) + math.Exp(lnBelow)
	c.above = math.Exp(c.lnScale - lambda*end + lnAbove)
	c.weight, c.noise = power(parts, n, c.base)
	c.lnRel += 16 * ulp * (math.Abs(c.lnScale) + lambda*max(math.Abs(end), math.Abs(start)))
	return c
}

// power returns the n-periodic convolution of all parts, each taken count
// times, starting at index base, and a bound on the error of each entry.
//
// Each FFT coefficient is a sum along paths of log2(n) butterflies, so its
// error is at most gamma = c·log2(n)·ulp times the sum of the weights, which
// is 1. A product of powers of them is then wrong by at most
// Π (|F| + gamma)^count - Π |F|^count, and the inverse transform by gamma more.
func power(parts []tilted, n, base int) (weight []float64, noise float64) {
	fft := fourier.NewFFT(n)
	gamma := 40 * ulp * math.Log2(float64(n)) // gonum's twiddles are good to a few ulp.
	buffer := make([]float64, n)
	product := make([]complex128, n/2+1)
	coeff := make([]complex128, n/2+1)
	lnMost := make([]float64, n/2+1) // ln of what |product[k]| may be, with all errors.
	offset := 0
	for i := range parts {
		p := &parts[i]
		clear(buffer)
		for k, w := range p.weight {
			buffer[wrap(k, n)] += w
		}
		fft.Coefficients(coeff, buffer)
		t := float64(p.count)
		for k, f := range coeff {
			most := t * (math.Log(math.Hypot(real(f), imag(f))+gamma) + 4*ulp)
			lnMost[k] += most
			if most < -120 {
				coeff[k] = 0 // Left out, and paid for by lnMost.
			} else {
				coeff[k] = powInt(f, p.count)
			}
			if i == 0 {
				product[k] = coeff[k]
			} else {
				product[k] *= coeff[k]
			}
		}
		offset = wrap(offset+wrap(p.first, n)*wrap(p.count, n), n)
	}
	for k, f := range product {
		size := math.Hypot(real(f), imag(f))
		if most := math.Exp(lnMost[k]); most > size {
			noise += most - size
		}
		noise += size * gamma
	}
	// Twice for the conjugate half.
	noise = (2*noise + float64(n)*1e-290) / float64(n)
	fft.Sequence(buffer, product)
	weight = make([]float64, n)
	for j := range weight {
		// Entry of loss index base+j; the sum's index 0 stands for offset.
		weight[j] = buffer[wrap(base+j-offset, n)] / float64(n)
	}
	return weight, noise
}

func wrap(i, n int) int {
	if i %= n; i < 0 {
		i += n
	}
	return i
}

// powInt returns z^n by repeated squaring, with error about n ulp.
func powInt(z complex128, n int) complex128 {
	r := complex(1, 0)
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			r *= z
		}
		z *= z
	}
	return r
}

// smoothLength returns the least 2^a, 3·2^a, 5·2^a or 15·2^a >= n, even: lengths
// for which gonum's FFT is fast. More threes and fives cost more than they save.
func smoothLength(n int) int {
	n = max(n, 64)
	best := 1 << 62
	for _, m := range [4]int{2, 6, 10, 30} {
		for m < n {
			m *= 2
		}
		best = min(best, m)
	}
	return best
}

// sense says which way rounding goes.
type sense int

const (
	upward   sense = 1  // Upper bounds: errors are added.
	downward sense = -1 // Lower bounds: errors are taken away.
)

// loss returns the privacy loss of entry j.
func (c *composed) loss(j int) float64 { return c.offset + float64(c.base+j)*c.h }

// mass returns the bound on the untilted mass of entry j.
func (c *composed) mass(j int, s sense) float64 {
	w := max(0, c.weight[j]+float64(s)*c.noise)
	if w == 0 {
		return 0
	}
	return math.Exp(c.lnScale-c.lambda*c.loss(j)) * w
}

// epsilon returns the least epsilon at which the hockey-stick curve of c, with
// all errors in the sense s, is at most delta. found is false when it lies
// left of the window.
//
// With D(b) = Σ_{j>b} A_j (1 - exp(s_b - s_j)) and S(b) = Σ_{j>b} A_j,
//
//	D(b-1) = (1 - e^-h) (S(b) + A_b) + e^-h D(b)
//
// has positive terms only: nothing cancels, however small delta is.
func (c *composed) epsilon(delta float64, s sense) (epsilon float64, found bool) {
	extra, target := c.charges(s, delta)
	if extra >= target {
		return math.Inf(1), true
	}
	width, decay := -math.Expm1(-c.h), math.Exp(-c.h)
	sum, d := 0.0, 0.0 // S(b) and D(b).
	for b := len(c.weight) - 1; b > 0; b-- {
		a := c.mass(b, s)
		nextSum := sum + a
		nextD := width*nextSum + decay*d
		lost := c.lost(b-1, s)
		if nextD+extra-lost > target {
			// delta(ε) = extra + S - e^(ε-s) (S - D) on the cell right of s.
			left := c.loss(b - 1)
			return left + min(math.Log1p((extra+nextD-lost-target)/(nextSum-nextD)), c.h) + float64(s)*c.slack, true
		}
		sum, d = nextSum, nextD
	}
	if s == downward { // Nothing is known left of the window.
		return 0, false
	}
	return c.loss(0) + c.slack, false
}

// charges returns mass to add to every delta, and delta scaled for relative
// rounding.
func (c *composed) charges(s sense, delta float64) (extra, target float64) {
	if s == downward {
		return 0, delta * math.Exp(min(c.lnRel, 50))
	}
	return c.inf + c.above, delta * math.Exp(-c.lnRel)
}

// lost returns what wrapped mass may have added to delta at entry b.
func (c *composed) lost(b int, s sense) float64 {
	if s == upward {
		return 0
	}
	return math.Exp(c.lnScale-c.lambda*c.loss(b)) * c.wrapped
}

// delta returns the bound on the hockey-stick divergence at epsilon.
func (c *composed) delta(epsilon float64, s sense) float64 {
	epsilon -= float64(s) * c.slack
	extra, _ := c.charges(s, 1)
	width, decay := -math.Expm1(-c.h), math.Exp(-c.h)
	sum, d, previous := 0.0, 0.0, 0.0
	top := c.loss(len(c.weight) - 1)
	if epsilon >= top {
		if s == downward {
			return 0
		}
		return min(1, extra*math.Exp(c.lnRel))
	}
	b := len(c.weight) - 1
	for ; b > 0 && c.loss(b) > epsilon; b-- {
		previous = d
		sum += c.mass(b, s)
		d = width*sum + decay*d
	}
	left := c.loss(b)
	if left > epsilon { // Left of the window.
		if s == upward {
			return 1
		}
		epsilon = left
	}
	// Linear in e^ε between D(b) and D(b+1).
	v := max(previous, d-math.Expm1(epsilon-left)*(sum-d)) + extra - c.lost(b, s)
	v *= math.Exp(float64(s) * min(c.lnRel, 50))
	return min(1, max(0, v))
}
