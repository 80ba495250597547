package glyphs

import "math/rand/v2"

// newRandom returns the generator of image i. The seed and i are mixed first
// (SplitMix64, Steele et al. 2014), since neighbouring PCG seeds give related
// first draws.
func newRandom(seed uint64, i int) *rand.Rand {
	return rand.New(rand.NewPCG(mix(seed^mix(uint64(i))), mix(mix(seed)+uint64(i))))
}

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// between returns a uniform draw from [low, high).
func between(r *rand.Rand, low, high float64) float64 { return low + (high-low)*r.Float64() }

// bell returns a normal draw, cut at two standard deviations so that no single
// image is spoilt by a rare one.
func bell(r *rand.Rand, mean, deviation float64) float64 {
	return mean + deviation*max(-2, min(2, r.NormFloat64()))
}
