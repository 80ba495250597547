package accountant

import (
	"math"

	"gonum.org/v1/gonum/integrate/quad"
)

// laplace is the pair P = (1-up) Lap(0, b) + up Lap(1, b) and
// Q = (1-down) Lap(0, b) + down Lap(-1, b): Laplace noise on a sum that one
// unit moves by 1, with up and down 0 (absent), a sampling probability, or 1.
//
// Its loss has atoms: it is constant left of the leftmost centre and right of
// the rightmost one.
type laplace struct {
	scale    float64 // Noise scale b / clipping norm.
	up, down float64
}

// clampLoss returns the loss (|x| - |x-1|)/b of one Laplace shift.
func (l *laplace) clampLoss(x float64) float64 {
	return min(max((2*x-1)/l.scale, -1/l.scale), 1/l.scale)
}

func (l *laplace) above(x float64) float64 { return sampledOrZero(l.clampLoss(x), l.up) }
func (l *laplace) below(x float64) float64 { return sampledOrZero(l.clampLoss(-x), l.down) }

func sampledOrZero(u, q float64) float64 {
	if q == 0 {
		return 0
	}
	return sampledLoss(u, q)
}

func (l *laplace) loss(x float64) float64 { return l.above(x) - l.below(x) }

// ends returns the points outside which the loss is constant.
func (l *laplace) ends() (left, right float64) {
	if l.down > 0 {
		left = -1
	}
	if l.up > 0 {
		right = 1
	}
	return left, right
}

func (l *laplace) cut(g float64) float64 {
	left, right := l.ends()
	if g < l.loss(left) {
		return math.Inf(-1)
	}
	if g >= l.loss(right) {
		return math.Inf(1)
	}
	// Right of 0 only `above` moves, left of 0 only `below`.
	if g >= l.loss(0) {
		if l.up == 0 {
			return right
		}
		u := unsampledLoss(g+l.below(0), l.up)
		return min(max((l.scale*u+1)/2, 0), 1)
	}
	u := unsampledLoss(l.above(0)-g, l.down)
	return -min(max((l.scale*u+1)/2, 0), 1)
}

func (l *laplace) at(x float64) edge {
	if math.IsInf(x, -1) {
		return edge{pHi: 1, qHi: 1}
	}
	if math.IsInf(x, 1) {
		return edge{pLo: 1, qLo: 1}
	}
	tail := func(z float64) (lo, hi float64) {
		small := 0.5 * math.Exp(-math.Abs(z)/l.scale)
		if z > 0 {
			return 1 - small, small
		}
		return small, 1 - small
	}
	lo, hi := tail(x)
	e := edge{pLo: lo, pHi: hi, qLo: lo, qHi: hi}
	if l.up > 0 {
		lo1, hi1 := tail(x - 1)
		e.pLo, e.pHi = (1-l.up)*lo+l.up*lo1, (1-l.up)*hi+l.up*hi1
	}
	if l.down > 0 {
		lo1, hi1 := tail(x + 1)
		e.qLo, e.qHi = (1-l.down)*lo+l.down*lo1, (1-l.down)*hi+l.down*hi1
	}
	e.rel = (12 + 4*(math.Abs(x)+1)/l.scale) * ulp
	return e
}

func (l *laplace) support(float64) (lo, hi float64) {
	left, right := l.ends()
	return l.loss(left), l.loss(right)
}

func (l *laplace) jitter(lo, hi float64) float64 {
	return 8 * ulp * (4 + max(math.Abs(lo), math.Abs(hi)) + 4/l.scale)
}

func (l *laplace) sketch(float64) sketch {
	left, right := l.ends()
	k := sketch{[]float64{l.loss(left), l.loss(right)}, []float64{
		math.Log(l.at(left).pLo),
		math.Log(l.at(right).pHi),
	}}
	last := l.at(left)
	for i := 1; i <= sketchNodes; i++ {
		x := left + (right-left)*float64(i)/sketchNodes
		e := l.at(x)
		p, _, _, _ := between(last, e)
		k.loss = append(k.loss, l.loss(x))
		k.lnP = append(k.lnP, math.Log(p))
		last = e
	}
	return k
}

// moment integrates exp((1+λ) A - λ B) against Lap(0, b): two atoms in closed
// form and smooth pieces by Gauss-Legendre on short panels.
func (l *laplace) moment(lambda float64) float64 {
	left, right := l.ends()
	b := l.scale
	terms := []float64{ // Logs of the parts.
		left/b - math.Ln2 + (1+lambda)*l.above(left) - lambda*l.below(left),
		-right/b - math.Ln2 + (1+lambda)*l.above(right) - lambda*l.below(right),
	}
	const nodes = 16
	var x, w [nodes]float64
	const mostPanels = 2048
	panels := int(math.Ceil((3 + 2*math.Abs(lambda)) / (10 * b))) // The integrand changes by e^10 on each.
	if panels > mostPanels || panels <= 0 {
		return max(lambda*l.loss(left), lambda*l.loss(right)) // An upper bound, and close.
	}
	for _, piece := range [2][2]float64{{left, 0}, {0, right}} {
		if piece[0] == piece[1] {
			continue
		}
		for i := range panels {
			a := piece[0] + (piece[1]-piece[0])*float64(i)/float64(panels)
			z := piece[0] + (piece[1]-piece[0])*float64(i+1)/float64(panels)
			quad.Legendre{}.FixedLocations(x[:], w[:], a, z)
			for k := range x {
				terms = append(terms, math.Log(w[k]/(2*b))-math.Abs(x[k])/b+(1+lambda)*l.above(x[k])-lambda*l.below(x[k]))
			}
		}
	}
	return logSumExp(terms)
}

func logSumExp(terms []float64) float64 {
	top := math.Inf(-1)
	for _, t := range terms {
		top = max(top, t)
	}
	if math.IsInf(top, -1) {
		return top
	}
	sum := 0.0
	for _, t := range terms {
		sum += math.Exp(t - top)
	}
	return top + math.Log(sum)
}
