package dpsgd

import (
	"fmt"
	"math"
)

// Mechanism fixes the privacy of a run. Every field is public: it may be
// logged, saved and published, so none may be computed from private data.
type Mechanism struct {
	ClippingNorm        float64 `json:"clipping_norm"`        // Bound on each example's gradient L2 norm. Required.
	NoiseMultiplier     float64 `json:"noise_multiplier"`     // Noise standard deviation / sensitivity. Required.
	SamplingProbability float64 `json:"sampling_probability"` // Chance that an example joins a step, in (0, 1]. Required.
	ExpectedBatchSize   float64 `json:"expected_batch_size"`  // The public divisor of every update. Required.
	Steps               int     `json:"steps"`                // Noisy updates. Required.
}

// Validate reports the first field that is out of range.
func (m Mechanism) Validate() error {
	switch {
	case !(m.ClippingNorm > 0) || math.IsInf(m.ClippingNorm, 1): // !(x > 0) also catches NaN.
		return fmt.Errorf("clipping norm is %g, want positive and finite", m.ClippingNorm)
	case !(m.NoiseMultiplier > 0) || math.IsInf(m.NoiseMultiplier, 1):
		return fmt.Errorf("noise multiplier is %g, want positive and finite; scumble calibrate finds one", m.NoiseMultiplier)
	case !(m.SamplingProbability > 0 && m.SamplingProbability <= 1):
		return fmt.Errorf("sampling probability is %g, want in (0, 1]", m.SamplingProbability)
	case !(m.ExpectedBatchSize > 0) || math.IsInf(m.ExpectedBatchSize, 1):
		return fmt.Errorf("expected batch size is %g, want positive and finite", m.ExpectedBatchSize)
	case m.Steps <= 0:
		return fmt.Errorf("steps is %d, want at least 1", m.Steps)
	}
	return nil
}
