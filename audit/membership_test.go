package audit

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/unet"
)

// tinyModel is a pixel-space model with random weights: 7x7 cells of 4x4 pixels,
// classes 0 to 3, with that many channels.
func tinyModel(t testing.TB, b compute.Backend, prediction diffusion.Prediction, channels string) *checkpoint.Model {
	t.Helper()
	u, err := unet.ParseConfig([]byte(`{"_class_name": "UNet2DModel", "sample_size": 7, "in_channels": 16, "out_channels": 16,
		"block_out_channels": [` + channels + `, ` + channels + `], "layers_per_block": 1, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
		"up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "attention_head_dim": 8, "norm_num_groups": 4, "num_class_embeds": 5}`))
	if err != nil {
		t.Fatal(err)
	}
	m := &checkpoint.Model{UNet: u, Scheduler: diffusion.DefaultConfig(), Classes: []string{"0", "1", "2", "3"}, Channels: 1, Size: 28, PixelUnshuffle: 4}
	m.Scheduler.Prediction = prediction
	specs, err := m.Specs(b)
	if err != nil {
		t.Fatal(err)
	}
	m.Weights = nn.InitWeights(specs, rand.New(rand.NewPCG(5, 5)))
	return m
}

func digits(t testing.TB, n int, seed uint64) *dataset.Set {
	t.Helper()
	s, err := glyphs.Render(glyphs.Options{Count: n, Seed: seed, Classes: []string{"0", "1", "2", "3"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A score depends on the image, not on what stands beside it, and is the same for
// what a network of each kind says about the same noise.
func TestScores(t *testing.T) {
	b := backendtest.Open(t, "go")
	images := digits(t, 40, 3)
	m := tinyModel(t, b, diffusion.PredictV, "8")
	a, err := NewMembership(b, m, MembershipOptions{Lowering: nn.Patches, Workers: 2, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	attacks := []Attack{SecMI, PIA, SimA}
	all, err := a.Scores(t.Context(), images, attacks)
	if err != nil {
		t.Fatal(err)
	}
	order := []int{39, 0, 17}
	some, err := a.Scores(t.Context(), images.Subset(order), attacks)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range attacks {
		for i, at := range order {
			if got, want := some[k][i], all[k][at]; math.Abs(got-want) > 1e-4*math.Abs(want) || !(want < 0) {
				t.Errorf("%s of image %d is %g among few and %g among all", k, at, got, want)
			}
		}
	}
	if _, err := a.Scores(t.Context(), images, []Attack{"gut feeling"}); err == nil {
		t.Error("an unknown attack is accepted")
	}
	if _, err := a.Scores(t.Context(), &dataset.Set{Height: 28, Width: 28, Channels: 1, Pixels: make([]byte, 784)}, attacks); err == nil {
		t.Error("images without labels are accepted")
	}
}

// Predicted noise is what the network says, turned into noise: with a network that
// says nothing, v = 0 means noise √(1-ᾱ)·x, noise 0 means 0.
func TestNoiseOfAnEmptyNetwork(t *testing.T) {
	b := backendtest.Open(t, "go")
	images := digits(t, 3, 3)
	for prediction, factor := range map[diffusion.Prediction]func(s *diffusion.Schedule, at int) float64{
		diffusion.PredictNoise: func(*diffusion.Schedule, int) float64 { return 0 },
		diffusion.PredictV:     func(s *diffusion.Schedule, at int) float64 { return s.NoiseRate(at) },
		diffusion.PredictX0:    func(s *diffusion.Schedule, at int) float64 { return 1 / s.NoiseRate(at) },
	} {
		m := tinyModel(t, b, prediction, "8")
		for _, w := range m.Weights.All() {
			clear(w.Data)
		}
		a, err := NewMembership(b, m, MembershipOptions{Lowering: nn.Patches})
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.Scores(t.Context(), images, []Attack{SimA})
		a.Close()
		if err != nil {
			t.Fatal(err)
		}
		schedule, err := diffusion.NewSchedule(m.Scheduler)
		if err != nil {
			t.Fatal(err)
		}
		for i := range images.Len() {
			sum := 0.0
			for _, p := range images.Image(i) {
				v := float64(p)/127.5 - 1
				sum += v * v
			}
			want := -math.Sqrt(sum) * factor(schedule, int(simaAt*float64(schedule.Steps())))
			if math.Abs(got[SimA][i]-want) > 1e-4*math.Abs(want)+1e-9 {
				t.Errorf("%s: SimA of image %d is %g, want %g", prediction, i, got[SimA][i], want)
			}
		}
	}
}

// A control needs images with labels, steps and an even batch.
func TestControlRefuses(t *testing.T) {
	b := backendtest.Open(t, "go")
	m, images := tinyModel(t, b, diffusion.PredictV, "8"), digits(t, 4, 3)
	for _, o := range []ControlOptions{{}, {Steps: 1, BatchSize: 3}} {
		if err := TrainControl(t.Context(), b, m, images, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if err := TrainControl(t.Context(), b, m, &dataset.Set{Height: 28, Width: 28, Channels: 1}, ControlOptions{Steps: 1}); err == nil {
		t.Error("no images are accepted")
	}
}
