package diffusion

import (
	"fmt"
	"math"
)

// Churn is how much fresh noise an EDM sampler adds before its steps (Karras et
// al. 2022, Algorithm 2). The zero value adds none.
type Churn struct {
	Amount float64 `yaml:"s_churn,omitempty" json:"s_churn,omitempty"`
	Min    float64 `yaml:"s_tmin,omitempty" json:"s_tmin,omitempty"`   // Levels below stay as they are.
	Max    float64 `yaml:"s_tmax,omitempty" json:"s_tmax,omitempty"`   // Levels above stay as they are. 0 means no bound.
	Noise  float64 `yaml:"s_noise,omitempty" json:"s_noise,omitempty"` // Standard deviation of the noise. 0 means 1.
}

func (c Churn) validate() error {
	for _, v := range []float64{c.Amount, c.Min, c.Max, c.Noise} {
		if !(v >= 0) || math.IsInf(v, 1) {
			return fmt.Errorf("churn is %+v, want finite numbers of at least 0", c)
		}
	}
	switch {
	case c.Amount == 0 && c != (Churn{}):
		return fmt.Errorf("churn has s_churn 0, and s_tmin %g, s_tmax %g, s_noise %g do nothing without it", c.Min, c.Max, c.Noise)
	case c.Max != 0 && c.Min > c.Max:
		return fmt.Errorf("churn has s_tmin %g above s_tmax %g", c.Min, c.Max)
	}
	return nil
}

// EDM is the stochastic sampler of Karras et al. 2022 (Algorithm 2,
// https://arxiv.org/abs/2206.00364): Heun's method on levels evenly spaced in
// σ^(1/7), with noise added and taken away again. It works on networks of EDM and
// on variance-preserving ones, as in the paper's Section 5.
type EDM struct {
	precondition
	*levels
	hat   []float64 // σ̂: levels after noise is added.
	noise float64
	calls []Call
}

// NewEDM returns an EDM sampler over that many noise levels: 2·steps - 1 network
// calls. Levels lie between the config's sigma_min and sigma_max; without them,
// between the ends of the schedule.
func NewEDM(c *Config, steps int, churn Churn) (*EDM, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := churn.validate(); err != nil {
		return nil, err
	}
	s := &EDM{noise: churn.Noise}
	if s.noise == 0 {
		s.noise = 1
	}
	var err error
	if s.precondition, err = newPrecondition(c); err != nil {
		return nil, err
	}
	if s.levels, err = c.edmLevels(steps, s.ladder); err != nil {
		return nil, err
	}
	for i, sigma := range s.sigmas[:steps] {
		hat := sigma
		if sigma >= churn.Min && (churn.Max == 0 || sigma <= churn.Max) {
			hat += min(churn.Amount/float64(steps), math.Sqrt2-1) * sigma
		}
		s.hat = append(s.hat, hat)
		if i > 0 {
			s.calls = append(s.calls, Call{Timestep: s.timestep(sigma), Sigma: sigma})
		}
		s.calls = append(s.calls, Call{Timestep: s.timestep(hat), Sigma: hat})
	}
	return s, nil
}

// edmLevels returns Karras levels, whatever spacing the config has.
func (c *Config) edmLevels(steps int, l *ladder) (*levels, error) {
	if c.IsEDM() {
		v, err := c.edm(steps)
		if err != nil {
			return nil, err
		}
		v.start = v.sigmas[0]
		return v, nil
	}
	if steps < 1 || steps > c.Steps {
		return nil, fmt.Errorf("sampler has %d steps, want 1 to the schedule's %d", steps, c.Steps)
	}
	if c.StepsOffset > 0 && steps == c.Steps {
		return nil, fmt.Errorf("sampler with %d steps and steps_offset %d leaves no timestep out, want fewer steps", steps, c.StepsOffset)
	}
	low, high := l.sigmas[min(c.StepsOffset, len(l.sigmas)-1)], l.sigmas[len(l.sigmas)-1]
	if c.Levels.Min > 0 {
		low = c.Levels.Min
	}
	if c.Levels.Max > 0 {
		high = c.Levels.Max
	}
	v := &levels{sigmas: karras(low, high, 7, steps), timesteps: make([]float64, steps)}
	v.start = v.sigmas[0]
	for i, sigma := range v.sigmas {
		v.timesteps[i] = l.timestep(sigma)
	}
	v.sigmas = append(v.sigmas, 0)
	return v, nil
}

// Calls implements Sampler.
func (s *EDM) Calls() []Call { return s.calls }

// NewRun implements Sampler.
func (s *EDM) NewRun() Run { return &edmRun{EDM: s} }

// edmRun is a run of EDM.
type edmRun struct {
	*EDM
	half halfStep
}

// Begin implements Run.
func (r *edmRun) Begin(x []float32, noise Normal) {
	scale(x, x, r.start)
	r.raise(0, x, noise)
}

// Input implements Run.
func (r *edmRun) Input(i int, dst, x []float32) { scale(dst, x, r.input(r.calls[i].Sigma)) }

// raise adds noise from level i to level σ̂_i.
func (r *edmRun) raise(i int, x []float32, noise Normal) {
	if r.hat[i] == r.sigmas[i] {
		return
	}
	std := r.noise * math.Sqrt(r.hat[i]*r.hat[i]-r.sigmas[i]*r.sigmas[i])
	for j := range x {
		x[j] = float32(float64(x[j]) + std*noise.NormFloat64())
	}
}

// Step implements Run. Calls 0, 2, 4, ... begin a step; 1, 3, 5, ... end one.
func (r *edmRun) Step(i int, x, output []float32, noise Normal) {
	begins, at := i%2 == 0, i/2
	r.half.step(&r.precondition, begins, x, output, r.hat[at], r.sigmas[at+1])
	if !begins {
		r.raise(at+1, x, noise)
	}
}
