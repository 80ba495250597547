package accountant

import "math"

// measure is a privacy loss distribution on the grid offset + i·h: mass[k] is
// P's mass at loss offset + (first+k)·h and inf its mass at infinite loss.
type measure struct {
	offset float64
	first  int
	mass   []float64
	inf    float64
	slack  float64 // Every loss may be off by this much through rounding.
}

// grid returns the indices that cover the losses of p up to tail mass
// exp(lnTail).
func grid(p pair, offset, h, lnTail float64) (first, last int) {
	lo, hi := p.support(lnTail)
	return int(math.Floor((lo - offset) / h)), int(math.Ceil((hi-offset)/h)) + 1
}

// atomOffset returns the loss of the one cell of width h that holds much of
// the tilted mass, if there is one: an atom of the loss, or the bulk of a
// step with a tiny sampling probability. With the grid laid through it, that
// mass need not be split between two grid points, step after step.
func (m *measure) atomOffset(p pair, lambda, h float64) (offset float64, ok bool) {
	best, at, sum := 0.0, 0, 0.0
	top := math.Inf(-1)
	for i, w := range m.mass {
		if w > 0 {
			top = max(top, math.Log(w)+lambda*h*float64(i))
		}
	}
	for i, w := range m.mass {
		if w > 0 {
			t := w * math.Exp(lambda*h*float64(i)-top)
			sum += t
			if t > best {
				best, at = t, i
			}
		}
	}
	if best < 0.1*sum {
		return 0, false
	}
	offset = m.offset + float64(m.first+at)*h
	for range 4 {
		pm, _, qm, _ := between(p.at(p.cut(offset-h/2)), p.at(p.cut(offset+h/2)))
		if !(pm > 0) || !(qm > 0) {
			break
		}
		offset = math.Log(pm / qm)
	}
	return offset, true
}

// connectTheDots returns the least pessimistic measure on the grid of mesh h
// (Doroshenko et al. 2022, Sec. 3, https://arxiv.org/abs/2207.04380). Of the
// mass p (under P) and q (under Q) whose loss lies in the cell (g-h, g], the part
//
//	b = (p - q exp(g-h)) / (1 - exp(-h))
//
// goes to g and p-b to g-h, which keeps both p and q. Mass left of the grid
// moves up to its first point, mass right of it to infinity. Rounding
// errors of p and q are added to b, so the measure stays an upper bound.
func connectTheDots(p pair, offset, h, lnTail float64) measure {
	first, last := grid(p, offset, h, lnTail)
	m := measure{offset: offset, first: first, mass: make([]float64, last-first+1)}
	m.slack = p.jitter(offset+float64(first)*h, offset+float64(last)*h)
	width := -math.Expm1(-h)
	x := p.cut(offset + float64(first)*h)
	left := p.at(x)
	m.mass[0] = left.pLo * (1 + left.rel)
	for i := first + 1; i <= last; i++ {
		x = max(x, p.cut(offset+float64(i)*h))
		right := p.at(x)
		pm, pErr, qm, qErr := between(left, right)
		pm += pErr
		b := pm
		if g := offset + float64(i-1)*h; g < 650 { // Beyond, exp overflows: round up.
			b = min(pm, max(0, (pm-max(0, qm-qErr)*math.Exp(g))/width*(1+8*ulp)))
		}
		m.mass[i-first] += b
		m.mass[i-1-first] += pm - b
		left = right
	}
	m.inf = left.pHi * (1 + left.rel)
	return m
}

// mergeCells returns an optimistic measure on the grid: its hockey-stick curve
// lies nowhere above that of p, and as close below as connectTheDots lies
// above. Cells are centred on the grid, so that the loss ln(p/q) of a merged
// cell misses its grid point by O(h²) only. Merging cells is post-processing
// and can only lose privacy loss (data processing). Where the merged loss falls short of the
// grid point, a little of the next higher cell is merged in; where it
// exceeds it, a little of the next lower cell; what is left over is rounded down.
func mergeCells(p pair, offset, h, lnTail float64) measure {
	first, last := grid(p, offset, h, lnTail)
	n := last - first + 1
	m := measure{offset: offset, first: first, mass: make([]float64, n)}
	m.slack = p.jitter(offset+float64(first)*h, offset+float64(last)*h)
	pm, qe := make([]float64, n), make([]float64, n) // P mass; Q mass · exp(g_i).
	down, up := math.Exp(-h), math.Exp(h)
	x := p.cut(offset + (float64(first)-0.5)*h)
	left := p.at(x)
	for i := range n {
		g := offset + float64(first+i)*h
		x = max(x, p.cut(g+h/2))
		right := p.at(x)
		a, aErr, q, qErr := between(left, right)
		pm[i] = max(0, a-aErr)
		qe[i] = math.Inf(1) // No trust in q: round down below.
		if qUp := q + qErr; qUp > 1e-290 && g < 650 {
			qe[i] = qUp * math.Exp(g) * (1 + 4*ulp)
		}
		left = right
	}
	keep := make([]float64, n) // The part of cell i that stays at i.
	for i := range keep {
		keep[i] = 1
	}
	taken := make([]float64, n) // P mass that outcome i took from its neighbours.
	const margin = 16 * ulp
	// Short outcomes take from above. Left to right: what cell i has given
	// away is known before it asks.
	for i := range n {
		short := keep[i]*(qe[i]-pm[i]) + margin*pm[i]
		if short <= 0 || pm[i] == 0 {
			continue
		}
		// The part of the outcome that the next cell can lift to g_i.
		lifted := 0.0
		if i+1 < n && !math.IsInf(qe[i], 1) && !math.IsInf(qe[i+1], 1) {
			if gain := pm[i+1] - qe[i+1]*down*(1+margin); gain > 0 { // Of all of cell i+1 at loss g_i.
				part := min(short/gain, keep[i+1])
				lifted = min(1, part*gain/short) * (1 - margin)
				keep[i+1] -= part
				taken[i] = part * pm[i+1] * (1 - margin)
			}
		}
		if lifted < 1-4*margin { // The losses of the rest are all above the point below.
			if i > 0 {
				taken[i-1] += keep[i] * (1 - lifted) * pm[i]
			}
			keep[i] *= lifted
		}
	}
	// Outcomes with loss to spare take from below, right to left. Giving never
	// makes an outcome short: what it gives has its cell's own loss, and where
	// that is too low the outcome gains by losing it.
	for i := n - 1; i > 0; i-- {
		spare := keep[i]*(pm[i]-qe[i]) - margin*pm[i]
		if !(spare > 0) || math.IsInf(qe[i-1], 1) {
			continue
		}
		cost := qe[i-1]*up*(1+margin) - pm[i-1] // Of all of cell i-1 at loss g_i.
		if cost <= 0 {
			continue
		}
		part := min(spare/cost*(1-margin), keep[i-1])
		keep[i-1] -= part
		taken[i] += part * pm[i-1] * (1 - margin)
	}
	for i := range n {
		m.mass[i] = (keep[i]*pm[i] + taken[i]) * (1 - 4*ulp)
	}
	m.mass[n-1] += left.pHi * (1 - left.rel) // Rounded down to the last point.
	return m
}
