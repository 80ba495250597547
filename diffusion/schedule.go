package diffusion

import (
	"fmt"
	"math"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// Schedule is the forward process q(x_t | x_0) = N(√ᾱ_t·x_0, 1-ᾱ_t) for
// timesteps t in [0, Steps).
type Schedule struct {
	Betas         []float64 // β_t.
	AlphasCumprod []float64 // ᾱ_t = Π_{s≤t} (1-β_s), in (0, 1); 0 at the end of a schedule rescaled to zero SNR.
}

// NewSchedule computes the schedule of a config. That of EDM is another process,
// on which this package samples but does not train.
func NewSchedule(c *Config) (*Schedule, error) {
	if c.IsEDM() {
		return nil, fmt.Errorf("scheduler config: _class_name is %q, which has no betas; only sampling is implemented for it", c.Class)
	}
	betas, err := c.betas()
	if err != nil {
		return nil, err
	}
	s := &Schedule{Betas: betas, AlphasCumprod: make([]float64, len(betas))}
	product := 1.0
	for t, beta := range betas {
		if !(beta > 0 && beta < 1) {
			return nil, fmt.Errorf("scheduler config: beta of timestep %d is %g, want between 0 and 1", t, beta)
		}
		product *= 1 - beta
		if !(product > 0 && product < 1) {
			return nil, fmt.Errorf("scheduler config: alpha_bar of timestep %d is %g, want between 0 and 1", t, product)
		}
		s.AlphasCumprod[t] = product
	}
	if c.RescaleZeroSNR {
		s.rescale()
	}
	return s, nil
}

// rescale shifts and scales √ᾱ_t so that the first stays and the last is 0 (Lin
// et al. 2024, Algorithm 1, https://arxiv.org/abs/2305.08891).
func (s *Schedule) rescale() {
	last := len(s.Betas) - 1
	first, end := s.SignalRate(0), s.SignalRate(last)
	if last == 0 {
		return // Nothing between the ends.
	}
	before := 1.0
	for t := range s.Betas {
		alpha := math.Pow((s.SignalRate(t)-end)*first/(first-end), 2)
		s.AlphasCumprod[t], s.Betas[t] = alpha, 1-alpha/before
		before = alpha
	}
}

func (c *Config) betas() ([]float64, error) {
	if c.TrainedBetas != nil {
		if len(c.TrainedBetas) != c.Steps {
			return nil, fmt.Errorf("scheduler config: %d trained_betas, want num_train_timesteps = %d", len(c.TrainedBetas), c.Steps)
		}
		return append([]float64(nil), c.TrainedBetas...), nil
	}
	betas := make([]float64, c.Steps)
	for t := range betas {
		along := 0.0 // 0 at the first timestep, 1 at the last.
		if c.Steps > 1 {
			along = float64(t) / float64(c.Steps-1)
		}
		switch c.BetaSchedule {
		case Linear:
			betas[t] = c.BetaStart + along*(c.BetaEnd-c.BetaStart)
		case ScaledLinear:
			low, high := math.Sqrt(c.BetaStart), math.Sqrt(c.BetaEnd)
			betas[t] = math.Pow(low+along*(high-low), 2)
		case SquaredCosine:
			// Nichol & Dhariwal 2021, Eq. 17, https://arxiv.org/abs/2102.09672.
			from, to := squaredCosine(float64(t)/float64(c.Steps)), squaredCosine(float64(t+1)/float64(c.Steps))
			betas[t] = min(1-to/from, 0.999)
		default:
			return nil, fmt.Errorf("scheduler config: beta_schedule is %q, want %q, %q or %q", c.BetaSchedule, Linear, ScaledLinear, SquaredCosine)
		}
	}
	return betas, nil
}

// squaredCosine is ᾱ at a fraction of the process, up to its value at 0.
func squaredCosine(along float64) float64 {
	return math.Pow(math.Cos((along+0.008)/1.008*math.Pi/2), 2)
}

// Steps returns the number of timesteps.
func (s *Schedule) Steps() int { return len(s.Betas) }

// SignalRate returns √ᾱ_t.
func (s *Schedule) SignalRate(t int) float64 { return math.Sqrt(s.AlphasCumprod[t]) }

// NoiseRate returns √(1-ᾱ_t).
func (s *Schedule) NoiseRate(t int) float64 { return math.Sqrt(1 - s.AlphasCumprod[t]) }

// AddNoise sets dst to √ᾱ_t·x0 + √(1-ᾱ_t)·noise, all of one length. dst may be
// x0 or noise. For the graph, see [AddNoise].
func (s *Schedule) AddNoise(dst, x0, noise []float32, t int) {
	mustMatch(len(dst), len(x0), len(noise))
	signal, spread := s.SignalRate(t), s.NoiseRate(t)
	for i := range dst {
		dst[i] = float32(signal*float64(x0[i]) + spread*float64(noise[i]))
	}
}

// Rates returns √ᾱ_t and √(1-ᾱ_t), each [rows] float32, for timesteps t [rows]
// int32, each in [0, Steps).
func (s *Schedule) Rates(t *Node) (signal, noise *Node) {
	t.AssertRank(1)
	g := t.Graph()
	rates := make([][]float32, s.Steps())
	for i := range rates {
		rates[i] = []float32{float32(s.SignalRate(i)), float32(s.NoiseRate(i))}
	}
	rows := Gather(Const(g, rates), ExpandAxes(t, -1)) // [rows, 2]
	halves := Split(rows, -1, 2)
	n := t.Shape().Dimensions[0]
	return Reshape(halves[0], n), Reshape(halves[1], n)
}

// AddNoise returns x_t = √ᾱ_t·x0 + √(1-ᾱ_t)·noise, a draw from q(x_t | x_0)
// (Ho et al. 2020, Eq. 4, https://arxiv.org/abs/2006.11239).
//
//   - x0, noise: [rows, height, width, channels], same dtype.
//   - signalRate, noiseRate: [rows] √ᾱ_t and √(1-ᾱ_t), from [Schedule.Rates] or
//     the host.
func AddNoise(x0, noise, signalRate, noiseRate *Node) *Node {
	return Add(Mul(perRow(signalRate, x0), x0), Mul(perRow(noiseRate, x0), noise))
}

// perRow reshapes a [rows] vector so that it multiplies x row by row.
func perRow(rate, x *Node) *Node {
	x.AssertRank(4)
	rate.AssertDims(x.Shape().Dimensions[0])
	if rate.DType() != x.DType() {
		rate = ConvertDType(rate, x.DType())
	}
	return Reshape(rate, -1, 1, 1, 1)
}

func mustMatch(n int, others ...int) {
	for _, m := range others {
		if m != n {
			panic(fmt.Errorf("diffusion: slices have %d and %d values, want as many", n, m))
		}
	}
}
