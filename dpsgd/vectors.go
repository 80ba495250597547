package dpsgd

import (
	"errors"
	"fmt"
	"math"
)

// Vectors is a sum of private vectors that are not gradients, such as images,
// each clipped, not yet private. It cannot be read; [Vectors.Release] is the only
// way out.
type Vectors struct {
	values          []float64
	clippingNorm    float64
	noiseMultiplier float64
	step            float64
	last            int
	released        bool

	wrong mistake // For tests.
}

// maxVectors bounds the number of examples, so that the sum is exact: at the least
// noise there is, this many vectors are 2^52 lattice steps.
const maxVectors = 1 << 24

// NewVectors returns an empty sum over size coordinates, to be released with
// noise of standard deviation noiseMultiplier·clippingNorm.
func NewVectors(size int, clippingNorm, noiseMultiplier float64) (*Vectors, error) {
	v := &Vectors{values: make([]float64, max(size, 0)), clippingNorm: clippingNorm, noiseMultiplier: noiseMultiplier, last: -1}
	switch {
	case size < 1:
		return nil, fmt.Errorf("sum of vectors has %d coordinates, want at least 1", size)
	case !(clippingNorm >= 1e-12 && clippingNorm <= 1e12): // !(x > 0) also catches NaN.
		return nil, fmt.Errorf("clipping norm is %g, want in [1e-12, 1e12]", clippingNorm)
	case !(noiseMultiplier >= 1e-2 && noiseMultiplier <= 1e6):
		return nil, fmt.Errorf("noise multiplier is %g, want in [0.01, 1e6]", noiseMultiplier)
	}
	v.step = latticeStep(noiseMultiplier * clippingNorm)
	return v, nil
}

// Add adds x·min(1, C/|x|) to the coordinates from at on. Examples come in
// increasing order, so that each is in the sum once. A vector that is not finite
// contributes zero.
//
// What is added is rounded towards zero to the noise lattice: that makes no norm
// larger, and sums of such values are exact in any order.
func (v *Vectors) Add(example, at int, x []float64) error {
	switch {
	case v.released:
		return errors.New("sum of vectors was released before")
	case example <= v.last:
		return errors.New("an example was added twice, or out of order") // Which one is private.
	case example >= maxVectors:
		return fmt.Errorf("sum of vectors takes examples below %d", maxVectors)
	case at < 0 || at+len(x) > len(v.values):
		return errors.New("vector lies outside the sum")
	}
	v.last = example
	square := 0.0
	for _, f := range x {
		square += f * f
	}
	norm := math.Sqrt(square)
	if norm-norm != 0 { // NaN or infinite.
		return nil
	}
	factor := 1.0
	if bound := v.clippingNorm * (1 - 1e-12); norm > bound && v.wrong != noClip {
		factor = bound / norm
	}
	for i, f := range x {
		v.values[at+i] += v.step * math.Trunc(f*factor/v.step)
	}
	return nil
}

// Sensitivity returns the largest L2 change of the sum when one example is added
// or removed: the clipping norm, rounding included.
func (v *Vectors) Sensitivity() float64 { return v.clippingNorm }

// Release records the event by calling record, then returns the sum plus
// Gaussian noise of standard deviation noiseMultiplier·Sensitivity on every
// coordinate, and spends it. If record fails nothing is released.
//
// Guarantee: the Gaussian mechanism with the given noise multiplier under
// add-or-remove, on the lattice of [Sum.Release].
func (v *Vectors) Release(noise *Noise, record func() error) ([]float64, error) {
	switch {
	case v.released:
		return nil, errors.New("sum of vectors was released before; every release needs a sum of its own")
	case noise == nil:
		return nil, errors.New("release without noise: the source is nil")
	case record == nil:
		return nil, errors.New("release without a ledger: record is nil")
	}
	if err := record(); err != nil {
		return nil, fmt.Errorf("record release in the ledger: %w", err)
	}
	v.released = true
	std := v.noiseMultiplier * v.Sensitivity()
	if v.wrong == halfSensitivity {
		std /= 2
	}
	noise.addLattice(v.values, std, v.step)
	values := v.values
	v.values = nil
	return values, nil
}
