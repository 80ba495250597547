package generate

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/textencoder"
	"github.com/scumble-dp/scumble/tokenizer"
	"github.com/scumble-dp/scumble/unet"
)

func tinyTextModel(t *testing.T) *checkpoint.Model {
	t.Helper()
	u, err := unet.ParseConfig([]byte(`{"_class_name": "UNet2DConditionModel", "sample_size": 7, "in_channels": 16, "out_channels": 16,
		"block_out_channels": [8], "layers_per_block": 1, "down_block_types": ["CrossAttnDownBlock2D"], "mid_block_type": null,
		"up_block_types": ["CrossAttnUpBlock2D"], "attention_head_dim": 2, "norm_num_groups": 4, "cross_attention_dim": 8}`))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Build([]string{"a", "one", "two"}, 5)
	if err != nil {
		t.Fatal(err)
	}
	c := textencoder.Default(textencoder.CLIP)
	c.Vocabulary, c.Positions, c.Width, c.Layers, c.Heads, c.HeadWidth, c.Hidden = tok.Size(), 5, 8, 1, 2, 4, 12
	m := &checkpoint.Model{UNet: u, TextEncoder: c, Tokenizer: tok, Scheduler: diffusion.DefaultConfig(), Channels: 1, Size: 28, PixelUnshuffle: 4}
	specs, err := m.Specs(backendtest.Open(t, "go"))
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

// An image follows its own prompt and seed, whatever the batch; a negative prompt
// counts with guidance only; that of no text is the empty one.
func TestPrompts(t *testing.T) {
	b := backendtest.Open(t, "go")
	m := tinyTextModel(t)
	ctx := context.Background()
	draw := func(o Options, prompts ...Prompt) []byte {
		o.Steps, o.Seed, o.Lowering = 3, 3, nn.Patches
		set, err := Prompts(ctx, b, m, 28, prompts, o)
		if err != nil {
			t.Fatal(err)
		}
		if set.Len() != len(prompts) || set.Captions[0] != prompts[0].Text || set.Labels != nil {
			t.Fatalf("%d images with captions %q", set.Len(), set.Captions)
		}
		return set.Pixels
	}
	const size = 28 * 28
	guided := Options{GuidanceScale: 3, BatchSize: 2}
	one, two := Prompt{Text: "a one"}, Prompt{Text: "a two"}
	all := draw(guided, one, two, one)
	if part := draw(Options{GuidanceScale: 3, BatchSize: 4, First: 1}, two); !bytes.Equal(part, all[size:2*size]) {
		t.Error("an image depends on its batch")
	}
	if bytes.Equal(draw(guided, one), draw(guided, two)) {
		t.Error("the prompt does not count")
	}
	negative := Prompt{Text: "a one", Negative: "a two"}
	if bytes.Equal(draw(guided, one), draw(guided, negative)) {
		t.Error("the negative prompt does not count")
	}
	if !bytes.Equal(draw(Options{}, one), draw(Options{}, negative)) {
		t.Error("the negative prompt counts without guidance")
	}
	// With text against itself, guidance changes nothing beyond rounding.
	same := draw(Options{}, one)
	for i, v := range draw(guided, Prompt{Text: "a one", Negative: "a one"}) {
		if d := int(v) - int(same[i]); d < -1 || d > 1 {
			t.Fatalf("pixel %d is %d, want %d", i, v, same[i])
		}
	}
	if _, err := Images(ctx, b, m, 28, []int{0}, Options{}); err == nil {
		t.Error("a model that takes text takes a class")
	}
	if _, err := Prompts(ctx, b, tinyModel(t), 28, []Prompt{one}, Options{}); err == nil {
		t.Error("a model of classes takes text")
	}
	if got := Balanced(3, 0); slices.Compare(got, nil) != 0 {
		t.Errorf("no classes give labels %v", got)
	}
}
