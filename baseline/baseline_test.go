package baseline

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

func budget(t testing.TB, epsilon float64) Budget {
	t.Helper()
	l, err := accountant.CreateLedger(filepath.Join(t.TempDir(), "ledger.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return Budget{Epsilon: epsilon, Delta: 1e-5, Ledger: l, Dataset: "test"}
}

func characters(t testing.TB, n int, seed uint64) *dataset.Set {
	t.Helper()
	s, err := glyphs.Render(glyphs.Options{Count: n, Seed: seed, Classes: []string{"0", "1", "7"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// spent checks that a ledger holds a number of accesses of one kind, which cost at
// most epsilon, and nothing else.
func spent(t *testing.T, b Budget, accesses int, probability float64) {
	t.Helper()
	runs := b.Ledger.Record().Runs()
	if len(runs) != 1 || runs[0].ID != Run || len(runs[0].Left) != 0 {
		t.Fatalf("ledger holds %+v, want one run that is spent", runs)
	}
	events := b.Ledger.Record().Events()
	n := 0
	for _, e := range events {
		if n += e.Count; e.SamplingProbability != probability || e.Mechanism != accountant.PoissonGaussian {
			t.Errorf("ledger has %+v, want sampling probability %g", e, probability)
		}
	}
	claim, err := accountant.PLD{}.Epsilon(events, accountant.AddOrRemove, b.Delta)
	if err != nil || n != accesses || claim.Epsilon > b.Epsilon || claim.Epsilon < 0.99*b.Epsilon {
		t.Errorf("%d accesses cost epsilon %g (%v), want %d and nearly %g", n, claim.Epsilon, err, accesses, b.Epsilon)
	}
}

// A classifier with hardly any noise learns; every step is in the ledger.
func TestTrainClassifier(t *testing.T) {
	private, test := characters(t, 300, 1), characters(t, 90, 2)
	backendtest.Each(t, func(t *testing.T, backend compute.Backend) {
		lowering := nn.Small
		if backend == backendtest.Open(t, "go") {
			lowering = nn.Patches
		}
		b := budget(t, 1000)
		steps := 0
		p, err := TrainClassifier(t.Context(), backend, private, b, ClassifierOptions{Examples: 300, Steps: 40, ExpectedBatchSize: 60, ClippingNorm: 1,
			LearningRate: 5e-3, EMA: 0.8, Seed: 3, Lowering: lowering, Workers: 2, Report: func(step, of int) { steps = step }})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		score, err := p.Score(t.Context(), test)
		if err != nil || score.Accuracy < 0.7 {
			t.Errorf("accuracy is %.2f (%v), want 0.7: chance is 0.33", score.Accuracy, err)
		}
		if steps != 40 {
			t.Errorf("%d steps reported, want 40", steps)
		}
		spent(t, b, 40, 0.2)
	})
}

// What is asked for wrongly spends nothing.
func TestTrainClassifierRefuses(t *testing.T) {
	private := characters(t, 6, 1)
	backend := backendtest.Open(t, "go")
	good := ClassifierOptions{Examples: 6, Steps: 2, ExpectedBatchSize: 3, ClippingNorm: 1, LearningRate: 1e-3, Lowering: nn.Patches}
	for want, change := range map[string]func(*ClassifierOptions){
		"examples is 0":       func(o *ClassifierOptions) { o.Examples = 0 },
		"steps is 0":          func(o *ClassifierOptions) { o.Steps = 0 },
		"batch size is 7":     func(o *ClassifierOptions) { o.ExpectedBatchSize = 7 },
		"clipping norm is 0":  func(o *ClassifierOptions) { o.ClippingNorm = 0 },
		"learning rate is -1": func(o *ClassifierOptions) { o.LearningRate = -1 },
		"EMA decay is 1":      func(o *ClassifierOptions) { o.EMA = 1 },
		`classifier is "knn"`: func(o *ClassifierOptions) { o.Classifier = eval.Neighbours },
	} {
		o, b := good, budget(t, 1)
		change(&o)
		if _, err := TrainClassifier(t.Context(), backend, private, b, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
		if len(b.Ledger.Record().Runs()) != 0 {
			t.Errorf("%s: the ledger is not empty", want)
		}
	}
	large := &dataset.Set{Height: 65, Width: 1, Channels: 1, Classes: private.Classes, Labels: make([]int, 6), Pixels: make([]byte, 6*65)}
	scattering, b := good, budget(t, 1)
	scattering.Classifier = eval.Scattering
	if _, err := TrainClassifier(t.Context(), backend, large, b, scattering); err == nil || len(b.Ledger.Record().Runs()) != 0 {
		t.Errorf("images that the classifier cannot take: %v, with %d runs in the ledger", err, len(b.Ledger.Record().Runs()))
	}
	b = budget(t, 1)
	b.Ledger.Close()
	if _, err := TrainClassifier(t.Context(), backend, private, b, good); err == nil {
		t.Error("a classifier is trained without a ledger")
	}
}

// plain has one feature: the place of an image on a line.
func plain(places []float32) *eval.Features {
	return &eval.Features{Rows: len(places), Dim: 1, Values: places}
}

func dots(labels []int) *dataset.Set {
	return &dataset.Set{Height: 1, Width: 1, Channels: 1, Pixels: make([]byte, len(labels)), Labels: labels, Classes: []string{"a", "b"}}
}

// Private images of class a lie at 10, of class b at 90, public ones everywhere from
// 0 to 99: the generations move there, and stay in their class.
func TestEvolve(t *testing.T) {
	var private, pool []float32
	var labels, poolLabels []int
	for i := range 400 {
		label := i % 2
		private, labels = append(private, 10+80*float32(label)+float32(i%5)/10), append(labels, label)
	}
	for i := range 200 {
		pool, poolLabels = append(pool, float32(i/2)), append(poolLabels, i%2)
	}
	set := dots(poolLabels)
	for i := range set.Pixels {
		set.Pixels[i] = byte(pool[i])
	}
	b := budget(t, 5)
	got, err := Evolve(t.Context(), dots(labels), set, plain(private), plain(pool), b, EvolutionOptions{Images: 40, Iterations: 6, First: 30, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got.Len() != 40 {
		t.Fatalf("%d images, want 40", got.Len())
	}
	near := 0
	for i, p := range got.Pixels {
		if want := 10 + 80*got.Labels[i]; int(p) >= want-6 && int(p) <= want+6 {
			near++
		}
		if got.Labels[i] != i/20 {
			t.Errorf("image %d has label %d, want %d", i, got.Labels[i], i/20)
		}
	}
	if near < 35 { // By chance 13 in 100 are: 5 of 40.
		t.Errorf("%d of 40 images are where the private ones are: %v", near, got.Pixels)
	}
	spent(t, b, 6, 1)
}

// Without an image the others vote as before: so one image changes one count by 1,
// the sensitivity that the ledger is charged for.
func TestVotesOfNeighbours(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "images")
		label := rapid.SliceOfN(rapid.IntRange(0, 1), n, n).Draw(t, "labels")
		place := rapid.SliceOfN(rapid.Float32Range(0, 1), n, n).Draw(t, "places")
		pool := plain(rapid.SliceOfN(rapid.Float32Range(0, 1), 12, 12).Draw(t, "pool"))
		chosen := rapid.SliceOfN(rapid.IntRange(0, 11), 8, 8).Draw(t, "chosen") // The first four for class a.
		without := rapid.IntRange(0, n-1).Draw(t, "without")
		all := votes(dots(label), plain(place), pool, chosen, 4)
		for i, bin := range all {
			if bin/4 != label[i] {
				t.Fatalf("image of class %d votes for place %d, want one of its class", label[i], bin)
			}
		}
		if n == 1 {
			return
		}
		less := votes(dots(slices.Delete(slices.Clone(label), without, without+1)), plain(slices.Delete(slices.Clone(place), without, without+1)), pool, chosen, 4)
		if want := slices.Delete(slices.Clone(all), without, without+1); !slices.Equal(less, want) {
			t.Fatalf("votes are %v, want %v", less, want)
		}
	})
}

// Draws have the chances of the counts, none where the noise left nothing, and all
// the same where nothing is left at all.
func TestDraw(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	images := make([]int, 3000)
	counts := make([]float64, 3000)
	for i := range images {
		images[i] = i % 3
		counts[i] = []float64{-4, 3, 8}[i%3]
	}
	var got [3]int
	for _, i := range draw(rng, images, counts, 2) { // Chances 0, 1/7, 6/7.
		got[i]++
	}
	if got[0] != 0 || got[1] < 350 || got[1] > 510 { // Mean 429, deviation 19: four of them.
		t.Errorf("%v of 3000 draws, want 0, about 429, about 2571", got)
	}
	got = [3]int{}
	for _, i := range draw(rng, images, make([]float64, 3000), 0) {
		got[i]++
	}
	if slices.Min(got[:]) < 890 { // Mean 1000, deviation 26.
		t.Errorf("%v of 3000 draws without counts, want about 1000 each", got)
	}
}

func TestEvolveRefuses(t *testing.T) {
	private, pool := dots([]int{0, 1}), dots([]int{0, 1, 0, 1})
	good := EvolutionOptions{Images: 2, Iterations: 1}
	other := dots([]int{0, 1, 0, 1})
	other.Classes = []string{"b", "a"}
	for want, c := range map[string]struct {
		pool   *dataset.Set
		change func(*EvolutionOptions)
	}{
		"other classes":   {other, func(*EvolutionOptions) {}},
		"images is 3":     {pool, func(o *EvolutionOptions) { o.Images = 3 }},
		"iterations is 0": {pool, func(o *EvolutionOptions) { o.Iterations = 0 }},
		"first is -1":     {pool, func(o *EvolutionOptions) { o.First = -1 }},
		"at least the 3":  {pool, func(o *EvolutionOptions) { o.Images = 6 }},
	} {
		o, b := good, budget(t, 1)
		c.change(&o)
		if _, err := Evolve(t.Context(), private, c.pool, plain([]float32{0, 1}), plain([]float32{0, 1, 2, 3}), b, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
		if len(b.Ledger.Record().Runs()) != 0 {
			t.Errorf("%s: the ledger is not empty", want)
		}
	}
	b := budget(t, 1)
	if _, err := Evolve(t.Context(), private, pool, plain([]float32{0, 1}), plain([]float32{0, 1, 2, 3}), b, good); err != nil {
		t.Fatal(err)
	}
	if _, err := Evolve(t.Context(), private, pool, plain([]float32{0, 1}), plain([]float32{0, 1, 2, 3}), b, good); err == nil || errors.Is(err, accountant.ErrBrokenChain) {
		t.Errorf("a second run in one ledger: %v", err)
	}
}
