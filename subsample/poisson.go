// Package subsample draws logical batches by Poisson sampling: at every step
// each example joins by its own coin, independent of all others and of all
// steps. The privacy accountant assumes exactly this; shuffled batches of fixed
// size are another mechanism, and not offered.
//
// This package sees indices of private examples, never the examples.
package subsample

import (
	crand "crypto/rand"
	"fmt"
	"math"
	"math/rand/v2"
)

// Poisson draws logical batches.
type Poisson struct {
	n         int
	threshold uint64 // A coin of 63 bits below it joins.
	rng       *rand.Rand
	insecure  bool
}

// NewPoisson returns a sampler over n examples with the given probability. Its
// coins come from ChaCha8 with a fresh secret key that is never stored: batches
// that an adversary could repeat would not amplify privacy.
//
// The probability is rounded down to a multiple of 2^-63, never up.
func NewPoisson(n int, probability float64) (*Poisson, error) {
	var key [32]byte
	if _, err := crand.Read(key[:]); err != nil {
		return nil, fmt.Errorf("read a sampling key from the operating system: %w", err)
	}
	return newPoisson(n, probability, key)
}

// NewInsecurePoisson returns a reproducible sampler for tests. What is trained
// with it is NOT PRIVATE.
func NewInsecurePoisson(n int, probability float64, seed uint64) (*Poisson, error) {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	p, err := newPoisson(n, probability, key)
	if err == nil {
		p.insecure = true
	}
	return p, err
}

func newPoisson(n int, probability float64, key [32]byte) (*Poisson, error) {
	if n < 0 {
		return nil, fmt.Errorf("number of examples is %d, want at least 0", n)
	}
	if !(probability > 0 && probability <= 1) { // Also catches NaN.
		return nil, fmt.Errorf("sampling probability is %g, want in (0, 1]", probability)
	}
	return &Poisson{
		n:         n,
		threshold: uint64(math.Floor(math.Ldexp(probability, 63))),
		rng:       rand.New(rand.NewChaCha8(key)),
	}, nil
}

// Insecure reports whether the sampler was seeded.
func (p *Poisson) Insecure() bool { return p.insecure }

// Draw returns the indices of the next logical batch, in increasing order. It
// may be empty.
func (p *Poisson) Draw() []int {
	var batch []int
	for i := range p.n {
		if p.rng.Uint64()>>1 < p.threshold {
			batch = append(batch, i)
		}
	}
	return batch
}
