package diffusion

import "math"

// DDPM is the ancestral sampler of Ho et al. 2020
// (https://arxiv.org/abs/2006.11239), on all or on some of the timesteps.
type DDPM struct {
	common
	variance StepVariance
}

// NewDDPM returns a DDPM sampler with that many network calls.
func NewDDPM(c *Config, steps int) (*DDPM, error) {
	base, err := newCommon(c, steps)
	if err != nil {
		return nil, err
	}
	return &DDPM{common: base, variance: c.Variance}, nil
}

// NewRun implements Sampler.
func (s *DDPM) NewRun() Run { return s }

// Step implements Run: a draw of p(x_{t-1} | x_t), Eqs. 6 and 7 of the paper
// with predicted x_0, for the previous timestep of the sampler.
func (s *DDPM) Step(i int, x, output []float32, noise Normal) {
	mustMatch(len(x), len(output))
	t := s.timesteps[i]
	alphaBar, alphaBarPrev := s.schedule.AlphasCumprod[t], 1.0
	if i+1 < len(s.timesteps) {
		alphaBarPrev = s.schedule.AlphasCumprod[s.timesteps[i+1]]
	}
	alpha := alphaBar / alphaBarPrev
	beta := 1 - alpha
	ofX0 := math.Sqrt(alphaBarPrev) * beta / (1 - alphaBar)
	ofX := math.Sqrt(alpha) * (1 - alphaBarPrev) / (1 - alphaBar)

	std := 0.0
	if t > 0 {
		switch s.variance {
		case FixedSmall: // Diffusers keeps it off zero.
			std = math.Sqrt(max((1-alphaBarPrev)/(1-alphaBar)*beta, 1e-20))
		case FixedLarge:
			std = math.Sqrt(beta)
		}
	}
	signal, spread := math.Sqrt(alphaBar), math.Sqrt(1-alphaBar)
	for j := range x {
		x0, _ := s.split(x[j], output[j], signal, spread)
		y := ofX0*x0 + ofX*float64(x[j])
		if std > 0 {
			y += std * noise.NormFloat64()
		}
		x[j] = float32(y)
	}
}
