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

// Run checks that a sampler keeps its contract and solves the problems whose
// solution is known, for every prediction and spacing.
func Run(t *testing.T, sampler Make) {
	predictions := []diffusion.Prediction{diffusion.PredictNoise, diffusion.PredictV, diffusion.PredictX0}
	for _, prediction := range predictions {
		for _, spacing := range []diffusion.Spacing{diffusion.Leading, diffusion.Linspace, diffusion.Trailing} {
			c := diffusion.DefaultConfig()
			c.Prediction, c.Spacing, c.ClipSample = prediction, spacing, false
			t.Run(fmt.Sprintf("%s/%s", prediction, spacing), func(t *testing.T) {
				for _, steps := range []int{1, 2, 10, 33} {
					contract(t, build(t, sampler, c, steps), c)
					oracle(t, build(t, sampler, c, steps), c)
				}
				perValue(t, func() diffusion.Sampler { return build(t, sampler, c, 10) })
			})
		}
		t.Run(fmt.Sprintf("%s/gaussian", prediction), func(t *testing.T) {
			c := diffusion.DefaultConfig()
			c.Prediction, c.ClipSample = prediction, false
			gaussian(t, build(t, sampler, c, 500), c)
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

// run samples n values with a network that is a function of one value.
func run(s diffusion.Sampler, n int, rng *rand.Rand, network func(x float64, t int) float64) []float32 {
	x, output := make([]float32, n), make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for i, t := range s.Timesteps() {
		for j := range x {
			output[j] = float32(network(float64(x[j]), t))
		}
		s.Step(i, x, output, rng)
	}
	return x
}

// contract checks the timesteps, and that Step leaves its arguments alone.
func contract(t *testing.T, s diffusion.Sampler, c *diffusion.Config) {
	t.Helper()
	list := s.Timesteps()
	if len(list) == 0 {
		t.Fatal("no timesteps")
	}
	for i, step := range list {
		if step < 0 || step >= c.Steps || i > 0 && step > list[i-1] {
			t.Fatalf("timesteps are %v, want them in [0, %d) and never increasing", list, c.Steps)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	x, output := []float32{0.3, -0.1, 2}, []float32{0.2, -1, 0.5}
	before := slices.Clone(output)
	for i := range list {
		s.Step(i, x, output, rng)
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
	schedule, err := diffusion.NewSchedule(c)
	if err != nil {
		t.Fatal(err)
	}
	const x0 = 0.7
	x := run(s, 8, rand.New(rand.NewPCG(3, 4)), func(x float64, step int) float64 {
		signal, spread := schedule.SignalRate(step), schedule.NoiseRate(step)
		return c.Prediction.Output(x0, (x-signal*x0)/spread, signal, spread)
	})
	for _, v := range x {
		// Float32 outputs at t near 1000, divided by √ᾱ of 0.006, cost three digits.
		if math.Abs(float64(v)-x0) > 1e-4 {
			t.Fatalf("%d steps with a perfect network give %g, want %g", len(s.Timesteps()), v, x0)
		}
	}
}

// perValue: values do not influence each other.
func perValue(t *testing.T, fresh func() diffusion.Sampler) {
	t.Helper()
	run := func(x []float32) []float32 {
		s, output := fresh(), make([]float32, len(x))
		for i := range s.Timesteps() {
			for j := range x {
				output[j] = 0.5*x[j] + 0.1
			}
			s.Step(i, x, output, silence{})
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

type silence struct{}

func (silence) NormFloat64() float64 { return 0 }

// gaussian: for data N(m, s²) the best network is known in closed form, E[x_0 | x]
// = m + √ᾱ·s²·(x - √ᾱ·m)/(ᾱ·s² + 1 - ᾱ), and samples must be N(m, s²).
func gaussian(t *testing.T, sampler diffusion.Sampler, c *diffusion.Config) {
	t.Helper()
	schedule, err := diffusion.NewSchedule(c)
	if err != nil {
		t.Fatal(err)
	}
	const m, s, n = 0.3, 0.5, 20000
	x := run(sampler, n, rand.New(rand.NewPCG(5, 6)), func(x float64, step int) float64 {
		signal, spread := schedule.SignalRate(step), schedule.NoiseRate(step)
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
	// Standard errors are s/√n = 0.0035 and s²·√(2/n) = 0.0025. Five of them
	// (false alarm below 1e-6), and 3 % of s² for 500 instead of endless steps.
	if math.Abs(mean-m) > 5*0.0035 {
		t.Errorf("mean of samples is %.4f, want %.4f ± 0.018", mean, m)
	}
	if math.Abs(variance-s*s) > 5*0.0025+0.03*s*s {
		t.Errorf("variance of samples is %.4f, want %.4f ± 0.02", variance, s*s)
	}
}

// clips: a network that says x_0 = 2 everywhere gives the clip range.
func clips(t *testing.T, s diffusion.Sampler, c *diffusion.Config) {
	t.Helper()
	schedule, err := diffusion.NewSchedule(c)
	if err != nil {
		t.Fatal(err)
	}
	x := run(s, 4, rand.New(rand.NewPCG(7, 8)), func(x float64, step int) float64 {
		return (x - schedule.SignalRate(step)*2) / schedule.NoiseRate(step)
	})
	for _, v := range x {
		if math.Abs(float64(v)-c.ClipSampleRange) > 1e-4 {
			t.Fatalf("sample is %g, want it clipped to %g", v, c.ClipSampleRange)
		}
	}
}
