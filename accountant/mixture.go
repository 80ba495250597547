package accountant

import (
	"math"

	"gonum.org/v1/gonum/stat/combin"
)

// shift is a distribution of centres: the sum moves by centre with probability
// weight. Centres grow and are not negative; weights add to 1.
type shift struct {
	weights, centres []float64
}

func certain(centre float64) shift { return shift{[]float64{1}, []float64{centre}} }

// binomialShift is the number of one unit's k examples that a Poisson sample
// with probability q takes; each moves the sum by at most 1 in one direction
// in the worst case (the mixture of Gaussians mechanism,
// https://arxiv.org/abs/2310.15526).
func binomialShift(k int, q float64) shift {
	if q == 1 {
		return certain(float64(k))
	}
	var s shift
	for j := 0; j <= k; j++ {
		w := combin.LogGeneralizedBinomial(float64(k), float64(j)) + float64(j)*math.Log(q) + float64(k-j)*math.Log1p(-q)
		if k == 1 {
			w = [2]float64{math.Log1p(-q), math.Log(q)}[j]
		}
		if p := math.Exp(w); p > 0 {
			s.weights = append(s.weights, p)
			s.centres = append(s.centres, float64(j))
		}
	}
	if k == 1 {
		s.weights[0], s.weights[1] = 1-q, q
	} else {
		s.roundUp()
	}
	return s
}

// roundUp makes the weights add to 1 again by moving the missing mass to the
// largest centre, or the excess away from the smallest one.
func (s *shift) roundUp() {
	sum := 0.0
	for _, w := range s.weights {
		sum += w
	}
	if sum <= 1 {
		s.weights[len(s.weights)-1] += 1 - sum
	} else {
		s.weights[0] = max(0, s.weights[0]-(sum-1))
	}
}

// mixture is the pair P = Σ w_j N(c_j, s²) and Q = Σ v_j N(-d_j, s²) with
// c_j, d_j >= 0: Gaussian noise on a sum that one unit moves up under P and
// down under Q, by a random amount where there is sampling.
type mixture struct {
	s        float64 // Noise standard deviation / clipping norm.
	up, down shift
	q        float64 // Sampling probability when both shifts are certain or one draw.
	kind     mixtureKind
	logUp    []float64 // ln of the weights.
	logDown  []float64
}

type mixtureKind int

const (
	anyMixture mixtureKind = iota
	bothCertain
	upSampled   // (1-q) N(0) + q N(1) against N(0).
	downSampled // N(0) against (1-q) N(0) + q N(-1).
	bothSampled // (1-q) N(0) + q N(±1).
)

func newMixture(s float64, up, down shift) *mixture {
	m := &mixture{s: s, up: up, down: down}
	for _, w := range up.weights {
		m.logUp = append(m.logUp, math.Log(w))
	}
	for _, w := range down.weights {
		m.logDown = append(m.logDown, math.Log(w))
	}
	single := func(s shift) bool { return len(s.centres) == 1 }
	atZero := func(s shift) bool { return single(s) && s.centres[0] == 0 }
	drawn := func(s shift) bool { return len(s.centres) == 2 && s.centres[0] == 0 && s.centres[1] == 1 }
	switch {
	case single(up) && single(down):
		m.kind = bothCertain
	case drawn(up) && atZero(down):
		m.kind, m.q = upSampled, up.weights[1]
	case atZero(up) && drawn(down):
		m.kind, m.q = downSampled, down.weights[1]
	case drawn(up) && drawn(down) && up.weights[1] == down.weights[1]:
		m.kind, m.q = bothSampled, up.weights[1]
	}
	return m
}

// ratio returns ln Σ w_j exp((2 c_j x - c_j²) / 2s²): the log density of the
// shifted noise over the density of the noise.
func (m *mixture) ratio(x float64, sh shift, logs []float64) float64 {
	v := m.s * m.s
	if len(sh.centres) == 1 {
		c := sh.centres[0]
		return c * (x - c/2) / v
	}
	if len(sh.centres) == 2 && sh.centres[0] == 0 {
		c, q := sh.centres[1], sh.weights[1]
		return sampledLoss(c*(x-c/2)/v, q)
	}
	top := math.Inf(-1)
	for j, c := range sh.centres {
		top = max(top, logs[j]+c*(x-c/2)/v)
	}
	sum := 0.0
	for j, c := range sh.centres {
		sum += math.Exp(logs[j] + c*(x-c/2)/v - top)
	}
	return top + math.Log(sum)
}

// sampledLoss returns ln(1 - q + q e^u), accurate where it is near zero.
func sampledLoss(u, q float64) float64 {
	if u > 700 {
		return u + math.Log(q+(1-q)*math.Exp(-u))
	}
	return math.Log1p(q * math.Expm1(u))
}

// unsampledLoss is the inverse of sampledLoss in u: ln((e^g - 1 + q) / q).
func unsampledLoss(g, q float64) float64 {
	if g > 1 {
		return g - math.Log(q) + math.Log1p(-(1-q)*math.Exp(-g))
	}
	y := math.Expm1(g) / q
	if y <= -1 {
		return math.Inf(-1)
	}
	return math.Log1p(y)
}

func (m *mixture) loss(x float64) float64 {
	return m.ratio(x, m.up, m.logUp) - m.ratio(-x, m.down, m.logDown)
}

func (m *mixture) cut(g float64) float64 {
	v := m.s * m.s
	switch m.kind {
	case bothCertain: // L(x) = (c + d) x / s² - (c² - d²) / 2s².
		c, d := m.up.centres[0], m.down.centres[0]
		return v*g/(c+d) + (c-d)/2
	case upSampled:
		return v*unsampledLoss(g, m.q) + 0.5
	case downSampled:
		return -(v*unsampledLoss(-g, m.q) + 0.5)
	case bothSampled:
		return v * cutReplace(g, m.q, v)
	}
	return m.solve(g)
}

// cutReplace returns x/v for the loss g of (1-q) N(0) + q N(±1):
// with u = x/v and a = ln((1-q)/q) + 1/2v, sinh(u - g/2) = sinh(g/2) e^a.
func cutReplace(g, q, v float64) float64 {
	if g == 0 {
		return 0
	}
	e := math.Abs(g)
	a := math.Log((1-q)/q) + 1/(2*v)
	// ln sinh(e/2), without overflow and without cancellation.
	ls := e/2 - math.Ln2 + math.Log(-math.Expm1(-e))
	y := ls + a
	var u float64
	if y > 18 { // asinh(e^y) = y + ln 2 + e^(-2y)/4 - ...
		u = y + math.Ln2
	} else {
		u = math.Asinh(math.Exp(y))
	}
	return math.Copysign(u+e/2, g)
}

// solve inverts the loss by Newton's method inside a shrinking bracket; the
// loss of a general mixture has no closed inverse.
func (m *mixture) solve(g float64) float64 {
	width := m.s * 64
	c, d := m.up.centres[len(m.up.centres)-1], m.down.centres[len(m.down.centres)-1]
	lo, hi := -d-width, c+width
	if m.loss(lo) > g {
		return math.Inf(-1) // Below it P and Q have no mass that float64 sees.
	}
	if m.loss(hi) <= g {
		return math.Inf(1)
	}
	x := lo + (hi-lo)/2
	for i := 0; i < 200; i++ {
		l := m.loss(x)
		if l <= g {
			lo = x
		} else {
			hi = x
		}
		next := x - (l-g)/m.slope(x)
		if !(next > lo && next < hi) {
			next = lo + (hi-lo)/2
		}
		if math.Abs(next-x) <= 4*ulp*math.Abs(x) || next <= lo || next >= hi {
			break
		}
		x = next
	}
	return x
}

// slope returns dL/dx = (E[c | x] + E[d | x]) / s², the centres' posterior means.
func (m *mixture) slope(x float64) float64 {
	return (m.posterior(x, m.up, m.logUp) + m.posterior(-x, m.down, m.logDown)) / (m.s * m.s)
}

// posterior returns the mean centre of a shift given the point x.
func (m *mixture) posterior(x float64, sh shift, logs []float64) float64 {
	v := m.s * m.s
	switch {
	case len(sh.centres) == 1:
		return sh.centres[0]
	case len(sh.centres) == 2 && sh.centres[0] == 0:
		c := sh.centres[1]
		return c / (1 + math.Exp(logs[0]-logs[1]-c*(x-c/2)/v))
	}
	top := math.Inf(-1)
	for j, c := range sh.centres {
		top = max(top, logs[j]+c*(x-c/2)/v)
	}
	sum, first := 0.0, 0.0
	for j, c := range sh.centres {
		w := math.Exp(logs[j] + c*(x-c/2)/v - top)
		sum += w
		first += w * c
	}
	return first / sum
}

func (m *mixture) at(x float64) edge {
	e := edge{}
	farthest := 0.0
	tails := func(sh shift, sign float64) (lo, hi float64) {
		for j, c := range sh.centres {
			z := (x - sign*c) / m.s
			small := 0.5 * math.Erfc(math.Abs(z)/math.Sqrt2)
			if z > 0 {
				lo += sh.weights[j] * (1 - small)
				hi += sh.weights[j] * small
			} else {
				lo += sh.weights[j] * small
				hi += sh.weights[j] * (1 - small)
			}
			if small > 0 {
				farthest = max(farthest, math.Abs(z))
			}
		}
		return lo, hi
	}
	if math.IsInf(x, -1) {
		return edge{pHi: 1, qHi: 1}
	}
	if math.IsInf(x, 1) {
		return edge{pLo: 1, qLo: 1}
	}
	e.pLo, e.pHi = tails(m.up, 1)
	e.qLo, e.qHi = tails(m.down, -1)
	// Rounding z moves erfc(z) by a factor 1 + z² ulp per ulp of z; erfc, sums
	// and products add a few more.
	e.rel = (12 + float64(len(m.up.weights)+len(m.down.weights)) + 3*farthest*farthest) * ulp
	return e
}

func (m *mixture) support(lnTail float64) (lo, hi float64) {
	left, right := m.reach(lnTail)
	return m.loss(left), m.loss(right)
}

// reach returns points outside which P has mass exp(lnTail) at most, on either
// side: w Φ(-z) <= w exp(-z²/2)/2.
func (m *mixture) reach(lnTail float64) (left, right float64) {
	left, right = math.Inf(1), math.Inf(-1)
	share := lnTail - math.Log(float64(len(m.up.centres))/2)
	for j, c := range m.up.centres {
		z := math.Sqrt(2*max(0, m.logUp[j]-share)) * m.s
		left, right = min(left, c-z), max(right, c+z)
	}
	return left, right
}

func (m *mixture) sketch(lnTail float64) sketch {
	left, right := m.reach(lnTail)
	n := sketchNodes + int(min((right-left)/m.s, 1<<12)) // A step of sketch within m.s.
	k := sketch{make([]float64, n), make([]float64, n)}
	dx := (right - left) / float64(n-1)
	scale := math.Log(dx / (m.s * math.Sqrt(2*math.Pi)))
	for i := range n {
		x := left + float64(i)*dx
		k.loss[i] = m.loss(x)
		k.lnP[i] = scale - x*x/(2*m.s*m.s) + m.ratio(x, m.up, m.logUp)
	}
	return k
}

func (m *mixture) jitter(lo, hi float64) float64 {
	// L rises by at most (c + d)/s² per unit of x.
	slope := (m.up.centres[len(m.up.centres)-1] + m.down.centres[len(m.down.centres)-1]) / (m.s * m.s)
	x := 0.0
	for _, g := range [2]float64{lo, hi} {
		if c := m.cut(g); !math.IsInf(c, 0) {
			x = max(x, math.Abs(c))
		}
	}
	return 8 * ulp * (4 + max(math.Abs(lo), math.Abs(hi)) + slope*x)
}

// moment returns the lnM of spectrum, rounded up; beyond its reach, +Inf.
func (m *mixture) moment(lambda float64) float64 {
	if m.kind == bothCertain { // Gaussian: λ(λ+1) μ²/2.
		mu := (m.up.centres[0] + m.down.centres[0]) / m.s
		return lambda * (lambda + 1) * mu * mu / 2
	}
	s, ok := m.spectrum(lambda, 0)
	if !ok {
		return math.Inf(1)
	}
	return s.lnM + s.lnErr
}
