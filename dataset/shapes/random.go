package shapes

import (
	"math"
	"math/rand/v2"
)

// hand makes the random choices of one image.
type hand struct {
	*rand.Rand
	held bool
}

// newHand returns the choices of image i. The seed and i are mixed first
// (SplitMix64, Steele et al. 2014), since neighbouring PCG seeds give related
// first draws.
func newHand(seed uint64, i int, held bool) hand {
	return hand{rand.New(rand.NewPCG(mix(seed^mix(uint64(i))), mix(mix(seed)+uint64(i)))), held}
}

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// between returns a uniform draw from [low, high).
func (h hand) between(low, high float64) float64 { return low + (high-low)*h.Float64() }

// span draws a measure of an outline: from [low, high) in public images; in
// held-out ones half the time from the ends and beyond, where public images
// never are.
func (h hand) span(low, high float64) float64 {
	u := h.Float64()
	if h.held && u < 0.5 {
		if u < 0.25 {
			u = -0.8 * u // Below low by up to a fifth.
		} else {
			u = 1 + 0.8*(u-0.25)
		}
	} else if h.held {
		u = 2 * (u - 0.5)
	}
	return low + (high-low)*u
}

// chance is true with probability p.
func (h hand) chance(p float64) bool { return h.Float64() < p }

// bell returns a normal draw around 0, cut at two standard deviations so that no
// single image is spoilt by a rare one.
func (h hand) bell(deviation float64) float64 {
	return deviation * max(-2, min(2, h.NormFloat64()))
}

// lattice is a table of random values that smooth noise interpolates.
type lattice [latticeSize * latticeSize]float32

const latticeSize = 16

func (l *lattice) fill(h hand) {
	for i := 0; i < len(l); i += 4 {
		bits := h.Uint64()
		for k := range 4 {
			l[i+k] = float32(bits>>(16*k)&0xffff) / 0xffff
		}
	}
}

// at returns smooth noise in [0, 1] of period latticeSize, mean about 1/2.
func (l *lattice) at(x, y float64) float32 {
	fx, fy := math.Floor(x), math.Floor(y)
	tx, ty := float32(x-fx), float32(y-fy)
	tx, ty = tx*tx*(3-2*tx), ty*ty*(3-2*ty)
	x0, y0 := int(fx)&(latticeSize-1), int(fy)&(latticeSize-1)
	x1, y1 := (x0+1)&(latticeSize-1), (y0+1)&(latticeSize-1)
	top := l[y0*latticeSize+x0] + tx*(l[y0*latticeSize+x1]-l[y0*latticeSize+x0])
	bottom := l[y1*latticeSize+x0] + tx*(l[y1*latticeSize+x1]-l[y1*latticeSize+x0])
	return top + ty*(bottom-top)
}
