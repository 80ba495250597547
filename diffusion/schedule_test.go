package diffusion_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/internal/backendtest"
)

func schedule(t testing.TB, c *diffusion.Config) *diffusion.Schedule {
	t.Helper()
	s, err := diffusion.NewSchedule(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBetas(t *testing.T) {
	c := diffusion.DefaultConfig()
	c.BetaStart, c.BetaEnd, c.BetaSchedule = 0.00085, 0.012, diffusion.ScaledLinear
	s := schedule(t, c)
	// Halfway between the square roots.
	middle := (s.Betas[499] + s.Betas[500]) / 2
	want := math.Pow((math.Sqrt(0.00085)+math.Sqrt(0.012))/2, 2)
	if math.Abs(s.Betas[0]-0.00085) > 1e-12 || math.Abs(s.Betas[999]-0.012) > 1e-12 || math.Abs(middle-want) > 1e-8 {
		t.Errorf("scaled linear betas are %g, %g, %g", s.Betas[0], middle, s.Betas[999])
	}

	c.BetaSchedule = diffusion.SquaredCosine
	s = schedule(t, c)
	// The product telescopes to the closed form until the cap of the last step.
	start := math.Pow(math.Cos(0.008/1.008*math.Pi/2), 2)
	for step := range 999 {
		along := float64(step+1) / 1000
		want := math.Pow(math.Cos((along+0.008)/1.008*math.Pi/2), 2) / start
		if math.Abs(s.AlphasCumprod[step]-want) > 1e-10 {
			t.Fatalf("cosine alpha_bar of timestep %d is %g, want %g", step, s.AlphasCumprod[step], want)
		}
	}
	if s.Betas[999] != 0.999 {
		t.Errorf("last cosine beta is %g, want the cap 0.999", s.Betas[999])
	}

	c.Steps, c.TrainedBetas = 3, []float64{0.1, 0.2, 0.5}
	s = schedule(t, c)
	if math.Abs(s.AlphasCumprod[2]-0.9*0.8*0.5) > 1e-15 {
		t.Errorf("alpha_bar of given betas is %g", s.AlphasCumprod[2])
	}
}

func TestRatesAreCosineAndSine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := diffusion.DefaultConfig()
		c.Steps = rapid.IntRange(1, 2000).Draw(t, "steps")
		c.BetaSchedule = rapid.SampledFrom([]diffusion.BetaSchedule{diffusion.Linear, diffusion.ScaledLinear, diffusion.SquaredCosine}).Draw(t, "schedule")
		s, err := diffusion.NewSchedule(c)
		if err != nil {
			t.Fatal(err)
		}
		step := rapid.IntRange(0, c.Steps-1).Draw(t, "timestep")
		if r := math.Hypot(s.SignalRate(step), s.NoiseRate(step)); math.Abs(r-1) > 1e-12 {
			t.Fatalf("rates of timestep %d have norm %g", step, r)
		}
		if step > 0 && s.AlphasCumprod[step] >= s.AlphasCumprod[step-1] {
			t.Fatalf("alpha_bar does not fall at timestep %d", step)
		}
	})
}

func TestSplitInvertsOutput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom([]diffusion.Prediction{diffusion.PredictNoise, diffusion.PredictV, diffusion.PredictX0}).Draw(t, "prediction")
		x0, noise := rapid.Float64Range(-3, 3).Draw(t, "x0"), rapid.Float64Range(-3, 3).Draw(t, "noise")
		angle := rapid.Float64Range(0.01, 1.56).Draw(t, "angle")
		signal, spread := math.Cos(angle), math.Sin(angle)
		gotX0, gotNoise := p.Split(signal*x0+spread*noise, p.Output(x0, noise, signal, spread), signal, spread)
		if math.Abs(gotX0-x0) > 1e-9 || math.Abs(gotNoise-noise) > 1e-9 {
			t.Fatalf("split into %g and %g, want %g and %g", gotX0, gotNoise, x0, noise)
		}
	})
}

// The graph functions against their host counterparts.
func TestGraphMatchesHost(t *testing.T) {
	s := schedule(t, diffusion.DefaultConfig())
	rng := rand.New(rand.NewPCG(1, 1))
	normal := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return v
	}
	const examples, draws, pixels = 2, 3, 2 * 2 * 1
	x0, noise := normal(examples*pixels), normal(examples*draws*pixels)
	steps := []int32{0, 500, 999, 17, 250, 800}
	predictions := []diffusion.Prediction{diffusion.PredictNoise, diffusion.PredictV, diffusion.PredictX0}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		out, err := ExecOnceN(b, func(in []*Node) []*Node {
			x0, noise := diffusion.Repeat(in[0], draws), in[1]
			signal, spread := s.Rates(in[2])
			x := diffusion.AddNoise(x0, noise, signal, spread)
			outs := []*Node{x, diffusion.GuideNodes(x0, noise, 1.5), diffusion.LossPerExample(x, noise, draws)}
			for _, p := range predictions {
				outs = append(outs, p.Target(x0, noise, signal, spread))
			}
			return outs
		}, tensors.FromFlatDataAndDimensions(x0, examples, 2, 2, 1),
			tensors.FromFlatDataAndDimensions(noise, examples*draws, 2, 2, 1), tensors.FromFlatDataAndDimensions(steps, len(steps)))
		if err != nil {
			t.Fatal(err)
		}
		rows := make([]float32, 0, len(noise)) // x0 repeated.
		for row := range examples * draws {
			rows = append(rows, x0[row/draws*pixels:(row/draws+1)*pixels]...)
		}
		x, guided := make([]float32, len(noise)), make([]float32, len(noise))
		diffusion.Guide(guided, rows, noise, 1.5)
		loss := make([]float32, examples)
		targets := make([][]float32, len(predictions))
		for row, step := range steps {
			part := func(v []float32) []float32 { return v[row*pixels : (row+1)*pixels] }
			s.AddNoise(part(x), part(rows), part(noise), int(step))
			for i := range pixels {
				d := part(x)[i] - part(noise)[i]
				loss[row/draws] += d * d / (draws * pixels)
				for j, p := range predictions {
					targets[j] = append(targets[j], float32(p.Output(float64(part(rows)[i]), float64(part(noise)[i]),
						s.SignalRate(int(step)), s.NoiseRate(int(step)))))
				}
			}
		}
		for i, want := range append([][]float32{x, guided, loss}, targets...) {
			got, err := tensors.CopyFlatData[float32](out[i])
			if err != nil {
				t.Fatal(err)
			}
			if d := relative(got, want); len(got) != len(want) || d > 1e-6 {
				t.Errorf("output %d differs by %.1e", i, d)
			}
		}
	})
}

func TestGuide(t *testing.T) {
	uncond, cond := []float32{1, 2}, []float32{3, -2}
	for scale, want := range map[float64][]float32{0: {1, 2}, 1: {3, -2}, 2: {5, -6}} {
		got := make([]float32, 2)
		if diffusion.Guide(got, uncond, cond, scale); !slices.Equal(got, want) {
			t.Errorf("scale %g gives %v, want %v", scale, got, want)
		}
	}
}

func TestUnshuffle(t *testing.T) {
	// One image of 2×2 with two channels: as torch.nn.functional.pixel_unshuffle,
	// the cell holds channel 0's four pixels, then channel 1's.
	got := diffusion.Unshuffle([]float32{0, 10, 1, 11, 2, 12, 3, 13}, 1, 2, 2, 2, 2)
	if want := []float32{0, 1, 2, 3, 10, 11, 12, 13}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// One channel of 2×4: two cells side by side.
	got = diffusion.Unshuffle([]float32{0, 1, 2, 3, 4, 5, 6, 7}, 1, 2, 4, 1, 2)
	if want := []float32{0, 1, 4, 5, 2, 3, 6, 7}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	rapid.Check(t, func(t *rapid.T) {
		n, f, c := rapid.IntRange(1, 3).Draw(t, "n"), rapid.IntRange(1, 4).Draw(t, "factor"), rapid.IntRange(1, 3).Draw(t, "channels")
		h, w := f*rapid.IntRange(1, 4).Draw(t, "height"), f*rapid.IntRange(1, 4).Draw(t, "width")
		images := make([]float32, n*h*w*c)
		for i := range images {
			images[i] = float32(i)
		}
		back := diffusion.Shuffle(diffusion.Unshuffle(images, n, h, w, c, f), n, h, w, c, f)
		if !slices.Equal(back, images) {
			t.Fatal("shuffle does not undo unshuffle")
		}
	})
}
