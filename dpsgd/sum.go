package dpsgd

import (
	"errors"
	"fmt"
	"math"
)

// smallestStep keeps the lattice clear of subnormal numbers.
const smallestStep = 1e-290

// Sum is a sum of clipped per-example gradients, not yet private. It cannot be
// read; [Sum.Release] is the only way out.
type Sum struct {
	values       []float64
	clippingNorm float64
	released     bool

	wrong    mistake // For tests, with what mistakes need to know.
	first    int     // Values of the first tensor.
	examples int     // Drawn.
}

// newSum returns an empty sum over size coordinates: what a step without
// examples releases noise on.
func newSum(size int, clippingNorm float64) *Sum {
	return &Sum{values: make([]float64, size), clippingNorm: clippingNorm}
}

// add folds in the clipped sum of one physical batch.
func (s *Sum) add(part []float32) {
	for i, v := range part {
		s.values[i] += float64(v)
	}
}

// roundingSlack is what float32 rounding in the weighted sums can add to one
// example's contribution, relative to the clipping norm: its own, and that of the
// others, which are added up with other neighbours when it is missing. In chains of
// 16 the latter is about 3.4e-7·√n for n examples whose gradients all point one way
// (8e-5 at 60,000), and less the more they differ.
const roundingSlack = 1e-4

// Sensitivity returns the largest L2 change of the released sum when one
// example is added or removed: the clipping norm with what rounding in the
// engine can add, plus what rounding every coordinate to the noise lattice can
// add.
func (s *Sum) Sensitivity(noiseMultiplier float64) float64 {
	step := latticeStep(noiseMultiplier * s.clippingNorm)
	return s.clippingNorm*(1+roundingSlack) + step*math.Sqrt(float64(len(s.values)))
}

// Release records the event by calling record, then returns the sum plus
// Gaussian noise of standard deviation noiseMultiplier·Sensitivity on every
// coordinate, and spends the sum. If record fails nothing is released.
//
// Guarantee: the Gaussian mechanism with the given noise multiplier under
// add-or-remove, per coordinate independent noise, an empty batch included.
func (s *Sum) Release(noise *Noise, noiseMultiplier float64, record func() error) ([]float64, error) {
	if s.released {
		return nil, errors.New("sum was released before; every release needs a sum of its own")
	}
	if !(noiseMultiplier > 0) || math.IsInf(noiseMultiplier, 1) {
		return nil, fmt.Errorf("noise multiplier is %g, want positive and finite", noiseMultiplier)
	}
	step := latticeStep(noiseMultiplier * s.clippingNorm)
	if step < smallestStep || math.IsInf(step, 1) {
		return nil, fmt.Errorf("noise standard deviation is %g, too small or large for its lattice", noiseMultiplier*s.clippingNorm)
	}
	if noise == nil {
		return nil, errors.New("release without noise: the source is nil")
	}
	if record == nil {
		return nil, errors.New("release without a ledger: record is nil")
	}
	if err := record(); err != nil {
		return nil, fmt.Errorf("record release in the ledger: %w", err)
	}
	s.released = true
	s.addNoise(noise, noiseMultiplier*s.Sensitivity(noiseMultiplier), step)
	values := s.values
	s.values = nil
	return values, nil
}

// addNoise adds noise to every coordinate, unless a test injects a mistake.
func (s *Sum) addNoise(noise *Noise, std, step float64) {
	values := s.values
	switch s.wrong {
	case firstTensorOnly:
		values = values[:s.first]
	case quietWhenEmpty:
		if s.examples == 0 {
			values = nil
		}
	case halfSensitivity:
		std /= 2
	}
	noise.addLattice(values, std, step)
}
