package finetune

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/pipeline"
	"github.com/scumble-dp/scumble/subsample"
)

// checkMeans: with the same noise, one image more or less moves the released means
// by at most the clipping norm over the public divisor, whatever the images and
// labels are, and those of one class only.
func checkMeans(t *rapid.T, wrong mistake) error {
	const size, classes, examples = 8, 3, 12
	n := rapid.IntRange(1, 20).Draw(t, "images") // The public number is another.
	w := WarmStart{Means: 1, Cell: rapid.SampledFrom([]int{1, 2, 4}).Draw(t, "cell"), Background: rapid.Float64Range(-1, 1).Draw(t, "background"),
		ClippingNorm: rapid.SampledFrom([]float64{0, 0.5, 100}).Draw(t, "clip"), NoiseMultiplier: rapid.Float64Range(0.1, 9).Draw(t, "noise")}.resolved(size, 1)
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	set := &dataset.Set{Height: size, Width: size, Channels: 1, Pixels: make([]byte, n*size*size)}
	for i := range set.Pixels {
		set.Pixels[i] = byte(rng.Uint32())
	}
	for range n {
		set.Labels = append(set.Labels, rng.IntN(classes))
	}
	event := accountant.DPSGD(w.NoiseMultiplier, 1, 1)
	ask := func(set *dataset.Set) (*meanImages, error) {
		sampler, err := subsample.NewInsecurePoisson(set.Len(), 1, 5)
		if err != nil {
			return nil, err
		}
		return noisyMeans(w, set, classes, examples, 1, event, dpsgd.NewInsecureNoise(6), sampler, func() error { return nil }, wrong)
	}
	out := rapid.IntRange(0, n-1).Draw(t, "out")
	var rest []int
	for i := range n {
		if i != out {
			rest = append(rest, i)
		}
	}
	with, err := ask(set)
	if err != nil {
		return err
	}
	without, err := ask(set.Subset(rest))
	if err != nil {
		return err
	}
	square, per := 0.0, len(with.values)/classes
	for i := range with.values {
		d := float64(with.values[i]) - float64(without.values[i])
		square += d * d
		if !(d == 0) && i/per != set.Labels[out] {
			return fmt.Errorf("an image of class %d moves the mean of class %d by %g", set.Labels[out], i/per, d)
		}
	}
	// Values are float32 at last: 1e-6 of the noise.
	limit := w.ClippingNorm / (examples / classes)
	if got := math.Sqrt(square); !(got <= limit*(1+1e-5*(1+w.NoiseMultiplier))) {
		return fmt.Errorf("one image moves the means by %g, want at most %g", got, limit)
	}
	return nil
}

func TestNoisyMeansMoveByTheirSensitivity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := checkMeans(t, noMistake); err != nil {
			t.Fatal(err)
		}
	})
	caught := false
	rapid.Check(t, func(t *rapid.T) { caught = caught || checkMeans(t, realisedClasses) != nil })
	if !caught {
		t.Error("means divided by the number of images drawn pass")
	}
}

// With little noise a mean is the class's mean, and its picture looks like it; the
// noise of an empty class has the deviation of the mechanism over the public
// divisor, within 6 standard errors.
func TestNoisyMeansAreMeans(t *testing.T) {
	const size, classes, examples, level = 28, 2, 200, 204
	set := &dataset.Set{Height: size, Width: size, Channels: 1, Pixels: slices.Repeat([]byte{level}, 100*size*size), Labels: make([]int, 100)}
	w := WarmStart{Means: 3, Cell: 2, ClippingNorm: 14, NoiseMultiplier: 0.5, Background: -0.2}
	sampler, err := subsample.NewPoisson(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	noise, err := dpsgd.NewNoise()
	if err != nil {
		t.Fatal(err)
	}
	m, err := noisyMeans(w, set, classes, examples, 3, accountant.DPSGD(w.NoiseMultiplier, 1, 3), noise, sampler, func() error { return nil }, noMistake)
	if err != nil {
		t.Fatal(err)
	}
	images := m.images(size, []string{"full", "empty"})
	if images.Len() != 6 || !slices.Equal(images.Labels, []int{0, 1, 0, 1, 0, 1}) {
		t.Fatalf("%d images with labels %v", images.Len(), images.Labels)
	}
	sum := 0.0
	for _, p := range images.Image(0) {
		sum += float64(p) / (size * size)
	}
	if math.Abs(sum-level) > 3 {
		t.Errorf("picture of the mean has level %g, want %d", sum, level)
	}
	squares, n := 0.0, 0
	for i, v := range m.values {
		if i/196%2 == 1 {
			squares += (float64(v) + 0.2) * (float64(v) + 0.2)
			n++
		}
	}
	want := w.NoiseMultiplier * w.ClippingNorm / (examples / classes)
	if ratio := squares / float64(n) / (want * want); math.Abs(ratio-1) > 6*math.Sqrt(2/float64(n)) {
		t.Errorf("noise of an empty class has variance %g of what is wanted", ratio)
	}
}

// Means that a crash took on the way stay charged; the rest of the plan is asked for,
// and not more.
func TestHalfOfTheMeansLost(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := warmConfig("nowhere")
	c.WarmStart.Means, c.ClassChoice = 3, ClassChoice{}
	plan, _, err := NewPlan(b, c, tinyBase(t, b))
	if err != nil {
		t.Fatal(err)
	}
	r := &run{config: c, plan: plan, dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(r.dir, ReleaseDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if r.ledger, err = accountant.CreateLedger(filepath.Join(r.dir, LedgerFile)); err != nil {
		t.Fatal(err)
	}
	defer r.ledger.Close()
	if err := r.declareQueries("d41d8c", ""); err != nil {
		t.Fatal(err)
	}
	q := plan.query(meansRun)
	for range 2 {
		if err := r.ask(q)(); err != nil {
			t.Fatal(err)
		}
	}
	set := &dataset.Set{Height: 28, Width: 28, Channels: 1, Pixels: make([]byte, 5*784), Labels: []int{0, 1, 2, 3, 0}}
	m, err := r.means(c.WarmStart.resolved(28, 1), set, options(""))
	if err != nil {
		t.Fatal(err)
	}
	if got := len(m.values) / (4 * 196); got != 1 || r.left(meansRun) != 0 {
		t.Errorf("%d means more, %d left; want 1 and 0", got, r.left(meansRun))
	}
	if err := r.ask(q)(); !errors.Is(err, accountant.ErrBudget) {
		t.Errorf("a fourth of 3 means: %v, want ErrBudget", err)
	}
	again, err := r.means(c.WarmStart.resolved(28, 1), set, options(""))
	if err != nil || !slices.Equal(again.values, m.values) {
		t.Errorf("the means that were kept are others (%v)", err)
	}
	if err := os.WriteFile(r.released(meansFile), []byte("not a tensor"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.means(c.WarmStart.resolved(28, 1), set, options("")); err == nil {
		t.Error("a damaged file is read")
	}
}

// The weights of a warm start move before the first step, and only what trains.
func TestWarmStartMovesWhatTrains(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := warmConfig(tinyData(t, 40))
	c.ClassChoice = ClassChoice{}
	base := tinyBase(t, b)
	plan, target, err := NewPlan(b, c, base)
	if err != nil {
		t.Fatal(err)
	}
	before := base.Weights.Clone()
	canvas, err := pipeline.NewCanvas(base, 28, 1)
	if err != nil {
		t.Fatal(err)
	}
	m := &meanImages{classes: 4, side: 14, channels: 1, values: make([]float32, 4*196)}
	w := c.WarmStart.resolved(28, 1)
	w.MinTimestep = 0.5
	r := &run{config: c, plan: plan}
	if err := r.warmUp(context.Background(), b, target, canvas, w, m, options("")); err != nil {
		t.Fatal(err)
	}
	for _, old := range before.All() {
		moved := !slices.Equal(old.Data, base.Weights.Get(old.Name).Data)
		if trains := slices.Contains(target.trainable, old.Name); moved && !trains || !moved && trains {
			t.Errorf("%s: moved is %t, trains is %t", old.Name, moved, trains)
		}
	}
}

// Targets on images with known noise are right on average: over images, their noise
// and the forward process, what best predicts a target from x_t linearly is what
// best predicts the true noise, E[noise·x_t]/E[x_t²] = b/(a²·v + b²) for images of
// variance v; and x_t has the variance that it should. With 400,000 draws, six standard
// errors are below 3 % of either.
func TestAwareTargetsAreUnbiased(t *testing.T) {
	schedule := testSchedule(t)
	const v, known, n = 0.3, 0.8, 400000
	rng := rand.New(rand.NewPCG(9, 9))
	for _, step := range []int{550, 800, 990} {
		a, b := schedule.SignalRate(step), schedule.NoiseRate(step)
		clean, noise, y := make([]float32, n), make([]float32, n), make([]float32, n)
		for i := range y {
			y[i] = float32(math.Sqrt(v)*rng.NormFloat64() + known*rng.NormFloat64())
			noise[i] = float32(rng.NormFloat64())
		}
		aware(clean, noise, y, a, b, known)
		cross, square := 0.0, 0.0
		for i := range y {
			x := a*float64(clean[i]) + b*float64(noise[i])
			cross += float64(noise[i]) * x / n
			square += x * x / n
		}
		if want := a*a*v + b*b; math.Abs(square/want-1) > 0.03 {
			t.Errorf("at %d x_t has variance %g, want %g", step, square, want)
		}
		if want := b; math.Abs(cross/want-1) > 0.03 { // E[noise·x_t] of the true noise.
			t.Errorf("at %d target and x_t have covariance %g, want %g", step, cross, want)
		}
	}
}

// A noise-aware warm start runs, from the timestep on where half of the noise is the
// forward process's, and is refused where it cannot be.
func TestNoiseAwareWarmStart(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := warmConfig(tinyData(t, 40))
	c.ClassChoice = ClassChoice{}
	c.WarmStart.NoiseAware, c.WarmStart.Cell, c.WarmStart.ClippingNorm, c.WarmStart.SamplingProbability = true, 1, 2, 0.1
	if _, err := Run(context.Background(), b, c, tinyBase(t, b), options(filepath.Join(t.TempDir(), "run"))); err != nil {
		t.Fatal(err)
	}
	canvas := pipeline.Canvas{Image: 28, Padded: 28}
	schedule := testSchedule(t)
	first, err := aboveNoise(tinyBase(t, b), canvas, schedule, 2, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	sigma := func(t int) float64 { return math.Exp(logSigma(schedule, t)) }
	if sigma(first) < 2*math.Sqrt2 || sigma(first-1) >= 2*math.Sqrt2 {
		t.Errorf("from %d on, where sigma is %g", first, sigma(first))
	}
	if _, err := aboveNoise(tinyBase(t, b), canvas, schedule, 1e9, 0, 1000); !errors.Is(err, ErrConfig) {
		t.Errorf("more noise than the schedule: %v", err)
	}
	c.WarmStart.Cell = 2
	if err := c.Validate(); !errors.Is(err, ErrConfig) {
		t.Errorf("cells of 2: %v", err)
	}
}
