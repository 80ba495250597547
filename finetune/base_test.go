package finetune

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/unet"
)

// tinyBase is a pixel-space model with random weights: 7x7 cells of 4x4 pixels,
// 8 channels, classes 0 to 3.
func tinyBase(t testing.TB, b compute.Backend) *checkpoint.Model {
	t.Helper()
	u, err := unet.ParseConfig([]byte(`{"_class_name": "UNet2DModel", "sample_size": 7, "in_channels": 16, "out_channels": 16,
		"block_out_channels": [8, 8], "layers_per_block": 1, "down_block_types": ["AttnDownBlock2D", "DownBlock2D"],
		"up_block_types": ["UpBlock2D", "AttnUpBlock2D"], "attention_head_dim": 8, "norm_num_groups": 4, "num_class_embeds": 5}`))
	if err != nil {
		t.Fatal(err)
	}
	m := &checkpoint.Model{UNet: u, Scheduler: diffusion.DefaultConfig(), Classes: []string{"0", "1", "2", "3"},
		Channels: 1, Size: 28, PixelUnshuffle: 4}
	specs, err := m.Specs(b)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 5))
	for i := range specs {
		if specs[i].Init == nn.InitZeros { // Random, so that every layer matters.
			specs[i].Init = nn.InitNormal
		}
	}
	m.Weights = nn.InitWeights(specs, rng)
	for _, w := range m.Weights.All() {
		if w.Kind == nn.KindVector {
			for i := range w.Data {
				w.Data[i] *= 0.3
			}
		}
	}
	return m
}

// tinyData writes n rendered digits 0 to 3 as IDX files and returns their
// folder.
func tinyData(t testing.TB, n int) string {
	t.Helper()
	set, err := glyphs.Render(glyphs.Options{Count: n, Seed: 3, Classes: []string{"0", "1", "2", "3"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := dataset.WriteIDX(filepath.Join(dir, "train-images-idx3-ubyte"), filepath.Join(dir, "train-labels-idx1-ubyte"), set); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tinyConfig is a run of a few steps.
func tinyConfig(method Method, data string) *Config {
	c := &Config{Base: "tiny", Method: method,
		Data:    Data{Path: data, Examples: 40, Classes: []string{"0", "1", "2", "3"}},
		Privacy: Privacy{Epsilon: 5, Delta: 1e-3},
		Training: Training{Steps: 6, ExpectedBatchSize: 8, Multiplicity: 2, ClippingNorm: 1, LearningRate: 1e-2,
			EMA: 0.5, LabelDrop: 0.1},
	}
	c.setDefaults()
	return c
}
