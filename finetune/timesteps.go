package finetune

import (
	"fmt"
	"math"
	"sort"

	"github.com/scumble-dp/scumble/diffusion"
)

// Distribution of the timesteps that training draws.
type Distribution string

const (
	UniformTimesteps     Distribution = ""             // Every one alike.
	LogitNormalTimesteps Distribution = "logit-normal" // The share t/T is a logistic function of a normal (Esser et al. 2024, https://arxiv.org/abs/2403.03206).
	LogNormalSigma       Distribution = "log-normal"   // ln σ_t is normal (Karras et al. 2022, https://arxiv.org/abs/2206.00364).
	MixtureTimesteps     Distribution = "mixture"      // Uniform parts with weights (Ghalebikesabi et al. 2023, https://arxiv.org/abs/2302.13861).
)

// LossWeight says how much a timestep's error counts.
type LossWeight string

const (
	EqualWeight  LossWeight = ""        // The error of what the network predicts, as it is.
	MinSNRWeight LossWeight = "min-snr" // min(SNR, 5) on the error of x_0 (Hang et al. 2023, https://arxiv.org/abs/2303.09556).
	EDMWeight    LossWeight = "edm"     // (σ²+σ_data²)/(σ·σ_data)² on the error of x_0 (Karras et al. 2022, Table 1).
)

// minSNR is γ of MinSNRWeight.
const minSNR = 5

// Timesteps of the draws. All of it is public, and nothing depends on an image: an
// example's gradient is the mean over its draws, whatever their timesteps are, and
// is clipped after.
type Timesteps struct {
	Distribution Distribution `yaml:"distribution,omitempty" json:"distribution,omitempty"`
	Mean         float64      `yaml:"mean,omitempty" json:"mean,omitempty"`           // Of the normal. With Deviation 0: the paper's.
	Deviation    float64      `yaml:"deviation,omitempty" json:"deviation,omitempty"` // Of the normal. Zero means the paper's mean and deviation.
	Parts        []Part       `yaml:"parts,omitempty" json:"parts,omitempty"`         // Of a mixture.
}

// Part of a mixture: timesteps in [From, To), as shares of the schedule.
type Part struct {
	From   float64 `yaml:"from" json:"from"`
	To     float64 `yaml:"to" json:"to"`
	Weight float64 `yaml:"weight" json:"weight"` // Of the part, against the others'.
}

func (c Timesteps) validate() error {
	switch c.Distribution {
	case UniformTimesteps, LogitNormalTimesteps, LogNormalSigma, MixtureTimesteps:
	default:
		return fmt.Errorf("training.timesteps.distribution is %q, want logit-normal, log-normal or mixture, or nothing for uniform", c.Distribution)
	}
	if math.IsNaN(c.Mean) || math.IsInf(c.Mean, 0) {
		return fmt.Errorf("training.timesteps.mean is %g, want a number", c.Mean)
	}
	if !(c.Deviation >= 0) || math.IsInf(c.Deviation, 1) {
		return fmt.Errorf("training.timesteps.deviation is %g, want positive, or 0 for the paper's", c.Deviation)
	}
	for i, p := range c.Parts {
		if !(p.From >= 0 && p.From < p.To && p.To <= 1) || !(p.Weight > 0) || math.IsInf(p.Weight, 1) {
			return fmt.Errorf("training.timesteps.parts: number %d is %g to %g with weight %g, want 0 <= from < to <= 1 and a positive weight", i+1, p.From, p.To, p.Weight)
		}
	}
	if (c.Distribution == MixtureTimesteps) != (len(c.Parts) > 0) {
		return fmt.Errorf("training.timesteps.distribution is %q with %d parts, want parts with a mixture, and with nothing else", c.Distribution, len(c.Parts))
	}
	return nil
}

// timesteps draws timesteps by a public table.
type timesteps struct {
	limit      int       // Timesteps are in [0, limit).
	cumulative []float64 // P(t <= i) for i below limit, last 1; nil is uniform.
}

// newTimesteps returns the distribution over the lower share, max, of a schedule.
func newTimesteps(c Timesteps, schedule *diffusion.Schedule, share float64) (*timesteps, error) {
	d := &timesteps{limit: max(1, int(share*float64(schedule.Steps())))}
	mean, deviation := c.Mean, c.Deviation
	var mass func(t int) float64
	switch c.Distribution {
	case UniformTimesteps:
		return d, nil
	case LogitNormalTimesteps:
		if deviation == 0 {
			mean, deviation = 0, 1
		}
		logit := func(t int) float64 {
			u := float64(t) / float64(d.limit)
			return math.Log(u / (1 - u)) // ±Inf at the ends.
		}
		mass = func(t int) float64 { return between(logit(t), logit(t+1), mean, deviation) }
	case LogNormalSigma:
		if deviation == 0 {
			mean, deviation = -1.2, 1.2
		}
		edge := func(t int) float64 { // Half-way between the levels of t-1 and t.
			last := schedule.Steps() - 1
			if t == 0 {
				return logSigma(schedule, 0) - 1e-3
			}
			if t > last {
				return logSigma(schedule, last) + 1e-3
			}
			return (logSigma(schedule, t-1) + logSigma(schedule, t)) / 2
		}
		mass = func(t int) float64 { return between(edge(t), edge(t+1), mean, deviation) }
	case MixtureTimesteps:
		total := 0.0
		for _, p := range c.Parts {
			total += p.Weight
		}
		mass = func(t int) float64 {
			m := 0.0
			for _, p := range c.Parts {
				from, to := p.From*float64(schedule.Steps()), p.To*float64(schedule.Steps())
				overlap := min(to, float64(t+1)) - max(from, float64(t))
				m += p.Weight / total * max(0, overlap) / (to - from)
			}
			return m
		}
	}
	return d, d.fill(mass)
}

// fill sums masses up to a table.
func (d *timesteps) fill(mass func(t int) float64) error {
	d.cumulative = make([]float64, d.limit)
	sum := 0.0
	for t := range d.cumulative {
		sum += mass(t)
		d.cumulative[t] = sum
	}
	if !(sum > 1e-12) || math.IsInf(sum, 1) {
		return fmt.Errorf("%w: training.timesteps gives no timestep of the base model's schedule a chance", ErrConfig)
	}
	for t := range d.cumulative {
		d.cumulative[t] /= sum
	}
	d.cumulative[d.limit-1] = 1
	return nil
}

// above returns the distribution given that t is at least first.
func (d *timesteps) above(first int) (*timesteps, error) {
	a := &timesteps{limit: d.limit}
	return a, a.fill(func(t int) float64 {
		if t < first {
			return 0
		}
		return d.probability(t)
	})
}

// probability of one timestep.
func (d *timesteps) probability(t int) float64 {
	switch {
	case d.cumulative == nil:
		return 1 / float64(d.limit)
	case t == 0:
		return d.cumulative[0]
	}
	return d.cumulative[t] - d.cumulative[t-1]
}

// at returns the timestep at quantile u in [0, 1).
func (d *timesteps) at(u float64) int32 {
	if d.cumulative == nil {
		return int32(u * float64(d.limit))
	}
	return int32(sort.Search(d.limit-1, func(t int) bool { return d.cumulative[t] > u }))
}

// between returns the chance that a normal falls between a and b.
func between(a, b, mean, deviation float64) float64 {
	below := func(x float64) float64 { return math.Erfc(-(x-mean)/(deviation*math.Sqrt2)) / 2 }
	return max(0, below(b)-below(a))
}

// logSigma returns ln σ_t, σ_t² = (1-ᾱ_t)/ᾱ_t.
func logSigma(s *diffusion.Schedule, t int) float64 {
	alpha := s.AlphasCumprod[t]
	return math.Log((1-alpha)/alpha) / 2
}

// lossWeights returns a weight for each timestep, nil for EqualWeight, so that
// their mean over the drawn timesteps is 1: gradients, and with them the clipping
// norm that fits, keep their scale. Weights of papers are on the error of x_0, which is
// 1/SNR times that of the noise and 1/(SNR+1) times that of v.
//
//   - deviation: of the data that the network sees, σ_data.
func lossWeights(kind LossWeight, schedule *diffusion.Schedule, prediction diffusion.Prediction, d *timesteps, deviation float64) ([]float64, error) {
	if kind == EqualWeight {
		return nil, nil
	}
	weights := make([]float64, schedule.Steps())
	mean := 0.0
	for t := range weights {
		alpha := schedule.AlphasCumprod[t]
		snr := alpha / (1 - alpha)
		var onX0 float64
		switch kind {
		case MinSNRWeight:
			onX0 = min(snr, minSNR)
		case EDMWeight: // With σ² = 1/SNR.
			onX0 = snr + 1/(deviation*deviation)
		}
		switch prediction {
		case diffusion.PredictNoise:
			weights[t] = onX0 / snr
			if kind == MinSNRWeight { // Also where the SNR is 0.
				weights[t] = 1
				if snr > minSNR {
					weights[t] = minSNR / snr
				}
			}
		case diffusion.PredictV:
			weights[t] = onX0 / (snr + 1)
		default:
			weights[t] = onX0
		}
		if t < d.limit {
			mean += weights[t] * d.probability(t)
		}
	}
	if !(mean > 0) || math.IsInf(mean, 1) {
		return nil, fmt.Errorf("%w: training.loss_weight %s has no finite mean over the timesteps of the base model: its last has no signal; choose another, or training.max_timestep below 1", ErrConfig, kind)
	}
	for t := range weights {
		weights[t] /= mean
		if math.IsInf(weights[t], 1) { // Never drawn.
			weights[t] = 0
		}
	}
	return weights, nil
}
