package dpsgd

import (
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
)

// latticeBits sets how fine the noise lattice is: its step is a power of two
// between 2^-latticeBits and 2^-(latticeBits+1) noise standard deviations.
const latticeBits = 20

// Noise is a source of Gaussian noise: ChaCha8 keyed from the operating
// system. The key is never stored, so a resumed run draws fresh noise.
type Noise struct {
	rng      *rand.Rand
	insecure bool

	gaussian *discreteGaussian // Of the last standard deviation in lattice steps.
	sigma    float64
}

// NewNoise returns a source with a fresh secret key.
func NewNoise() (*Noise, error) {
	var key [32]byte
	if _, err := crand.Read(key[:]); err != nil {
		return nil, fmt.Errorf("read a noise key from the operating system: %w", err)
	}
	return &Noise{rng: rand.New(rand.NewChaCha8(key))}, nil
}

// NewInsecureNoise returns a reproducible source for tests. Whoever knows the
// seed can subtract the noise: what it releases is NOT PRIVATE.
func NewInsecureNoise(seed uint64) *Noise {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return &Noise{rng: rand.New(rand.NewChaCha8(key)), insecure: true}
}

// Insecure reports whether the source was seeded by NewInsecureNoise.
func (n *Noise) Insecure() bool { return n.insecure }

// latticeStep returns the power of two that spaces the lattice for a noise
// standard deviation.
func latticeStep(std float64) float64 {
	return math.Ldexp(1, int(math.Floor(math.Log2(std)))-latticeBits)
}

// chunk is how many coordinates share one stream of noise.
const chunk = 1 << 15

// addLattice rounds each value to a multiple of step and adds noise that is a
// multiple of step too, so that every output lies on the same lattice for every
// data set: the low bits of a floating-point sum tell nothing (Mironov 2012;
// https://arxiv.org/abs/2207.13793).
//
// The noise is discrete Gaussian. With a standard deviation of 2^20 steps or
// more that is also the Gaussian rounded to the lattice, which is a
// function of the Gaussian mechanism's output: probabilities of the two
// differ by a factor 1 + (z²-1)/24σ² at z standard deviations, less than 6e-12
// anywhere.
//
// Chunks are made in parallel. Each has a ChaCha8 stream of its own, keyed from
// the source in order, so that a seeded source gives the same noise however
// many processors there are.
func (n *Noise) addLattice(values []float64, std, step float64) {
	if sigma := std / step; sigma != n.sigma {
		n.gaussian, n.sigma = newDiscreteGaussian(sigma), sigma
	}
	chunks := (len(values) + chunk - 1) / chunk
	streams := make([]*rand.ChaCha8, chunks)
	for i := range streams {
		var key [32]byte
		for j := 0; j < len(key); j += 8 {
			binary.LittleEndian.PutUint64(key[j:], n.rng.Uint64())
		}
		streams[i] = rand.NewChaCha8(key)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(chunks, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < chunks; i = int(next.Add(1)) - 1 {
				n.gaussian.addStream(streams[i], values[i*chunk:min(len(values), (i+1)*chunk)], step)
			}
		})
	}
	wg.Wait()
}

// addStream is addLattice for one chunk. step is a power of two, so that
// scaling by it and by its inverse is exact.
func (g *discreteGaussian) addStream(rng *rand.ChaCha8, values []float64, step float64) {
	inverse := 1 / step
	for i, v := range values {
		values[i] = step * (math.RoundToEven(v*inverse) + float64(g.sample(rng)))
	}
}
