package diffusion

import "slices"

// Heun follows the same flow as [Euler] by Heun's second-order method (Karras et
// al. 2022, Algorithm 1), on a variance-preserving model. A step but the last
// calls the network twice: 2·steps - 1 calls.
type Heun struct {
	precondition
	*levels
	calls []Call
}

// NewHeun returns a Heun sampler over that many noise levels.
func NewHeun(c *Config, steps int) (*Heun, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Heun{}
	var err error
	if s.precondition, err = newPrecondition(c); err != nil {
		return nil, err
	}
	if c.IsEDM() {
		s.levels, err = c.edm(steps)
	} else {
		zero := *c
		zero.Levels.Final = FinalZero // Diffusers' class has no other.
		s.levels, err = zero.continuous(steps)
	}
	if err != nil {
		return nil, err
	}
	s.calls = twice(s.levels)
	return s, nil
}

// twice returns the calls of a method that calls the network at the beginning
// and at the end of each step but the one to σ = 0.
func twice(v *levels) []Call {
	var calls []Call
	for i, t := range v.timesteps {
		call := Call{Timestep: t, Sigma: v.sigmas[i]}
		if calls = append(calls, call); i > 0 {
			calls = append(calls, call)
		}
	}
	return calls
}

// Calls implements Sampler.
func (s *Heun) Calls() []Call { return s.calls }

// NewRun implements Sampler.
func (s *Heun) NewRun() Run { return &heunRun{Heun: s} }

// heunRun is a run of Heun.
type heunRun struct {
	*Heun
	half halfStep
}

// Begin implements Run.
func (r *heunRun) Begin(x []float32, _ Normal) { scale(x, x, r.start) }

// Input implements Run.
func (r *heunRun) Input(i int, dst, x []float32) { scale(dst, x, r.input(r.calls[i].Sigma)) }

// Step implements Run. Calls 0, 2, 4, ... begin a step; 1, 3, 5, ... end one.
func (r *heunRun) Step(i int, x, output []float32, _ Normal) {
	r.half.step(&r.precondition, i%2 == 0, x, output, r.sigmas[i/2], r.sigmas[i/2+1])
}

// halfStep remembers the first half of a step of Heun's method.
type halfStep struct {
	before []float32 // x at the beginning of the step.
	slope  []float64 // dx/dσ there.
}

// step moves x from level from to level to: first along the slope at the
// beginning, then from the beginning along the mean of that and the slope at the
// end. output is the network's, of x.
func (h *halfStep) step(p *precondition, begins bool, x, output []float32, from, to float64) {
	mustMatch(len(x), len(output))
	if begins {
		h.before, h.slope = slices.Clone(x), make([]float64, len(x))
		for j := range x {
			v := float64(x[j])
			h.slope[j] = (v - p.denoise(v, float64(output[j]), from)) / from
			x[j] = float32(v + (to-from)*h.slope[j])
		}
		return
	}
	for j := range x {
		v := float64(x[j])
		end := (v - p.denoise(v, float64(output[j]), to)) / to
		x[j] = float32(float64(h.before[j]) + (to-from)*(h.slope[j]+end)/2)
	}
}
