package diffusion

import (
	"fmt"
	"math"
)

// DDIM is the sampler of Song et al. 2021 (https://arxiv.org/abs/2010.02502).
type DDIM struct {
	common
	eta        float64
	stride     int     // Timesteps that one step goes back.
	finalAlpha float64 // ᾱ after the last step.
}

// NewDDIM returns a DDIM sampler with that many network calls. eta is the share
// of DDPM's noise, in [0, 1]: with 0 the sampler is deterministic.
func NewDDIM(c *Config, steps int, eta float64) (*DDIM, error) {
	if !(eta >= 0 && eta <= 1) {
		return nil, fmt.Errorf("DDIM's eta is %g, want 0 to 1", eta)
	}
	base, err := newCommon(c, steps)
	if err != nil {
		return nil, err
	}
	s := &DDIM{common: base, eta: eta, stride: c.Steps / steps, finalAlpha: 1}
	if !c.SetAlphaToOne {
		s.finalAlpha = s.schedule.AlphasCumprod[0]
	}
	return s, nil
}

// NewRun implements Sampler.
func (s *DDIM) NewRun() Run { return s }

// Step implements Run: Eq. 12 of the paper.
func (s *DDIM) Step(i int, x, output []float32, noise Normal) {
	mustMatch(len(x), len(output))
	t := s.timesteps[i]
	alpha, alphaPrev := s.schedule.AlphasCumprod[t], s.finalAlpha
	// As diffusers has it, also where linspace and trailing timesteps are not
	// exactly one stride apart.
	if prev := t - s.stride; prev >= 0 {
		alphaPrev = s.schedule.AlphasCumprod[prev]
	}
	std := s.eta * math.Sqrt((1-alphaPrev)/(1-alpha)*(1-alpha/alphaPrev)) // Eq. 16.
	direction := math.Sqrt(max(0, 1-alphaPrev-std*std))
	signal, spread := math.Sqrt(alpha), math.Sqrt(1-alpha)
	for j := range x {
		x0, eps := s.split(x[j], output[j], signal, spread)
		y := math.Sqrt(alphaPrev)*x0 + direction*eps
		if std > 0 {
			y += std * noise.NormFloat64()
		}
		x[j] = float32(y)
	}
}
