package generate

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/unet"
)

func tinyModel(t *testing.T) *checkpoint.Model {
	t.Helper()
	b := backendtest.Open(t, "go")
	u, err := unet.ParseConfig([]byte(`{"_class_name": "UNet2DModel", "sample_size": 7, "in_channels": 16, "out_channels": 16,
		"block_out_channels": [8], "layers_per_block": 1, "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"],
		"attention_head_dim": 8, "norm_num_groups": 4, "num_class_embeds": 3}`))
	if err != nil {
		t.Fatal(err)
	}
	m := &checkpoint.Model{UNet: u, Scheduler: diffusion.DefaultConfig(), Classes: []string{"a", "b"}, Channels: 1, Size: 28, PixelUnshuffle: 4}
	specs, err := m.Specs(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range specs {
		if specs[i].Init == nn.InitZeros && specs[i].Kind != nn.KindVector {
			specs[i].Init = nn.InitFanIn
		}
	}
	m.Weights = nn.InitWeights(specs, rand.New(rand.NewPCG(1, 1)))
	return m
}

// An image depends on the seed and its index alone: batch size, workers and
// shards change nothing beyond rounding to bytes.
func TestImagesDoNotDependOnTheSplit(t *testing.T) {
	b := backendtest.Open(t, "go")
	m := tinyModel(t)
	labels := []int{0, 1, 1, 0, 1, 0, 0}
	o := Options{Steps: 4, GuidanceScale: 2, Eta: 0.5, Seed: 3, Lowering: nn.Patches, BatchSize: 8}
	whole, err := Images(context.Background(), b, m, 28, labels, o)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Len() != 7 || !slices.Equal(whole.Labels, labels) {
		t.Fatalf("got %d images with labels %v", whole.Len(), whole.Labels)
	}
	o.BatchSize, o.Workers = 3, 2
	first, err := Images(context.Background(), b, m, 28, labels[:5], o)
	if err != nil {
		t.Fatal(err)
	}
	o.First = 5
	second, err := Images(context.Background(), b, m, 28, labels[5:], o)
	if err != nil {
		t.Fatal(err)
	}
	split := append(first.Pixels, second.Pixels...)
	for i, p := range whole.Pixels {
		if d := int(p) - int(split[i]); d < -1 || d > 1 {
			t.Fatalf("byte %d is %d in one call and %d in shards", i, p, split[i])
		}
	}
	if slices.Equal(whole.Image(0), whole.Image(3)) {
		t.Error("two images of one class are equal")
	}
}

// A generator that draws again, fewer images and with another seed, gives what one of its own would.
func TestGeneratorDrawsAgain(t *testing.T) {
	b := backendtest.Open(t, "go")
	m := tinyModel(t)
	o := Options{Steps: 3, Eta: 1, Lowering: nn.Patches, BatchSize: 4}
	g, err := New(b, m, 28, o)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for seed, labels := range [][]int{{0, 1, 0, 1, 1}, {1, 0}, {1, 0}} {
		o.Seed = uint64(seed)
		own, err := Images(context.Background(), b, m, 28, labels, o)
		if err != nil {
			t.Fatal(err)
		}
		again, err := g.Images(context.Background(), labels, uint64(seed))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(own.Pixels, again.Pixels) || !slices.Equal(own.Labels, again.Labels) {
			t.Errorf("seed %d: a generator's images differ from those of one of its own", seed)
		}
	}
}

func TestGuidanceChangesImagesAndOneIsOff(t *testing.T) {
	b := backendtest.Open(t, "go")
	m := tinyModel(t)
	draw := func(scale float64) []byte {
		set, err := Images(context.Background(), b, m, 28, []int{1, 0}, Options{Steps: 3, GuidanceScale: scale, Seed: 1, Lowering: nn.Patches, BatchSize: 2})
		if err != nil {
			t.Fatal(err)
		}
		return set.Pixels
	}
	if !slices.Equal(draw(0), draw(1)) {
		t.Error("guidance scale 0 (unset) is not 1")
	}
	if slices.Equal(draw(1), draw(5)) {
		t.Error("guidance scale 5 gives the images of scale 1")
	}
}

func TestLabelsAreChecked(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, label := range []int{-1, 2} {
		if _, err := Images(context.Background(), b, tinyModel(t), 28, []int{label}, Options{}); err == nil {
			t.Errorf("label %d of 2 classes was accepted", label)
		}
	}
}

func TestBalanced(t *testing.T) {
	counts := make([]int, 3)
	for _, l := range Balanced(10, 3) {
		counts[l]++
	}
	if !slices.Equal(counts, []int{4, 3, 3}) {
		t.Errorf("10 labels over 3 classes are %v", counts)
	}
}

func TestBatchSize(t *testing.T) {
	for _, c := range []struct {
		lowering   nn.Lowering
		grid, want int
	}{{nn.Small, 4, 32}, {nn.Small, 16, 32}, {nn.Small, 32, 8}, {nn.Patches, 64, 2}, {nn.Small, 256, 1}, {nn.Native, 256, 32}} {
		if got := BatchSize(c.lowering, c.grid); got != c.want {
			t.Errorf("lowering %d, grid %d: %d images a call, want %d", c.lowering, c.grid, got, c.want)
		}
	}
}
