package recount

import (
	"fmt"
	"math"
	"math/cmplx"
)

// contour holds the integrand of δ along Re s = c without its factor
// exp(-s ε), at imaginary parts 0, step, 2·step, …
type contour struct {
	c, lnScale float64 // lnScale is K(c).
	step       float64
	value      []complex128 // exp(K(c+iu) - K(c)) / ((c+iu)(c+1+iu)).
	tail       float64      // Estimate of what lies beyond the last point.
}

const (
	// lnAccuracy is ln of the relative error of δ that is aimed at, lnEnough of
	// that which is taken where more would take too long.
	lnAccuracy, lnEnough = -23, -12
	// mostWork bounds the number of terms of all sums along a contour.
	mostWork = 3e7
)

// saddle returns the c that minimises (K(c) - ln(c (c+1)) - ln δ)/c, and the
// minimum: about the ε at which the divergence is δ, and where the integrand
// falls off fastest there.
//
// bound is Chernoff's bound on that ε, (K(c) - ln δ)/c.
func (d *direction) saddle(delta float64) (c, epsilon, bound float64) {
	f := func(lnC float64) float64 {
		c := math.Exp(lnC)
		return (d.lnMoment(c) - math.Log(c) - math.Log1p(c) - math.Log(delta)) / c
	}
	const from, to, stride = -7.0, 11.5, 0.5
	best, at := math.Inf(1), from
	for x := from; x <= to; x += stride {
		if v := f(x); v < best {
			best, at = v, x
		} else if x > at+2 {
			break // It rises, and has one minimum.
		}
	}
	const ratio = 0.6180339887498949
	low, high := at-stride, at+stride
	a, b := high-ratio*(high-low), low+ratio*(high-low)
	fa, fb := f(a), f(b)
	for high-low > 1e-3 {
		if fa < fb {
			high, b, fb = b, a, fa
			a = high - ratio*(high-low)
			fa = f(a)
		} else {
			low, a, fa = a, b, fb
			b = low + ratio*(high-low)
			fb = f(b)
		}
	}
	c = math.Exp((low + high) / 2)
	k := d.lnMoment(c)
	return c, (k - math.Log(c) - math.Log1p(c) - math.Log(delta)) / c, (k - math.Log(delta)) / c
}

// period returns how far apart copies of the loss may lie that the trapezoidal
// rule adds up: it computes Σ_k δ(ε + k·period) exp(k·c·period). To the left,
// δ is at most 1; to the right, Chernoff bounds it.
func (d *direction) period(c, epsilon, delta float64) float64 {
	left := (-math.Log(delta) - lnAccuracy) / c
	right := math.Inf(1)
	for _, times := range []float64{1.1, 1.25, 1.5, 2, 3, 5} {
		other := c * times
		right = min(right, (d.lnMoment(other)-other*epsilon-math.Log(delta)-lnAccuracy)/(other-c))
	}
	return max(left, right, 1e-3)
}

// contour evaluates the integrand for ε near the one given until what is left
// no longer matters.
func (d *direction) contour(c, epsilon, delta float64) (*contour, error) {
	k := &contour{c: c, step: 2 * math.Pi / d.period(c, epsilon, delta)}
	for i := range d.pairs {
		k.lnScale += d.pairs[i].count * d.pairs[i].tilt(c, 1).lnMean
	}
	// Relative to exp(K(c) - cε), the result is about delta.
	wanted := math.Exp(math.Log(delta) - k.lnScale + c*epsilon + lnAccuracy)
	work, rise := 0.0, 1
	var lines []line
	until := -1.0
	quiet := 0
	for n := 0; ; n++ {
		u := float64(n) * k.step
		if u > until {
			// A sum with spacing h takes losses that turn slower than 2π/h.
			lines = lines[:0]
			for until = u; until <= u; rise *= 2 {
				lines, until = lines[:0], math.Inf(1)
				for i := range d.pairs {
					p := &d.pairs[i]
					h := min(p.sigma/6, p.sigma*p.sigma/2) / float64(rise)
					lines = append(lines, newLine(p.tilt(c, rise), u, k.step))
					work += 20 * float64(len(lines[i].loss))
					until = min(until, (2*math.Pi/h-2*width/p.sigma)/p.slope)
				}
			}
		}
		s := complex(c, u)
		ln := -cmplx.Log(s) - cmplx.Log(s+1)
		for i := range lines {
			ln += complex(lines[i].count, 0) * cmplx.Log(lines[i].mean())
			work += float64(len(lines[i].turned))
		}
		v := cmplx.Exp(ln)
		if cmplx.IsNaN(v) {
			v = 0 // ln of a mean that is 0.
		}
		k.value = append(k.value, v)
		k.tail = cmplx.Abs(v) * max(u, k.step) / math.Pi
		if k.tail < wanted {
			quiet++
		} else {
			quiet = 0
		}
		if quiet > 16 {
			return k, nil
		}
		if work > mostWork {
			if k.tail < wanted*math.Exp(lnEnough-lnAccuracy) {
				return k, nil
			}
			return nil, fmt.Errorf("%w after %d points of the contour", ErrUnsettled, n)
		}
	}
}

// line turns with u: it keeps weight·exp(i u loss) for each point.
type line struct {
	tilted
	turned, by []complex128
}

func newLine(t tilted, u, step float64) line {
	l := line{tilted: t, turned: make([]complex128, len(t.loss)), by: make([]complex128, len(t.loss))}
	for i, loss := range t.loss {
		sin, cos := math.Sincos(u * loss)
		l.turned[i] = complex(t.weight[i]*cos, t.weight[i]*sin)
		sin, cos = math.Sincos(step * loss)
		l.by[i] = complex(cos, sin)
	}
	return l
}

// mean returns E[exp(i u L)] under the tilted measure, and steps u on.
func (l *line) mean() complex128 {
	var sum complex128
	for i, by := range l.by {
		v := l.turned[i]
		sum += v
		l.turned[i] = v * by
	}
	return sum
}

// delta returns δ(ε) and an estimate of its absolute error.
func (k *contour) delta(epsilon float64) (delta, err float64) {
	sum := real(k.value[0]) / 2
	for n := 1; n < len(k.value); n++ {
		sin, cos := math.Sincos(float64(n) * k.step * epsilon)
		v := k.value[n]
		sum += real(v)*cos + imag(v)*sin
	}
	scale := math.Exp(k.lnScale - k.c*epsilon)
	return scale * sum * k.step / math.Pi, scale * (k.tail + sum*k.step*2*math.Exp(lnAccuracy))
}
