package diffusion

import (
	"fmt"
	"math"
	"slices"
)

// Sampler is a way through the reverse process, from noise to an image: which
// noise levels it visits, and how it steps between them. It holds no state of a
// run and may be used by many at the same time. A run is
//
//	run := s.NewRun()
//	fill x with standard normal values
//	run.Begin(x, rng)
//	for i, call := range s.Calls() {
//		run.Input(i, input, x)
//		output := network(input, call.Timestep)
//		run.Step(i, x, output, rng)
//	}
//
// after which x is the sample. Values are independent of each other, so that x
// may hold one image or many; a caller that wants images that do not depend on
// their batch has a run and a generator for each. Implementations are tested by
// package samplertest.
type Sampler interface {
	// Calls returns the network calls in order, their noise levels never
	// increasing but where noise is added. The slice must not be changed.
	Calls() []Call

	// NewRun begins a run. It remembers what a later step needs.
	NewRun() Run
}

// Call is one call of the network.
type Call struct {
	Timestep float64 // What the network is told, perhaps between two timesteps.
	Sigma    float64 // Noise level √(1-ᾱ)/√ᾱ of what it sees: noise per unit of signal.
}

// Run is one run of a sampler. Its x is on a scale of its own between Begin and
// the last step.
type Run interface {
	// Begin turns standard normal values into the first state. noise may be nil
	// where the sampler adds none.
	Begin(x []float32, noise Normal)

	// Input sets dst to what the network sees in call i, as long as x; it may be
	// x.
	Input(i int, dst, x []float32)

	// Step replaces x, the state at call i, by that at call i+1, or by the sample
	// after the last. output is the network's answer, as long as x; it is not
	// changed. noise may be nil where the sampler adds none. Steps come in order,
	// but a caller may have replaced x.
	Step(i int, x, output []float32, noise Normal)
}

// Normal is a source of standard normal values; *rand.Rand is one.
type Normal interface{ NormFloat64() float64 }

// timesteps returns the timesteps of DDPM and DDIM with that many steps.
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

// common is what the samplers on whole timesteps share. Their x is always on the
// variance-preserving scale, and no step needs to remember the one before.
type common struct {
	schedule   *Schedule
	prediction Prediction
	clip       float64 // Bound on predicted x_0; +Inf if none.
	timesteps  []int
	calls      []Call
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
	s := common{schedule: schedule, prediction: c.Prediction, clip: c.clip(), timesteps: list}
	for _, t := range list {
		s.calls = append(s.calls, Call{Timestep: float64(t), Sigma: schedule.NoiseRate(t) / schedule.SignalRate(t)})
	}
	return s, nil
}

// clip returns the bound on predicted x_0, +Inf for none.
func (c *Config) clip() float64 {
	if c.ClipSample {
		return c.ClipSampleRange
	}
	return math.Inf(1)
}

// Calls implements Sampler.
func (s *common) Calls() []Call { return s.calls }

// Begin implements Run.
func (s *common) Begin([]float32, Normal) {}

// Input implements Run.
func (s *common) Input(_ int, dst, x []float32) {
	mustMatch(len(dst), len(x))
	copy(dst, x)
}

// split returns the predicted x_0, clipped if the config says so, and the
// predicted noise, which clipping leaves alone.
func (s *common) split(x, output float32, signalRate, noiseRate float64) (x0, noise float64) {
	x0, noise = s.prediction.Split(float64(x), float64(output), signalRate, noiseRate)
	return max(-s.clip, min(s.clip, x0)), noise
}
