package audit

import (
	"fmt"
	"math"

	"github.com/scumble-dp/scumble/accountant"
)

// Mechanism is what is audited: a number of steps of the Poisson-subsampled
// Gaussian mechanism, and the delta of its claim. All of it is public.
type Mechanism struct {
	NoiseMultiplier     float64 `json:"noise_multiplier"`
	SamplingProbability float64 `json:"sampling_probability"`
	Steps               int     `json:"steps"`
	Delta               float64 `json:"delta"`
}

// Validate reports the first field that is out of range.
func (m Mechanism) Validate() error {
	if err := m.event().Validate(); err != nil {
		return fmt.Errorf("audited mechanism: %w", err)
	}
	if !(m.Delta > 0 && m.Delta < 1) {
		return fmt.Errorf("audited mechanism: delta is %g, want in (0, 1)", m.Delta)
	}
	return nil
}

func (m Mechanism) event() accountant.Event {
	return accountant.DPSGD(m.NoiseMultiplier, m.SamplingProbability, m.Steps)
}

// Epsilon returns what the run's accountant claims for the mechanism.
func (m Mechanism) Epsilon() (float64, error) {
	r, err := accountant.PLD{}.Epsilon([]accountant.Event{m.event()}, accountant.AddOrRemove, m.Delta)
	return r.Epsilon, err
}

// withNoise returns the mechanism with another noise multiplier.
func (m Mechanism) withNoise(s float64) Mechanism {
	m.NoiseMultiplier = s
	return m
}

// mesh of the curves, in units of the privacy loss: coarse enough for milliseconds
// at any noise, and what it adds to δ, some tenths of a percent, loosens a bound by
// less than the grid of the noise does.
const mesh = 0.02

// deltaAt returns an upper bound on the hockey-stick curve of the mechanism, the
// larger of both directions: no test tells neighbours apart better than it allows.
func (m Mechanism) deltaAt(epsilon float64) (float64, error) {
	r, err := accountant.PLD{UpperOnly: true, Mesh: mesh}.Delta([]accountant.Event{m.event()}, accountant.AddOrRemove, epsilon)
	return r.Delta, err
}

// Score returns what one step says about one canary: the logarithm of how much
// likelier x is if the canary was in. x is the coordinate of the noised sum along
// the canary, in units of the clipping norm:
//
//	in:  (1-q)·N(0, s²) + q·N(1, s²)     out: N(0, s²)
//	score = ln(1 - q + q·exp((x - 1/2)/s²))
//
// Summed over the steps it is the best test there is (Neyman and Pearson 1933).
func (m Mechanism) Score(x float64) float64 {
	q, v := m.SamplingProbability, m.NoiseMultiplier*m.NoiseMultiplier
	joined := math.Log(q) + (x-0.5)/v
	if q == 1 {
		return joined
	}
	stayed := math.Log1p(-q)
	high, low := max(joined, stayed), min(joined, stayed)
	return high + math.Log1p(math.Exp(low-high))
}
