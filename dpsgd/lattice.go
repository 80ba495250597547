package dpsgd

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// discreteGaussian samples N_Z(0, σ²), P(k) ∝ exp(-k²/2σ²) on the integers
// (Canonne, Kamath, Steinke 2020, Def. 1, https://arxiv.org/abs/2004.00010), by a
// ziggurat of equal layers: layer i is the rectangle of the integers
// 0..width-1 and heights from low to low+height, all layers have the same area and
// together they cover the curve. A uniform point of a uniform layer that falls
// under the curve has the wanted magnitude; the sign is a coin, and 0 with the
// wrong one is drawn again.
//
// Layer, sign and integer come from one draw of 64 bits, without bias: what
// Lemire's method would favour is drawn again. A height has 53 bits, in the lowest
// layer 117. So every probability is right to a part in 2^44, up to 12 σ; what is beyond,
// 4e-33, is left out.
type discreteGaussian struct {
	exponent float64 // -1/2σ².
	layers   [layerCount]latticeLayer
}

type latticeLayer struct {
	width       uint64
	inner       uint64 // Integers below it are under the curve at any height of the layer.
	favoured    uint64 // 2^55 mod width.
	low, height float64
}

const (
	layerBits  = 8
	layerCount = 1 << layerBits
	signBit    = 1 << layerBits
	pickBits   = 64 - layerBits - 1 // Left for the integer: 55.
)

// farthest is where the curve is cut, in standard deviations.
const farthest = 12

// newDiscreteGaussian returns the sampler for σ between 0.1 and 2^40.
func newDiscreteGaussian(sigma float64) *discreteGaussian {
	g := &discreteGaussian{exponent: -1 / (2 * sigma * sigma)}
	// The least area with which the layers reach the top of the curve.
	lo, hi := 0.0, 4*(sigma+1)
	for hi-lo > 1e-6*hi {
		if mid := lo + (hi-lo)/2; g.stack(sigma, mid) >= 1 {
			hi = mid
		} else {
			lo = mid
		}
	}
	g.stack(sigma, hi)
	return g
}

// stack lays the layers, each of the given area, and returns their height.
func (g *discreteGaussian) stack(sigma, area float64) float64 {
	reach := func(y float64) float64 { return sigma * math.Sqrt(max(0, -2*math.Log(y))) }
	y, far := 0.0, farthest*sigma
	for i := range g.layers {
		l := &g.layers[i]
		// An integer more than needed, or fewer, keeps rounding harmless.
		l.width = uint64(far) + 2
		l.low, l.height = y, area/float64(l.width)
		y += l.height
		far = reach(y)
		l.inner = uint64(max(0, math.Floor(far)-1))
		l.favoured = (1 << pickBits) % l.width
	}
	return y
}

// sample draws one integer.
func (g *discreteGaussian) sample(rng *rand.ChaCha8) int64 {
	for {
		u := rng.Uint64()
		l := &g.layers[u%layerCount]
		// The pick, 55 bits, times width / 2^55.
		k, rest := bits.Mul64(u&^(2*signBit-1), l.width)
		if k >= l.inner || rest>>(layerBits+1) < l.favoured {
			if !g.under(k, rest, l, rng) {
				continue
			}
		}
		sign := -int64(u / signBit & 1) // 0 or -1, without a branch.
		if k == 0 && sign != 0 {        // Zero with a minus.
			continue
		}
		return (int64(k) ^ sign) - sign
	}
}

// under decides what the fast path of sample cannot.
func (g *discreteGaussian) under(k, rest uint64, l *latticeLayer, rng *rand.ChaCha8) bool {
	if rest>>(layerBits+1) < l.favoured {
		return false
	}
	u := float64(rng.Uint64()>>11) * 0x1p-53
	if l.low == 0 { // Far out the curve is lower than 2^-53 of this layer.
		u += float64(rng.Uint64()) * 0x1p-117
	}
	return l.low+u*l.height < math.Exp(g.exponent*float64(k)*float64(k))
}
