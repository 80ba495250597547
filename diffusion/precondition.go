package diffusion

import "math"

// precondition ties a network to x = x_0 + σ·noise (Karras et al. 2022, Eq. 7,
// https://arxiv.org/abs/2206.00364): what the network sees of x, and the x_0 that
// its output means.
type precondition struct {
	prediction Prediction
	clip       float64
	data       float64 // Standard deviation of EDM's data; 0 for a variance-preserving network.
	ladder     *ladder // Of a variance-preserving network.
}

func newPrecondition(c *Config) (precondition, error) {
	p := precondition{prediction: c.Prediction, clip: c.clip()}
	if c.IsEDM() {
		p.data, p.clip = c.Levels.Data, math.Inf(1)
		return p, nil
	}
	var err error
	p.ladder, err = newLadder(c)
	return p, err
}

// timestep is what the network is told of σ: c_noise.
func (p *precondition) timestep(sigma float64) float64 {
	if p.data > 0 {
		return math.Log(sigma) / 4
	}
	return p.ladder.timestep(sigma)
}

// input is the factor of x in what the network sees: c_in.
func (p *precondition) input(sigma float64) float64 {
	if p.data > 0 {
		return 1 / math.Hypot(sigma, p.data)
	}
	return 1 / math.Hypot(sigma, 1)
}

// denoise returns the predicted x_0.
func (p *precondition) denoise(x, output, sigma float64) float64 {
	if p.data > 0 {
		r := math.Hypot(sigma, p.data)
		skip, out := p.data*p.data/(r*r), sigma*p.data/r
		if p.prediction == PredictV {
			out = -out
		}
		return skip*x + out*output
	}
	signal := 1 / math.Hypot(sigma, 1)
	x0, _ := p.prediction.Split(signal*x, output, signal, sigma*signal)
	return max(-p.clip, min(p.clip, x0))
}

// scale sets dst to factor·x.
func scale(dst, x []float32, factor float64) {
	mustMatch(len(dst), len(x))
	for i, v := range x {
		dst[i] = float32(factor * float64(v))
	}
}
