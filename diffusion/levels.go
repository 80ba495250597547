package diffusion

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// levels are the noise levels that a sampler visits: σ of each step, then that
// after the last, and what the network is told at each step.
type levels struct {
	sigmas    []float64 // One more than timesteps.
	timesteps []float64
	start     float64 // Standard deviation of the first state.
}

// ladder is the schedule on the scale of noise levels, σ_t = √(1-ᾱ_t)/√ᾱ_t.
type ladder struct{ sigmas, logs []float64 }

func newLadder(c *Config) (*ladder, error) {
	s, err := NewSchedule(c)
	if err != nil {
		return nil, err
	}
	l := &ladder{}
	for t, alpha := range s.AlphasCumprod {
		if c.RescaleZeroSNR && t == len(s.AlphasCumprod)-1 {
			alpha = 1.0 / (1 << 24) // As diffusers has it: σ must be finite.
		}
		sigma := math.Sqrt((1 - alpha) / alpha)
		l.sigmas, l.logs = append(l.sigmas, sigma), append(l.logs, math.Log(sigma))
	}
	return l, nil
}

// at returns σ at a timestep, linearly between two of them.
func (l *ladder) at(t float64) float64 {
	low := min(max(int(t), 0), len(l.sigmas)-1)
	if low == len(l.sigmas)-1 {
		return l.sigmas[low]
	}
	w := t - float64(low)
	return l.sigmas[low] + w*(l.sigmas[low+1]-l.sigmas[low])
}

// timestep returns where a noise level lies, linearly in log σ between two
// timesteps, and at an end beyond the schedule.
func (l *ladder) timestep(sigma float64) float64 {
	if len(l.logs) == 1 {
		return 0
	}
	log := math.Log(max(sigma, 1e-10))
	low, found := slices.BinarySearch(l.logs, log)
	if !found {
		low--
	}
	low = min(max(low, 0), len(l.logs)-2)
	w := (log - l.logs[low]) / (l.logs[low+1] - l.logs[low])
	return float64(low) + min(1, max(0, w))
}

// multistep returns the levels of DPM-Solver++, on whole timesteps.
func (c *Config) multistep(steps int) (*levels, error) {
	l, err := newLadder(c)
	if err != nil {
		return nil, err
	}
	if steps < 1 || steps > c.Steps {
		return nil, fmt.Errorf("sampler has %d steps, want 1 to the schedule's %d", steps, c.Steps)
	}
	// λ_t = log(α/σ) falls with t; those below the bound are left out.
	last := c.Steps
	for last > 0 && -l.logs[last-1] < c.Levels.LambdaMinClipped {
		last--
	}
	v := &levels{start: 1}
	for i := range steps {
		t, back := 0.0, float64(steps-i)
		switch c.Spacing {
		case Linspace:
			t = math.RoundToEven(back * float64(last-1) / float64(steps))
		case Leading:
			t = back*float64(last/(steps+1)) + float64(c.StepsOffset)
		case Trailing:
			t = math.RoundToEven(float64(last)-float64(i)*float64(c.Steps)/float64(steps)) - 1
		}
		v.timesteps = append(v.timesteps, t)
	}
	if top := v.timesteps[0]; top >= float64(c.Steps) || v.timesteps[steps-1] < 0 {
		return nil, fmt.Errorf("sampler with %d steps and steps_offset %d visits timesteps %g to %g, want 0 to %d; take fewer steps",
			steps, c.StepsOffset, top, v.timesteps[steps-1], c.Steps-1)
	}
	// Here the other spacings span the whole schedule, not the timesteps above.
	if c.Levels.spread(v, l, l.sigmas[0], l.sigmas[len(l.sigmas)-1]) {
		if (c.Levels.Karras || c.Levels.Lu) && c.BetaSchedule != SquaredCosine {
			for i, t := range v.timesteps {
				v.timesteps[i] = math.RoundToEven(t)
			}
		}
		for i, t := range v.timesteps { // The network is told whole ones.
			v.timesteps[i] = math.Trunc(t)
		}
	} else {
		for _, t := range v.timesteps {
			v.sigmas = append(v.sigmas, l.at(t))
		}
	}
	return v, v.finish(c, l)
}

// continuous returns the levels of Euler and Heun samplers, whose timesteps need
// not be whole.
func (c *Config) continuous(steps int) (*levels, error) {
	l, err := newLadder(c)
	if err != nil {
		return nil, err
	}
	if steps < 1 || steps > c.Steps {
		return nil, fmt.Errorf("sampler has %d steps, want 1 to the schedule's %d", steps, c.Steps)
	}
	v := &levels{}
	for i := range steps {
		t, back := 0.0, float64(steps-1-i)
		switch c.Spacing {
		case Linspace:
			if steps > 1 {
				t = back * float64(c.Steps-1) / float64(steps-1)
			}
		case Leading:
			t = back*float64(c.Steps/steps) + float64(c.StepsOffset)
		case Trailing:
			t = math.RoundToEven(float64(c.Steps)-float64(i)*float64(c.Steps)/float64(steps)) - 1
		}
		v.timesteps = append(v.timesteps, t)
	}
	if top := v.timesteps[0]; top >= float64(c.Steps) {
		return nil, fmt.Errorf("sampler with %d steps and steps_offset %d starts at timestep %g, want at most %d; take fewer steps",
			steps, c.StepsOffset, top, c.Steps-1)
	}
	if !c.Levels.spread(v, l, l.at(v.timesteps[steps-1]), l.at(v.timesteps[0])) {
		for _, t := range v.timesteps {
			v.sigmas = append(v.sigmas, l.at(t))
		}
	}
	if err := v.finish(c, l); err != nil {
		return nil, err
	}
	v.start = v.sigmas[0]
	if c.Spacing == Leading {
		v.start = math.Hypot(v.sigmas[0], 1)
	}
	return v, nil
}

// edm returns the levels of the EDM process, and what its networks are told:
// ln(σ)/4 (Karras et al. 2022, Table 1).
func (c *Config) edm(steps int) (*levels, error) {
	if steps < 1 || steps > maxSteps {
		return nil, fmt.Errorf("sampler has %d steps, want 1 to %d", steps, maxSteps)
	}
	v := &levels{start: math.Hypot(c.Levels.Max, 1)}
	if !(c.Levels.Min > 0 && c.Levels.Max > c.Levels.Min) {
		return nil, fmt.Errorf("scheduler config: sigma_min is %g and sigma_max %g, want 0 < sigma_min < sigma_max", c.Levels.Min, c.Levels.Max)
	}
	if c.Levels.Schedule == "exponential" {
		v.sigmas = geometric(c.Levels.Min, c.Levels.Max, steps)
	} else {
		v.sigmas = karras(c.Levels.Min, c.Levels.Max, c.Levels.Rho, steps)
	}
	for _, sigma := range v.sigmas {
		v.timesteps = append(v.timesteps, math.Log(sigma)/4)
	}
	last := 0.0
	if c.Levels.Final == FinalMin {
		last = v.sigmas[steps-1]
	}
	v.sigmas = append(v.sigmas, last)
	return v, nil
}

// spread sets the levels of Karras, exponential, beta or Lu spacing between low
// and high, or the config's bounds, with their timesteps; false if the config
// has none of them.
func (o *Levels) spread(v *levels, l *ladder, low, high float64) bool {
	if !o.Lu {
		if o.Min > 0 {
			low = o.Min
		}
		if o.Max > 0 {
			high = o.Max
		}
	}
	steps := len(v.timesteps)
	switch {
	case o.Karras:
		v.sigmas = karras(low, high, 7, steps)
	case o.Exponential, o.Lu: // Both are even in log σ.
		v.sigmas = geometric(low, high, steps)
	case o.Beta:
		v.sigmas = beta(low, high, steps)
	default:
		return false
	}
	for i, sigma := range v.sigmas {
		v.timesteps[i] = l.timestep(sigma)
	}
	return true
}

// finish appends the level after the last step and checks that all fall.
func (v *levels) finish(c *Config, l *ladder) error {
	for i := 1; i < len(v.sigmas); i++ {
		if !(v.sigmas[i] < v.sigmas[i-1]) {
			return fmt.Errorf("sampler with %d steps visits noise level %g after %g, want it to fall; take fewer steps",
				len(v.timesteps), v.sigmas[i], v.sigmas[i-1])
		}
	}
	last := 0.0
	if c.Levels.Final == FinalMin {
		last = l.sigmas[0]
	}
	v.sigmas = append(v.sigmas, last)
	return nil
}

// karras returns levels from high to low, evenly spaced in σ^(1/rho) (Karras et
// al. 2022, Eq. 5, https://arxiv.org/abs/2206.00364).
func karras(low, high, rho float64, steps int) []float64 {
	from, to := math.Pow(high, 1/rho), math.Pow(low, 1/rho)
	return evenly(steps, func(along float64) float64 { return math.Pow(from+along*(to-from), rho) })
}

// geometric returns levels from high to low, evenly spaced in log σ.
func geometric(low, high float64, steps int) []float64 {
	from, to := math.Log(high), math.Log(low)
	return evenly(steps, func(along float64) float64 { return math.Exp(from + along*(to-from)) })
}

// beta returns levels from high to low at quantiles of the distribution Beta(0.6,
// 0.6) (Lee et al. 2024, https://arxiv.org/abs/2407.12173).
func beta(low, high float64, steps int) []float64 {
	d := distuv.Beta{Alpha: 0.6, Beta: 0.6}
	return evenly(steps, func(along float64) float64 { return low + d.Quantile(1-along)*(high-low) })
}

// evenly returns f at points from 0 to 1; at 0 if there is one step only.
func evenly(steps int, f func(along float64) float64) []float64 {
	list := make([]float64, steps)
	for i := range list {
		along := 0.0
		if steps > 1 {
			along = float64(i) / float64(steps-1)
		}
		list[i] = f(along)
	}
	return list
}
