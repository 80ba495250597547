package finetune

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

// What trains is what the blocks and kinds of parameters say, by name alone; each
// choice has a rule for every parameter of it.
func TestTrainableBlocks(t *testing.T) {
	b := backendtest.Open(t, "go")
	in := func(name string, parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.HasPrefix(name, "unet."+p) })
	}
	embedder := func(name string) bool { return name == "unet.class_embedding.weight" }
	for name, c := range map[string]struct {
		change func(*Config)
		want   func(name string) bool
	}{
		"full": {func(*Config) {}, func(string) bool { return true }},
		"input": {func(c *Config) { c.Full.Blocks = []Block{InputBlocks} },
			func(n string) bool { return in(n, "conv_in.", "down_blocks.") || embedder(n) }},
		"middle and output, embedder frozen": {func(c *Config) { c.Full = FullConfig{Blocks: []Block{OutputBlocks, MiddleBlock}, FreezeEmbedder: true} },
			func(n string) bool { return in(n, "mid_block.", "up_blocks.", "conv_norm_out.", "conv_out.") }},
		"norm and bias": {func(c *Config) { c.Full.Parameters = NormAndBias },
			func(n string) bool {
				return strings.HasSuffix(n, ".bias") || strings.Contains(n, "norm") || embedder(n)
			}},
		"attention of the output": {func(c *Config) { c.Method, c.Attention.Blocks = Attention, []Block{OutputBlocks} },
			func(n string) bool { return in(n, "up_blocks.") && strings.Contains(n, ".attentions.") || embedder(n) }},
	} {
		config := tinyConfig(Full, "nowhere")
		c.change(config)
		if err := config.Validate(); err != nil {
			t.Fatal(err)
		}
		base := tinyBase(t, b)
		plan, target, err := NewPlan(b, config, base)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var want []string
		for _, w := range base.Weights.All() {
			if c.want(w.Name) {
				want = append(want, w.Name)
			}
		}
		got := slices.Sorted(slices.Values(target.trainable))
		slices.Sort(want)
		if !slices.Equal(got, want) || len(got) == 0 {
			t.Errorf("%s trains %v, want %v", name, got, want)
		}
		if _, err := target.Layers(b, nn.Patches, plan); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := tinyConfig(Attention, "nowhere")
	c.Attention.FirstLayer, c.Attention.Blocks = 4, []Block{InputBlocks}
	if _, _, err := NewPlan(b, c, tinyBase(t, b)); err == nil || !strings.Contains(err.Error(), "attention.") {
		t.Errorf("no module is left, and the error is %v", err)
	}
}

func testSchedule(t testing.TB) *diffusion.Schedule {
	t.Helper()
	s, err := diffusion.NewSchedule(diffusion.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var someTimesteps = map[string]Timesteps{
	"uniform":      {},
	"logit-normal": {Distribution: LogitNormalTimesteps, Mean: -0.5, Deviation: 0.8},
	"log-normal":   {Distribution: LogNormalSigma},
	"mixture": {Distribution: MixtureTimesteps, Parts: []Part{
		{From: 0.1, To: 0.3, Weight: 3}, {From: 0.2, To: 1, Weight: 1}}},
}

// Timesteps are drawn with the probabilities of the formula: chi-square over 20
// groups of equal probability would be below 60 but for once in a million.
func TestTimestepsHaveTheirDistribution(t *testing.T) {
	schedule := testSchedule(t)
	phi := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	below := map[string]func(t int) float64{ // P(T < t), by hand.
		"uniform": func(t int) float64 { return float64(t) / 1000 },
		"logit-normal": func(t int) float64 {
			u := float64(t) / 1000
			return phi((math.Log(u/(1-u)) + 0.5) / 0.8)
		},
		"mixture": func(t int) float64 {
			u := float64(t) / 1000
			part := func(from, to float64) float64 { return min(1, max(0, (u-from)/(to-from))) }
			return 0.75*part(0.1, 0.3) + 0.25*part(0.2, 1)
		},
	}
	for name, c := range someTimesteps {
		d, err := newTimesteps(c, schedule, 1)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		const n, k = 20000, 4 // Strata, as in a step.
		var drawn [1000]float64
		for range n / k {
			for i := range k {
				drawn[d.at((float64(i)+rng.Float64())/k)]++
			}
		}
		got, sum := 0.0, 0.0
		for i := range drawn {
			sum += d.probability(i)
			got += drawn[i] / n
			if math.Abs(got-sum) > 6*0.5/math.Sqrt(n) {
				t.Fatalf("%s: %g of the draws are at most %d, want %g", name, got, i, sum)
			}
			if want := below[name]; want != nil && math.Abs(sum-want(i+1)) > 1e-9 {
				t.Fatalf("%s: P(t < %d) is %g, want %g", name, i+1, sum, want(i+1))
			}
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Errorf("%s: probabilities sum to %g", name, sum)
		}
	}
	// ln σ has the mean and the deviation asked for, where the schedule does not cut them.
	d, err := newTimesteps(Timesteps{Distribution: LogNormalSigma, Mean: 0.3, Deviation: 0.5}, schedule, 1)
	if err != nil {
		t.Fatal(err)
	}
	mean, square := 0.0, 0.0
	for i := range 1000 {
		x := logSigma(schedule, i)
		mean += d.probability(i) * x
		square += d.probability(i) * x * x
	}
	if deviation := math.Sqrt(square - mean*mean); math.Abs(mean-0.3) > 2e-3 || math.Abs(deviation-0.5) > 2e-3 {
		t.Errorf("ln sigma has mean %g and deviation %g, want 0.3 and 0.5", mean, deviation)
	}
}

// No table gives a timestep outside its range, whatever the quantile and the share.
func TestTimestepsStayInRange(t *testing.T) {
	schedule := testSchedule(t)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"uniform", "logit-normal", "log-normal", "mixture"}).Draw(t, "name")
		share := rapid.Float64Range(0.15, 1).Draw(t, "share")
		d, err := newTimesteps(someTimesteps[name], schedule, share)
		if err != nil {
			t.Fatal(err)
		}
		first := rapid.IntRange(0, d.limit-1).Draw(t, "first")
		high, err := d.above(first)
		if err != nil { // A part without a chance.
			return
		}
		u := rapid.OneOf(rapid.Float64Range(0, 1), rapid.SampledFrom([]float64{0, 0x1p-53, 1 - 0x1p-53})).Draw(t, "u")
		if u >= 1 {
			u = 0
		}
		if got := d.at(u); got < 0 || int(got) >= d.limit || d.probability(int(got)) <= 0 {
			t.Fatalf("%s: quantile %g is %d of %d, of probability %g", name, u, got, d.limit, d.probability(int(got)))
		}
		if got := high.at(u); int(got) < first || int(got) >= d.limit {
			t.Fatalf("%s from %d on: quantile %g is %d", name, first, u, got)
		}
	})
}

// A weighted error is the paper's weight on the error of x_0, up to one factor,
// whatever the network predicts; the weights average to 1 over the draws.
func TestLossWeightsAreOnX0(t *testing.T) {
	schedule := testSchedule(t)
	const deviation = 0.5
	formula := map[LossWeight]func(sigma float64) float64{
		MinSNRWeight: func(sigma float64) float64 { return min(1/(sigma*sigma), 5) },
		EDMWeight: func(sigma float64) float64 {
			return (sigma*sigma + deviation*deviation) / math.Pow(sigma*deviation, 2)
		},
	}
	d, err := newTimesteps(someTimesteps["logit-normal"], schedule, 1)
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range formula {
		for _, p := range []diffusion.Prediction{diffusion.PredictNoise, diffusion.PredictV, diffusion.PredictX0} {
			weights, err := lossWeights(kind, schedule, p, d, deviation)
			if err != nil {
				t.Fatal(err)
			}
			mean, scale := 0.0, 0.0
			for i, w := range weights {
				mean += w * d.probability(i)
				signal, noise := schedule.SignalRate(i), schedule.NoiseRate(i)
				// Errors of the output when x_0 is wrong by 1 and x_t is as it is.
				wrong := p.Output(1, -signal/noise, signal, noise) - p.Output(0, 0, signal, noise)
				ratio := w * wrong * wrong / want(noise/signal)
				if scale == 0 {
					scale = ratio
				}
				if math.Abs(ratio/scale-1) > 1e-9 {
					t.Fatalf("%s of %s: weight at %d is %g of what it should be", kind, p, i, ratio/scale)
				}
			}
			if math.Abs(mean-1) > 1e-9 {
				t.Errorf("%s of %s: mean weight is %g, want 1", kind, p, mean)
			}
		}
	}
	if w, err := lossWeights(EqualWeight, schedule, diffusion.PredictV, d, 1); w != nil || err != nil {
		t.Errorf("equal weights are %v (%v), want none", w, err)
	}
}

// A move and its mirror: a flip twice is the image, a shift moves every pixel that
// stays inside, and both forms of an image agree.
func TestMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size, channels := rapid.IntRange(1, 9).Draw(t, "size"), rapid.SampledFrom([]int{1, 3}).Draw(t, "channels")
		unshuffle := rapid.IntRange(1, 3).Draw(t, "unshuffle")
		padded := (size + unshuffle - 1) / unshuffle * unshuffle
		canvas := pipeline.Canvas{Image: size, Padded: padded, Channels: channels, Grid: padded / unshuffle, Depth: channels * unshuffle * unshuffle}
		set := &dataset.Set{Height: size, Width: size, Channels: channels, Pixels: make([]byte, size*size*channels)}
		for i := range set.Pixels {
			set.Pixels[i] = byte(rapid.IntRange(0, 255).Draw(t, "pixel"))
		}
		a := Augment{Flip: rapid.Bool().Draw(t, "flip"), Shift: rapid.IntRange(0, 4).Draw(t, "shift")}
		number := rapid.IntRange(1, 9).Draw(t, "variant")
		m := a.draw(rand.New(rand.NewPCG(4, uint64(number))))
		if m.flip && !a.Flip || max(m.dx, -m.dx, m.dy, -m.dy) > a.Shift {
			t.Fatalf("%+v draws %+v", a, m)
		}
		varied := a.variant(set, number)
		for y := range size {
			for x := range size {
				fromX, fromY := x-m.dx, y-m.dy
				if fromX < 0 || fromX >= size || fromY < 0 || fromY >= size {
					continue
				}
				if m.flip {
					fromX = size - 1 - fromX
				}
				if varied.Pixels[(y*size+x)*channels] != set.Pixels[(fromY*size+fromX)*channels] {
					t.Fatalf("pixel %d, %d does not come from %d, %d", x, y, fromX, fromY)
				}
			}
		}
		grid := canvas.ToGrid(canvas.Floats(set, []int{0}), unshuffle)
		before, got := slices.Clone(grid), make([]float32, len(grid))
		m.grid(got, grid, canvas, unshuffle)
		if want := canvas.ToGrid(canvas.Floats(varied, []int{0}), unshuffle); !slices.Equal(got, want) {
			t.Fatalf("the UNet's input of the varied image is another one")
		}
		if !slices.Equal(grid, before) {
			t.Fatal("the image itself was changed")
		}
	})
}

// augmented returns the inputs of a batch with augmentation.
func augmented(t *testing.T, grids []float32, examples []int, wrong bool) []*tensors.Tensor {
	t.Helper()
	b := backendtest.Open(t, "go")
	m := tinyBase(t, b)
	canvas, err := pipeline.NewCanvas(m, 28, 1)
	if err != nil {
		t.Fatal(err)
	}
	training := Training{Multiplicity: 3, MaxTimestep: 1, Augment: Augment{Flip: true, Shift: 2}}
	d, err := newDraws(m, canvas, testSchedule(t), training, 7)
	if err != nil {
		t.Fatal(err)
	}
	d.grids, d.byPlace = grids, wrong
	d.told = labels{slices.Repeat([]int{1}, d.examples()), 4}
	positions := make([]int, len(examples))
	for i := range positions {
		positions[i] = i
	}
	inputs, err := d.fetch(2, examples)(positions, len(positions))
	if err != nil {
		t.Fatal(err)
	}
	return inputs
}

// Every draw has an image of its own, the first example's do not depend on who else
// is in the batch, and a mistake by which they would shows.
func TestDrawsOfAnExampleAreItsOwn(t *testing.T) {
	const n = 784
	rng := rand.New(rand.NewPCG(2, 2))
	grids := make([]float32, 3*n)
	for i := range grids {
		grids[i] = rng.Float32()
	}
	rows := func(inputs []*tensors.Tensor, example int) []float32 {
		flat := tensors.MustCopyFlatData[float32](inputs[0])
		return flat[example*3*n : (example+1)*3*n]
	}
	both := augmented(t, grids, []int{0, 2}, false)
	if dims := both[0].Shape().Dimensions; dims[0] != 6 {
		t.Fatalf("clean images are %v, want one for each of 6 draws", dims)
	}
	one := rows(both, 1)
	if slices.Equal(one[:n], one[n:2*n]) && slices.Equal(one[n:2*n], one[2*n:]) {
		t.Error("all draws have the same image")
	}
	if alone := rows(augmented(t, grids, []int{2}, false), 0); !slices.Equal(alone, one) {
		t.Error("an example's draws depend on who else is in the batch")
	}
	if alone := rows(augmented(t, grids, []int{2}, true), 0); slices.Equal(alone, rows(augmented(t, grids, []int{0, 2}, true), 1)) {
		t.Error("the check does not tell draws that go by the place in the batch")
	}
}

// With all levers of the draws on, one example more or less moves the clipped sum by
// at most the clipping norm, by both engines, which agree; draws that are clipped
// apart would move it further.
func TestLeversKeepTheSensitivity(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := tinyConfig(Full, "nowhere")
	c.Full.Parameters = NormAndBias
	c.Training.Multiplicity, c.Training.ClippingNorm = 3, 0.01 // Below every norm.
	c.Training.Augment = Augment{Flip: true, Shift: 3}
	c.Training.Timesteps, c.Training.LossWeight = someTimesteps["log-normal"], MinSNRWeight
	sums := map[dpsgd.Method][2][]float64{}
	for _, method := range []dpsgd.Method{dpsgd.BookKeeping, dpsgd.PerExampleLoop} {
		base := tinyBase(t, b)
		plan, target, err := NewPlan(b, c, base)
		if err != nil {
			t.Fatal(err)
		}
		canvas, err := pipeline.NewCanvas(base, 28, 1)
		if err != nil {
			t.Fatal(err)
		}
		o := options("")
		o.Engine, o.InsecureSeed = method, 3 // The same draws for both.
		tr, err := newTrainer(context.Background(), b, c, plan, target, canvas, o)
		if err != nil {
			t.Fatal(err)
		}
		defer tr.engine.Close()
		rng := rand.New(rand.NewPCG(6, 6))
		tr.draws.grids = make([]float32, 5*canvas.Size())
		for i := range tr.draws.grids {
			tr.draws.grids[i] = 2*rng.Float32() - 1
		}
		tr.draws.told = labels{[]int{0, 1, 2, 3, 0}, 4}
		sum := func(batch []int) []float64 {
			s, _, err := tr.engine.Sum(context.Background(), tr.initial, len(batch), tr.draws.fetch(1, batch))
			if err != nil {
				t.Fatal(err)
			}
			values, err := s.Release(dpsgd.NewInsecureNoise(1), 1e-7, func() error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			return values
		}
		distance := func(a, b []float64) float64 {
			square := 0.0
			for i := range a {
				square += (a[i] - b[i]) * (a[i] - b[i])
			}
			return math.Sqrt(square) / c.Training.ClippingNorm
		}
		with, without := sum([]int{0, 1, 2, 4}), sum([]int{0, 2, 4})
		if d := distance(with, without); d > 1+2e-4 || d < 0.99 {
			t.Errorf("%s: one example moves the sum by %g of the clipping norm, want just below 1", method, d)
		}
		if d := distance(sum(drawsApart.batch([]int{1})), sum(nil)); d < 1.9 {
			t.Errorf("%s: draws that are clipped apart move the sum by %g of the clipping norm: the check does not see them", method, d)
		}
		sums[method] = [2][]float64{with, without}
		if other, ok := sums[dpsgd.BookKeeping]; ok && method != dpsgd.BookKeeping {
			if d := distance(other[0], with); d > 1e-3 {
				t.Errorf("engines differ by %g of the clipping norm", d)
			}
		}
	}
}

// A variant in the cache moves all images alike: an image that is missing changes
// no other.
func TestVariantsDoNotGoByPlace(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	set := &dataset.Set{Height: 28, Width: 28, Channels: 1, Pixels: make([]byte, 5*784)}
	for i := range set.Pixels {
		set.Pixels[i] = byte(rng.Uint32())
	}
	a := Augment{Flip: true, Shift: 3}
	moved := 0
	for v := range 6 {
		all, fewer := a.variant(set, v), a.variant(set.Subset([]int{1, 2, 3, 4}), v)
		for i := range 4 {
			if !slices.Equal(fewer.Image(i), all.Image(i+1)) {
				t.Fatalf("variant %d of image %d depends on its place", v, i+1)
			}
		}
		if !slices.Equal(all.Pixels, set.Pixels) {
			moved++
		} else if v == 0 {
			continue
		}
	}
	if moved < 4 {
		t.Errorf("%d of 5 variants move anything", moved)
	}
}
