package dpsgd

import (
	"errors"
	"fmt"
)

// Counts says how many private examples fall into each of some bins, not yet
// private. It cannot be read; [Counts.Release] is the only way out.
type Counts struct {
	values   []float64
	released bool
}

// maxCountNoise keeps integers on the noise lattice: its step is at most 1/2 up
// to here.
const maxCountNoise = 1 << (latticeBits - 1)

// NewCounts counts examples: bins holds the bin of each, in [0, size). Each
// example is in just one bin.
func NewCounts(size int, bins []int) (*Counts, error) {
	if size < 1 {
		return nil, fmt.Errorf("counts have %d bins, want at least 1", size)
	}
	c := &Counts{values: make([]float64, size)}
	for _, b := range bins {
		if b < 0 || b >= size {
			return nil, fmt.Errorf("bin is out of range, want 0 to %d", size-1) // Which one is private.
		}
		c.values[b]++
	}
	return c, nil
}

// Sensitivity returns the largest L2 change of the counts when one example is
// added or removed: one of them changes by 1. Integers lie on the noise lattice,
// so that rounding to it adds nothing.
func (c *Counts) Sensitivity() float64 { return 1 }

// Release records the event by calling record, then returns the counts plus
// Gaussian noise of standard deviation noiseMultiplier on each, and spends them.
// If record fails nothing is released. Counts may come out negative.
//
// Guarantee: the Gaussian mechanism with the given noise multiplier under
// add-or-remove, on the lattice of [Sum.Release].
func (c *Counts) Release(noise *Noise, noiseMultiplier float64, record func() error) ([]float64, error) {
	switch {
	case c.released:
		return nil, errors.New("counts were released before; every release needs counts of its own")
	case !(noiseMultiplier > 0 && noiseMultiplier <= maxCountNoise): // !(x > 0) also catches NaN.
		return nil, fmt.Errorf("noise multiplier is %g, want in (0, %d]", noiseMultiplier, maxCountNoise)
	case noise == nil:
		return nil, errors.New("release without noise: the source is nil")
	case record == nil:
		return nil, errors.New("release without a ledger: record is nil")
	}
	if err := record(); err != nil {
		return nil, fmt.Errorf("record release in the ledger: %w", err)
	}
	c.released = true
	noise.addLattice(c.values, noiseMultiplier*c.Sensitivity(), latticeStep(noiseMultiplier))
	values := c.values
	c.values = nil
	return values, nil
}
