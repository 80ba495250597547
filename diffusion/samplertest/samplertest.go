// Package samplertest is the conformance suite of [diffusion.Sampler]. Each
// implementation's tests run it.
package samplertest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/scumble-dp/scumble/diffusion"
)

// Make returns a sampler with that many network calls.
type Make func(c *diffusion.Config, steps int) (diffusion.Sampler, error)

// Options of Run.
type Options struct {
	AddsNoise bool // Noise levels may rise between steps.
}

// Run checks that a sampler keeps its contract and solves the problems whose
// solution is known, for every prediction and spacing.
func Run(t *testing.T, sampler Make, o Options) {
	predictions := []diffusion.Prediction{diffusion.PredictNoise, diffusion.PredictV, diffusion.PredictX0}
	for _, prediction := range predictions {
		for _, spacing := range []diffusion.Spacing{diffusion.Leading, diffusion.Linspace, diffusion.Trailing} {
			c := diffusion.DefaultConfig()
			c.Prediction, c.Spacing, c.ClipSample = prediction, spacing, false
			t.Run(fmt.Sprintf("%s/%s", prediction, spacing), func(t *testing.T) {
				for _, steps := range []int{1, 2, 10, 33} {
					contract(t, build(t, sampler, c, steps), c, o.AddsNoise)
					apart(t, build(t, sampler, c, steps))
					oracle(t, build(t, sampler, c, steps), c)
				}
				perValue(t, func() diffusion.Sampler { return build(t, sampler, c, 10) })
			})
		}
		t.Run(fmt.Sprintf("%s/gaussian", prediction), func(t *testing.T) {
			c := diffusion.DefaultConfig()
			// Trailing: all samplers then start at the noisiest timestep.
			c.Prediction, c.ClipSample, c.Spacing = prediction, false, diffusion.Trailing
			gaussian(t, build(t, sampler, c, 250), c)
		})
	}
	t.Run("clip", func(t *testing.T) {
		c := diffusion.DefaultConfig()
		c.ClipSampleRange = 0.5
		clips(t, build(t, sampler, c, 10), c)
	})
	t.Run("refuses", func(t *testing.T) {
		c := diffusion.DefaultConfig()
		for _, steps := range []int{-1, 0, c.Steps + 1} {
			if _, err := sampler(c, steps); err == nil {
				t.Errorf("%d steps: no error", steps)
			}
		}
		c.StepsOffset = 1
		if _, err := sampler(c, c.Steps); err == nil {
			t.Error("a first timestep outside the schedule: no error")
		}
	})
}

func build(t *testing.T, sampler Make, c *diffusion.Config, steps int) diffusion.Sampler {
	t.Helper()
	s, err := sampler(c, steps)
	if err != nil {
		t.Fatalf("%d steps: %v", steps, err)
	}
	return s
}

// run samples n values with a network that is a function of one value, on the
// variance-preserving scale, and its rates of signal and noise.
func run(s diffusion.Sampler, n int, rng *rand.Rand, network func(x, signal, spread float64) float64) []float32 {
	x, input, output := make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	r := s.NewRun()
	r.Begin(x, rng)
	for i, call := range s.Calls() {
		r.Input(i, input, x)
		signal := 1 / math.Hypot(call.Sigma, 1)
		for j := range input {
			output[j] = float32(network(float64(input[j]), signal, call.Sigma*signal))
		}
		r.Step(i, x, output, rng)
	}
	return x
}

// contract checks the timesteps, and that Step leaves its arguments alone.
func contract(t *testing.T, s diffusion.Sampler, c *diffusion.Config, addsNoise bool) {
	t.Helper()
	list := s.Calls()
	if len(list) == 0 {
		t.Fatal("no calls")
	}
	for i, call := range list {
		if !(call.Timestep >= 0 && call.Timestep <= float64(c.Steps-1)) || !(call.Sigma > 0) {
			t.Fatalf("calls are %v, want timesteps in [0, %d) and positive noise levels", list, c.Steps)
		}
		if !addsNoise && i > 0 && (call.Timestep > list[i-1].Timestep || call.Sigma > list[i-1].Sigma) {
			t.Fatalf("calls are %v, want them never to increase", list)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	x, output := []float32{0.3, -0.1, 2}, []float32{0.2, -1, 0.5}
	before := slices.Clone(output)
	r, input := s.NewRun(), make([]float32, len(x))
	r.Begin(x, rng)
	for i := range list {
		state := slices.Clone(x)
		if r.Input(i, input, x); !slices.Equal(x, state) {
			t.Fatal("Input changed the state")
		}
		r.Step(i, x, output, rng)
		for _, v := range x {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatalf("step %d of %d gives %v", i, len(list), x)
			}
		}
	}
	if !slices.Equal(output, before) {
		t.Fatal("Step changed the network's output")
	}
}

// oracle: if the network always knows x_0, the sample is x_0.
func oracle(t *testing.T, s diffusion.Sampler, c *diffusion.Config) {
	t.Helper()
	const x0 = 0.7
	x := run(s, 8, rand.New(rand.NewPCG(3, 4)), func(x, signal, spread float64) float64 {
		return c.Prediction.Output(x0, (x-signal*x0)/spread, signal, spread)
	})
	for _, v := range x {
		// Float32 outputs at t near 1000, divided by √ᾱ of 0.006, cost three digits.
		if math.Abs(float64(v)-x0) > 1e-4 {
			t.Fatalf("%d steps with a perfect network give %g, want %g", len(s.Calls()), v, x0)
		}
	}
}

// perValue: values do not influence each other.
func perValue(t *testing.T, fresh func() diffusion.Sampler) {
	t.Helper()
	run := func(x []float32) []float32 {
		s, input, output := fresh(), make([]float32, len(x)), make([]float32, len(x))
		r := s.NewRun()
		r.Begin(x, silence{})
		for i := range s.Calls() {
			r.Input(i, input, x)
			for j := range x {
				output[j] = 0.5*input[j] + 0.1
			}
			r.Step(i, x, output, silence{})
		}
		return x
	}
	together := run([]float32{0.4, -1.2})
	for j, start := range []float32{0.4, -1.2} {
		if alone := run([]float32{start}); alone[0] != together[j] {
			t.Fatalf("value %d is %g alone and %g beside another", j, alone[0], together[j])
		}
	}
}

// apart: two runs of one sampler, step by step in turn, do not disturb each
// other.
func apart(t *testing.T, s diffusion.Sampler) {
	t.Helper()
	starts := []float32{0.4, -1.2}
	together := make([][]float32, len(starts))
	runs := make([]diffusion.Run, len(starts))
	step := func(r diffusion.Run, i int, x []float32) {
		input := make([]float32, len(x))
		r.Input(i, input, x)
		r.Step(i, x, []float32{0.5*input[0] + 0.1}, silence{})
	}
	for k, start := range starts {
		together[k], runs[k] = []float32{start}, s.NewRun()
		runs[k].Begin(together[k], silence{})
	}
	for i := range s.Calls() {
		for k, r := range runs {
			step(r, i, together[k])
		}
	}
	for k, start := range starts {
		x, r := []float32{start}, s.NewRun()
		r.Begin(x, silence{})
		for i := range s.Calls() {
			step(r, i, x)
		}
		if x[0] != together[k][0] {
			t.Fatalf("a run gives %g alone and %g beside another", x[0], together[k][0])
		}
	}
}

type silence struct{}

func (silence) NormFloat64() float64 { return 0 }

// gaussian: for data N(m, s²) the best network is known in closed form, E[x_0 | x]
// = m + √ᾱ·s²·(x - √ᾱ·m)/(ᾱ·s² + 1 - ᾱ), and samples must be N(m, s²).
func gaussian(t *testing.T, sampler diffusion.Sampler, c *diffusion.Config) {
	t.Helper()
	const m, s, n = 0.3, 0.5, 4000
	x := run(sampler, n, rand.New(rand.NewPCG(5, 6)), func(x, signal, spread float64) float64 {
		x0 := m + signal*s*s*(x-signal*m)/(signal*signal*s*s+spread*spread)
		return c.Prediction.Output(x0, (x-signal*x0)/spread, signal, spread)
	})
	var mean, variance float64
	for _, v := range x {
		mean += float64(v) / n
	}
	for _, v := range x {
		variance += math.Pow(float64(v)-mean, 2) / n
	}
	// Standard errors are s/√n = 0.008 and s²·√(2/n) = 0.0056. Five of them
	// (false alarm below 1e-6), and 4 % of s² for 250 instead of endless steps.
	if math.Abs(mean-m) > 5*0.008 {
		t.Errorf("mean of samples is %.4f, want %.4f ± 0.04", mean, m)
	}
	if math.Abs(variance-s*s) > 5*0.0056+0.04*s*s {
		t.Errorf("variance of samples is %.4f, want %.4f ± 0.038", variance, s*s)
	}
}

// clips: a network that says x_0 = 2 everywhere gives the clip range.
func clips(t *testing.T, s diffusion.Sampler, c *diffusion.Config) {
	t.Helper()
	x := run(s, 4, rand.New(rand.NewPCG(7, 8)), func(x, signal, spread float64) float64 {
		return (x - signal*2) / spread
	})
	for _, v := range x {
		if math.Abs(float64(v)-c.ClipSampleRange) > 1e-4 {
			t.Fatalf("sample is %g, want it clipped to %g", v, c.ClipSampleRange)
		}
	}
}
