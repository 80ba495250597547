package diffusion

import (
	"fmt"
	"math"
	"slices"
)

// Sampler solves the reverse process: from noise to an image, with one network
// call per step. A run is
//
//	fill x with standard normal values
//	for i, t := range s.Timesteps() {
//		output := network(x, t)
//		s.Step(i, x, output, rng)
//	}
//
// after which x is the sample. x is always on the variance-preserving scale of
// the schedule. Values are independent of each other, so that x may hold one
// image or many; a caller that wants images that do not depend on their batch
// calls Step once per image, each with its own generator. Implementations are
// tested by package samplertest.
type Sampler interface {
	// Timesteps returns the timestep of each network call, never increasing.
	// The slice must not be changed.
	Timesteps() []int

	// Step replaces x, the input of network call i, by that of call i+1, or by
	// the sample after the last. output is the network's answer, as long as x;
	// it is not changed. noise may be nil where the sampler adds none.
	Step(i int, x, output []float32, noise Normal)
}

// Normal is a source of standard normal values; *rand.Rand is one.
type Normal interface{ NormFloat64() float64 }

// timesteps returns the timesteps of a sampler with that many steps.
func (c *Config) timesteps(steps int) ([]int, error) {
	if steps < 1 || steps > c.Steps {
		return nil, fmt.Errorf("sampler has %d steps, want 1 to the schedule's %d", steps, c.Steps)
	}
	list := make([]int, steps)
	for i := range list { // From the cleanest to the noisiest.
		switch c.Spacing {
		case Leading:
			list[i] = i*(c.Steps/steps) + c.StepsOffset
		case Linspace:
			if steps > 1 {
				list[i] = int(math.RoundToEven(float64(i) * float64(c.Steps-1) / float64(steps-1)))
			}
		case Trailing:
			back := float64(steps-1-i) * float64(c.Steps) / float64(steps)
			list[i] = int(math.RoundToEven(float64(c.Steps)-back)) - 1
		}
	}
	slices.Reverse(list)
	if last := list[0]; last >= c.Steps {
		return nil, fmt.Errorf("sampler with %d steps and steps_offset %d starts at timestep %d, want at most %d; take fewer steps",
			steps, c.StepsOffset, last, c.Steps-1)
	}
	return list, nil
}

// common is what the samplers of this package share.
type common struct {
	schedule   *Schedule
	prediction Prediction
	clip       float64 // Bound on predicted x_0; +Inf if none.
	timesteps  []int
}

func newCommon(c *Config, steps int) (common, error) {
	if err := c.Validate(); err != nil {
		return common{}, err
	}
	schedule, err := NewSchedule(c)
	if err != nil {
		return common{}, err
	}
	list, err := c.timesteps(steps)
	if err != nil {
		return common{}, err
	}
	clip := math.Inf(1)
	if c.ClipSample {
		clip = c.ClipSampleRange
	}
	return common{schedule: schedule, prediction: c.Prediction, clip: clip, timesteps: list}, nil
}

// Timesteps implements Sampler.
func (s *common) Timesteps() []int { return s.timesteps }

// split returns the predicted x_0, clipped if the config says so, and the
// predicted noise, which clipping leaves alone.
func (s *common) split(x, output float32, signalRate, noiseRate float64) (x0, noise float64) {
	x0, noise = s.prediction.Split(float64(x), float64(output), signalRate, noiseRate)
	return max(-s.clip, min(s.clip, x0)), noise
}
