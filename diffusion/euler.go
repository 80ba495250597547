package diffusion

import (
	"fmt"
	"math"
)

// Euler follows the probability flow x = x_0 + σ·noise, dx/dσ = (x - x_0)/σ, by
// Euler's method (Karras et al. 2022, Section 3, without churn), on a
// variance-preserving model or one of EDM. Its x is on the scale of that flow.
type Euler struct {
	precondition
	*levels
	calls []Call
}

// NewEuler returns an Euler sampler with that many network calls.
func NewEuler(c *Config, steps int) (*Euler, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Euler{}
	var err error
	if s.precondition, err = newPrecondition(c); err != nil {
		return nil, err
	}
	if c.IsEDM() {
		s.levels, err = c.edm(steps)
	} else {
		s.levels, err = c.euler(steps, s.ladder)
	}
	if err != nil {
		return nil, err
	}
	for i, t := range s.levels.timesteps {
		s.calls = append(s.calls, Call{Timestep: t, Sigma: s.sigmas[i]})
	}
	return s, nil
}

// euler returns the levels of continuous with what only an Euler sampler has.
func (c *Config) euler(steps int, l *ladder) (*levels, error) {
	v, err := c.continuous(steps)
	if err != nil {
		return nil, err
	}
	if c.Levels.Interpolation == "log_linear" && !c.Levels.Karras && !c.Levels.Exponential && !c.Levels.Beta {
		// As diffusers has it: one level more, so that it ends at the cleanest of
		// the schedule, while the timesteps stay.
		if len(l.sigmas) < 2 {
			return nil, fmt.Errorf("scheduler config: interpolation_type is %q with 1 timestep, want at least 2", c.Levels.Interpolation)
		}
		v.start /= v.sigmas[0]
		v.sigmas = geometric(l.sigmas[0], l.sigmas[len(l.sigmas)-1], steps+1)
		v.start = v.sigmas[0]
		if c.Spacing == Leading {
			v.start = math.Hypot(v.sigmas[0], 1)
		}
	}
	if c.Levels.TimestepType == Continuous && c.Prediction == PredictV {
		for i := range v.timesteps {
			v.timesteps[i] = math.Log(v.sigmas[i]) / 4
		}
	}
	return v, nil
}

// Calls implements Sampler.
func (s *Euler) Calls() []Call { return s.calls }

// NewRun implements Sampler.
func (s *Euler) NewRun() Run { return s }

// Begin implements Run.
func (s *Euler) Begin(x []float32, _ Normal) { scale(x, x, s.start) }

// Input implements Run.
func (s *Euler) Input(i int, dst, x []float32) { scale(dst, x, s.input(s.sigmas[i])) }

// Step implements Run.
func (s *Euler) Step(i int, x, output []float32, _ Normal) {
	mustMatch(len(x), len(output))
	sigma, next := s.sigmas[i], s.sigmas[i+1]
	for j := range x {
		v := float64(x[j])
		d := (v - s.denoise(v, float64(output[j]), sigma)) / sigma
		x[j] = float32(v + (next-sigma)*d)
	}
}
