package accountant

import "math"

// layer is a uniform distribution over losses, of a width, with a mass.
type layer struct{ width, mass float64 }

// deficit bounds 1 - |φ(y)| from below for all y >= limit, where φ is the
// characteristic function of a distribution that contains the layers. A
// uniform distribution of width w has |φ(y)| = |sinc(yw/2)|, and what the
// layers leave out has at most 1.
func deficit(layers []layer, limit float64) float64 {
	d := 0.0
	for _, l := range layers {
		d += l.mass * (1 - sincBeyond(limit*l.width/2))
	}
	return min(d*(1-1e-6), 1-1e-9)
}

// sincBeyond bounds |sin(u)/u| for all u >= t: it falls until 0.2173, the
// height of its second hump, is below.
func sincBeyond(t float64) float64 {
	switch {
	case t < 1e-3:
		return 1 - t*t/6.1
	case t < 2.4:
		return math.Sin(t) / t
	case t < 4.6:
		return 0.2814 // sin(2.4)/2.4, above the humps.
	}
	return 1 / t
}

func (m *mixture) envelope(lambda, lnM float64) func(limit float64) float64 {
	if m.kind == bothCertain { // A Gaussian loss of variance μ².
		mu := (m.up.centres[0] + m.down.centres[0]) / m.s * (1 - 1e-9)
		return func(limit float64) float64 { return -mu * mu * limit * limit / 2 }
	}
	l := m.layers(lambda, lnM)
	return func(limit float64) float64 { return math.Log1p(-deficit(l, limit)) }
}

// layers bounds the density of the tilted loss from below on cells of x, takes
// the largest unimodal function below these bounds, and cuts that into
// horizontal layers.
//
// On a cell [a, b] the log density in x has a slope between known ends, so it
// is at least its value in the middle less half a width of that; a loss density is
// the density in x over dL/dx, which is at most known too: the centres' posterior
// means in slope grow with their argument.
func (m *mixture) layers(lambda, lnM float64) []layer {
	s, v := m.s, m.s*m.s
	cMin, cMax := m.up.centres[0], m.up.centres[len(m.up.centres)-1]
	dMin, dMax := m.down.centres[0], m.down.centres[len(m.down.centres)-1]
	lo, hi := (1+lambda)*cMin+lambda*dMin-5*s, (1+lambda)*cMax+lambda*dMax+5*s
	n := int(min((hi-lo)/min(0.06*s, 0.25*v), 1<<13)) + 1
	width := (hi - lo) / float64(n)
	edges, noise := make([]float64, n+1), make([]float64, n+1) // Losses, and their rounding.
	c, d := make([]float64, n+1), make([]float64, n+1)
	for i := range edges {
		x := lo + float64(i)*width
		up, down := m.ratio(x, m.up, m.logUp), m.ratio(-x, m.down, m.logDown)
		edges[i] = up - down
		noise[i] = ulp * (m.ratioSize(x, up, m.up) + m.ratioSize(x, down, m.down))
		c[i], d[i] = m.posterior(x, m.up, m.logUp), m.posterior(-x, m.down, m.logDown)
	}
	density, peak := make([]float64, n), 0
	for i := range density {
		rise := edges[i+1] - edges[i]
		if rise <= 1e6*(noise[i]+noise[i+1]) { // Rounding could have made it.
			continue
		}
		a, b := lo+float64(i)*width, lo+float64(i+1)*width
		x := a + width/2
		steepest := max(math.Abs((1+lambda)*c[i]+lambda*d[i+1]-b), math.Abs((1+lambda)*c[i+1]+lambda*d[i]-a)) / v
		ln := (1+lambda)*m.ratio(x, m.up, m.logUp) - lambda*m.ratio(-x, m.down, m.logDown) - x*x/(2*v) - lnM
		ln -= steepest * width / 2
		density[i] = math.Exp(ln) / (s * math.Sqrt(2*math.Pi)) / ((c[i+1] + d[i]) / v) * (1 - 1e-6)
		if density[i] > density[peak] {
			peak = i
		}
	}
	for i := peak + 1; i < n; i++ {
		density[i] = min(density[i], density[i-1])
	}
	for i := peak - 1; i >= 0; i-- {
		density[i] = min(density[i], density[i+1])
	}
	var out []layer
	level := 0.0
	for left, right := 0, n-1; left <= right; {
		next := min(density[left], density[right])
		if next > level {
			w := (edges[right+1] - edges[left]) * (1 - 1e-6)
			out = append(out, layer{width: w, mass: (next - level) * w})
			level = next
		}
		if density[left] <= density[right] {
			left++
		} else {
			right--
		}
	}
	return out
}
