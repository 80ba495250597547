package diffusion_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/diffusion/samplertest"
)

// recorded is one run of diffusers, cut by testdata/extract.py.
type recorded struct {
	Config        json.RawMessage
	Timesteps     []int
	Input         [][]float32
	Output        [][]float32
	ModelOutput   [][]float32 `json:"model_output"`
	Noise         [][]float64
	AlphasCumprod map[int]float64 `json:"alphas_cumprod"`
	Noised        []struct {
		T            int
		X0, Noise, X []float32
	}
}

func trajectories(t testing.TB) map[string]recorded {
	t.Helper()
	data, err := os.ReadFile("testdata/trajectories.json")
	if err != nil {
		t.Fatal(err)
	}
	var runs map[string]recorded
	if err := json.Unmarshal(data, &runs); err != nil {
		t.Fatal(err)
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

func TestStepsMatchDiffusers(t *testing.T) {
	for name, run := range trajectories(t) {
		t.Run(name, func(t *testing.T) {
			c := parse(t, run.Config)
			build := ddim
			if c.Class == "DDPMScheduler" {
				build = ddpm
			}
			s, err := build(c, len(run.Timesteps))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(s.Timesteps(), run.Timesteps) {
				t.Fatalf("timesteps are %v, want %v", s.Timesteps(), run.Timesteps)
			}
			worst := 0.0
			for i := range run.Timesteps {
				x := slices.Clone(run.Input[i])
				var noise replay
				if run.Noise != nil {
					noise = run.Noise[i]
				}
				s.Step(i, x, run.ModelOutput[i], &noise)
				worst = max(worst, relative(x, run.Output[i]))
			}
			t.Logf("largest difference: %.1e of the largest entry", worst)
			if worst > 1e-5 {
				t.Errorf("steps differ by %.2e of the largest entry, want at most 1e-5", worst)
			}
		})
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
	s, err := diffusion.NewSchedule(parse(t, run.Config))
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
	t.Run("ddim", func(t *testing.T) { samplertest.Run(t, ddim) })
	t.Run("ddpm", func(t *testing.T) { samplertest.Run(t, ddpm) })
	t.Run("ddim with noise", func(t *testing.T) {
		samplertest.Run(t, func(c *diffusion.Config, steps int) (diffusion.Sampler, error) {
			return diffusion.NewDDIM(c, steps, 1)
		})
	})
}

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
	for i := range a.Timesteps() {
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
			if got := s.Timesteps(); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
