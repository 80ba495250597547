package pretrain

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// A training that is interrupted in every stage ends with the weights that it would have had,
// and makes no step twice.
func TestRunGoesOn(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := short(t)
	whole, err := Run(context.Background(), b, c, Options{Lowering: nn.Patches})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Lowering: nn.Patches, Unfinished: filepath.Join(t.TempDir(), "model.unfinished")}
	made := map[string][]int{}
	sitting := func(stage string, step int) (*checkpoint.Model, error) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		o.Report = func(p Progress) {
			if p.Stage == "encode public images" {
				return
			}
			made[p.Stage] = append(made[p.Stage], p.Step)
			if p.Stage == stage && p.Step == step {
				cancel()
			}
		}
		return Run(ctx, b, c, o)
	}
	for _, stop := range []struct {
		stage string
		step  int
	}{{"autoencoder", 2}, {"autoencoder", 6}, {"denoiser, step 1", 1}, {"denoiser, step 2", 2}, {"denoiser, step 2", 3}} {
		m, err := sitting(stop.stage, stop.step)
		// After the last step of all there is nothing left to interrupt.
		if last := stop.stage == "denoiser, step 2" && stop.step == 3; last != (err == nil) || !last && !errors.Is(err, context.Canceled) {
			t.Fatalf("%s, step %d: %v", stop.stage, stop.step, err)
		}
		if m != nil {
			equal(t, whole, m)
		}
	}
	for stage, steps := range map[string]int{"autoencoder": 6, "denoiser, step 1": 2, "denoiser, step 2": 3} {
		want := make([]int, steps)
		for i := range want {
			want[i] = i + 1
		}
		if !slices.Equal(made[stage], want) {
			t.Errorf("%s made the steps %v, want %v", stage, made[stage], want)
		}
	}
	m, err := sitting("", 0) // Its model may have been lost before it was saved.
	if err != nil {
		t.Fatal(err)
	}
	equal(t, whole, m)
}

// Another recipe, another model that lends, and a damaged file are refused, and the file stays.
func TestUnfinishedIsChecked(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := short(t)
	o := Options{Lowering: nn.Patches, Unfinished: filepath.Join(t.TempDir(), "model.unfinished")}
	whole, err := Run(context.Background(), b, c, o)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, c *Config, o Options) {
		t.Helper()
		before, err := os.ReadFile(o.Unfinished)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Run(context.Background(), b, c, o); !errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), o.Unfinished) {
			t.Errorf("%s: error is %v, want one that names the file", what, err)
		}
		if after, err := os.ReadFile(o.Unfinished); err != nil || !slices.Equal(before, after) {
			t.Errorf("%s: the file changed", what)
		}
	}
	other := short(t)
	other.Denoiser[1].LearningRate *= 2
	refused("another learning rate", other, o)
	lent := o
	lent.Base = whole
	refused("a model that lends", c, lent)
	if err := os.Truncate(o.Unfinished, 1000); err != nil {
		t.Fatal(err)
	}
	refused("half a file", c, o)
}

// short is a recipe of eleven steps in three stages.
func short(t *testing.T) *Config {
	t.Helper()
	text := strings.NewReplacer("steps: 60", "steps: 6", "denoiser: [{steps: 30, batch_size: 8, learning_rate: 5.0e-3, label_drop: 0.1}]",
		"denoiser: [{steps: 2, batch_size: 8, learning_rate: 5.0e-3, label_drop: 1}, {steps: 3, batch_size: 8, learning_rate: 5.0e-3, label_drop: 0.1}]").Replace(tinyLatent)
	c, err := ParseConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func equal(t *testing.T, want, got *checkpoint.Model) {
	t.Helper()
	for _, w := range want.Weights.All() {
		if !slices.Equal(w.Data, got.Weights.Get(w.Name).Data) {
			t.Errorf("%s differs from the training without an interruption", w.Name)
		}
	}
	if want.Autoencoder.LatentScalingFactor != got.Autoencoder.LatentScalingFactor || want.Autoencoder.LatentShift != got.Autoencoder.LatentShift {
		t.Error("the latents' scale differs from that of the training without an interruption")
	}
}
