package diffusion_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/diffusion/samplertest"
)

// recorded is one run of diffusers, cut by testdata/extract.py or made by
// testdata/multistep.py.
type recorded struct {
	Steps                      int // 0 is 10.
	Config                     string
	Timesteps, Sigmas          []float64
	Input                      [][]float32
	Output                     [][]float32
	ModelInput                 [][]float32 `json:"model_input"` // Nil where it is Input.
	ModelOutput                [][]float32 `json:"model_output"`
	Denoised, Euler, Denoised2 [][]float32 // Of edm_heun.
	Noise                      [][]float64
	AlphasCumprod              map[int]float64 `json:"alphas_cumprod"`
	Noised                     []struct {
		T            int
		X0, Noise, X []float32
	}
}

func trajectories(t testing.TB) map[string]recorded {
	t.Helper()
	var runs map[string]recorded
	for _, name := range []string{"trajectories.json", "multistep.json"} {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &runs); err != nil {
			t.Fatal(err)
		}
	}
	return runs
}

func parse(t testing.TB, data []byte) *diffusion.Config {
	t.Helper()
	c, err := diffusion.ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ddim(c *diffusion.Config, steps int) (diffusion.Sampler, error) {
	return diffusion.NewDDIM(c, steps, 0)
}

func ddpm(c *diffusion.Config, steps int) (diffusion.Sampler, error) {
	return diffusion.NewDDPM(c, steps)
}

// replay gives recorded noise in order.
type replay []float64

func (r *replay) NormFloat64() float64 {
	v := (*r)[0]
	*r = (*r)[1:]
	return v
}

// recordedSteps is how many steps the recorded runs have that do not say so.
const recordedSteps = 10

func TestStepsMatchDiffusers(t *testing.T) {
	for name, run := range trajectories(t) {
		if run.Denoised != nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s, err := diffusion.NewSampler(diffusion.UseConfig, parse(t, []byte(run.Config)), cmp.Or(run.Steps, recordedSteps), diffusion.Stochastic{})
			if err != nil {
				t.Fatal(err)
			}
			calls := s.Calls()
			if len(calls) != len(run.Timesteps) {
				t.Fatalf("%d calls, want %d", len(calls), len(run.Timesteps))
			}
			for i, call := range calls {
				// Diffusers computes 1-ᾱ_0 = 1e-4 in float32, which moves σ_0 by 8e-5 of
				// it, and Karras levels with it; whole timesteps are exact.
				want := run.Timesteps[i]
				if math.Abs(call.Timestep-want) > 1e-2 || want == math.Trunc(want) && run.Sigmas == nil && call.Timestep != want {
					t.Errorf("call %d has timestep %g, want %g", i, call.Timestep, want)
				}
				if run.Sigmas != nil {
					if want := run.Sigmas[i]; math.Abs(call.Sigma-want) > 1e-4*want {
						t.Errorf("call %d has noise level %g, want %g", i, call.Sigma, want)
					}
				}
			}
			if run.ModelInput == nil {
				run.ModelInput = run.Input
			}
			worst, r := 0.0, s.NewRun()
			for i := range calls {
				x, input := slices.Clone(run.Input[i]), make([]float32, len(run.Input[i]))
				var noise replay
				if run.Noise != nil {
					noise = run.Noise[i]
				}
				r.Input(i, input, x)
				worst = max(worst, relative(input, run.ModelInput[i]))
				r.Step(i, x, run.ModelOutput[i], &noise)
				worst = max(worst, relative(x, run.Output[i]))
			}
			t.Logf("largest difference: %.1e of the largest entry", worst)
			if worst > 2e-5 {
				t.Errorf("steps differ by %.2e of the largest entry, want at most 2e-5", worst)
			}
		})
	}
}

// The recorded run of Karras et al.'s Algorithm 1 has denoised images, from which
// the network's outputs follow.
func TestEDMStepsMatch(t *testing.T) {
	run := trajectories(t)["edm_heun"]
	var constants struct {
		Data float64 `json:"sigma_data"`
		Min  float64 `json:"sigma_min"`
		Max  float64 `json:"sigma_max"`
		Rho  float64
	}
	if err := json.Unmarshal([]byte(run.Config), &constants); err != nil {
		t.Fatal(err)
	}
	c := parse(t, []byte(`{"_class_name": "EDMEulerScheduler"}`))
	c.Levels.Data, c.Levels.Min, c.Levels.Max, c.Levels.Rho = constants.Data, constants.Min, constants.Max, constants.Rho
	s, err := diffusion.NewEDM(c, recordedSteps, diffusion.Churn{})
	if err != nil {
		t.Fatal(err)
	}
	// output undoes D = c_skip·x + c_out·F.
	output := func(x, denoised []float32, sigma float64) []float32 {
		out, r := make([]float32, len(x)), math.Hypot(sigma, constants.Data)
		for i := range x {
			skip := constants.Data * constants.Data / (r * r) * float64(x[i])
			out[i] = float32((float64(denoised[i]) - skip) * r / (sigma * constants.Data))
		}
		return out
	}
	r := s.NewRun()
	for i := range run.Input {
		x, call := slices.Clone(run.Input[i]), s.Calls()[max(0, 2*i)]
		r.Step(2*i, x, output(x, run.Denoised[i], call.Sigma), nil)
		if d := relative(x, run.Euler[i]); d > 1e-5 {
			t.Errorf("step %d: Euler's guess differs by %.1e", i, d)
		}
		if i < len(run.Input)-1 {
			call = s.Calls()[2*i+1]
			x = slices.Clone(run.Euler[i])
			r.Step(2*i+1, x, output(x, run.Denoised2[i], call.Sigma), nil)
		}
		if d := relative(x, run.Output[i]); d > 1e-5 {
			t.Errorf("step %d differs by %.1e", i, d)
		}
	}
}

// relative returns the largest difference over the largest wanted entry.
func relative(got, want []float32) float64 {
	var worst, scale float64
	for i := range want {
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
		scale = max(scale, math.Abs(float64(want[i])))
	}
	return worst / scale
}

func TestForwardMatchesDiffusers(t *testing.T) {
	run := trajectories(t)["ddim"]
	s, err := diffusion.NewSchedule(parse(t, []byte(run.Config)))
	if err != nil {
		t.Fatal(err)
	}
	for step, want := range run.AlphasCumprod {
		// Diffusers multiplies a thousand float32 factors.
		if got := s.AlphasCumprod[step]; math.Abs(got-want) > 1e-5*want {
			t.Errorf("alpha_bar of timestep %d is %g, want %g", step, got, want)
		}
	}
	for _, n := range run.Noised {
		x := make([]float32, len(n.X0))
		s.AddNoise(x, n.X0, n.Noise, n.T)
		// At t near 0 diffusers loses digits of 1-ᾱ_t in float32.
		if d := relative(x, n.X); d > 5e-6 {
			t.Errorf("noised at timestep %d differs by %.1e", n.T, d)
		}
	}
}

func TestSamplersConform(t *testing.T) {
	with := func(change func(c *diffusion.Config), name diffusion.SamplerName) samplertest.Make {
		return func(c *diffusion.Config, steps int) (diffusion.Sampler, error) {
			c = clone(c)
			change(c)
			switch name {
			case diffusion.UseDPM:
				return diffusion.NewDPMSolver(c, steps)
			case diffusion.UseEuler:
				return diffusion.NewEuler(c, steps)
			}
			return diffusion.NewHeun(c, steps)
		}
	}
	plain := func(*diffusion.Config) {}
	for name, make := range map[string]samplertest.Make{
		"ddim": ddim, "ddpm": ddpm,
		"ddim with noise":   func(c *diffusion.Config, steps int) (diffusion.Sampler, error) { return diffusion.NewDDIM(c, steps, 1) },
		"dpm++":             with(plain, diffusion.UseDPM),
		"dpm++ heun":        with(func(c *diffusion.Config) { c.Solver.Type = "heun" }, diffusion.UseDPM),
		"dpm++ first":       with(func(c *diffusion.Config) { c.Solver.Order = 1 }, diffusion.UseDPM),
		"dpm++ third":       with(func(c *diffusion.Config) { c.Solver.Order = 3 }, diffusion.UseDPM),
		"dpm++ sde":         with(func(c *diffusion.Config) { c.Solver.Algorithm = "sde-dpmsolver++" }, diffusion.UseDPM),
		"dpm++ sde heun":    with(func(c *diffusion.Config) { c.Solver.Algorithm, c.Solver.Type = "sde-dpmsolver++", "heun" }, diffusion.UseDPM),
		"euler":             with(plain, diffusion.UseEuler),
		"euler exponential": with(func(c *diffusion.Config) { c.Levels.Exponential = true }, diffusion.UseEuler),
		"heun":              with(plain, diffusion.UseHeun),
		"heun beta":         with(func(c *diffusion.Config) { c.Levels.Beta = true }, diffusion.UseHeun),
		"heun karras":       with(func(c *diffusion.Config) { c.Levels.Karras = true }, diffusion.UseHeun),
		"edm": func(c *diffusion.Config, steps int) (diffusion.Sampler, error) {
			return diffusion.NewEDM(c, steps, diffusion.Churn{})
		},
	} {
		t.Run(name, func(t *testing.T) { samplertest.Run(t, make, samplertest.Options{}) })
	}
	t.Run("edm with churn", func(t *testing.T) {
		samplertest.Run(t, func(c *diffusion.Config, steps int) (diffusion.Sampler, error) {
			return diffusion.NewEDM(c, steps, diffusion.Churn{Amount: 20, Min: 0.05, Max: 50})
		}, samplertest.Options{AddsNoise: true})
	})
}

func clone(c *diffusion.Config) *diffusion.Config { d := *c; return &d }

// With eta 1, all timesteps and the small variance, DDIM's step is DDPM's
// (Song et al. 2021, Section 4.1).
func TestDDIMWithNoiseIsDDPM(t *testing.T) {
	c := diffusion.DefaultConfig()
	c.Steps, c.ClipSample = 50, false
	a, err := diffusion.NewDDIM(c, 50, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := diffusion.NewDDPM(c, 50)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.Calls() {
		x, y := []float32{0.4, -2}, []float32{0.4, -2}
		output := []float32{-0.3, 1.1}
		a.Step(i, x, output, &replay{0.8, -0.2})
		b.Step(i, y, output, &replay{0.8, -0.2})
		if d := relative(x, y); d > 1e-5 {
			t.Fatalf("step %d: %v and %v", i, x, y)
		}
	}
}

func TestTimesteps(t *testing.T) {
	for _, test := range []struct {
		spacing diffusion.Spacing
		steps   int
		want    []int
	}{ // From numpy, as in diffusers' set_timesteps.
		{diffusion.Leading, 4, []int{750, 500, 250, 0}},
		{diffusion.Leading, 3, []int{666, 333, 0}},
		{diffusion.Linspace, 4, []int{999, 666, 333, 0}},
		{diffusion.Linspace, 1, []int{0}},
		{diffusion.Trailing, 4, []int{999, 749, 499, 249}},
		{diffusion.Trailing, 3, []int{999, 666, 332}},
	} {
		t.Run(fmt.Sprintf("%s %d", test.spacing, test.steps), func(t *testing.T) {
			c := diffusion.DefaultConfig()
			c.Spacing = test.spacing
			s, err := ddim(c, test.steps)
			if err != nil {
				t.Fatal(err)
			}
			for i, call := range s.Calls() {
				if call.Timestep != float64(test.want[i]) {
					t.Errorf("call %d is %v, want timestep %d", i, call, test.want[i])
				}
			}
		})
	}
}
