package pretrain

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

const tinyText = `
name: tiny-text
seed: 4
images: {size: 28, channels: 1}
pixel_unshuffle: 4
text_encoder: {hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 16, max_position_embeddings: 12}
unet:
  _class_name: UNet2DConditionModel
  sample_size: 7
  in_channels: 16
  out_channels: 16
  block_out_channels: [8]
  layers_per_block: 1
  down_block_types: [CrossAttnDownBlock2D]
  mid_block_type: null
  up_block_types: [CrossAttnUpBlock2D]
  cross_attention_dim: 8
  attention_head_dim: 2
  norm_num_groups: 4
scheduler: {_class_name: DDIMScheduler}
denoiser: [{steps: 6, batch_size: 8, learning_rate: 5.0e-3, label_drop: 0.2}]
`

// A recipe with a text encoder makes a model that takes text: every word of a
// caption is one token of it, and the text encoder trains.
func TestPretrainText(t *testing.T) {
	c, err := ParseConfig([]byte(tinyText))
	if err != nil {
		t.Fatal(err)
	}
	b := backendtest.Open(t, "go")
	m, err := Run(context.Background(), b, c, Options{Lowering: nn.Patches})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Classes) != 0 || m.TextLength() != 12 {
		t.Errorf("model has classes %v and texts of %d tokens", m.Classes, m.TextLength())
	}
	text := "a bold letter q, tilted left"
	if n := len(m.Tokenizer.Encode(text)); n != 9 {
		t.Errorf("%q has %d tokens, want 7 words between start and end", text, n)
	}
	start := nn.NewWeights()
	c.Denoiser[0].LearningRate = 1e-30
	still, err := Run(context.Background(), b, c, Options{Lowering: nn.Patches})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range still.Weights.All() {
		start.Add(w)
	}
	for _, w := range m.Weights.All() {
		if strings.HasPrefix(w.Name, "text_encoder.encoder.") && !strings.HasSuffix(w.Name, "k_proj.bias") && slices.Equal(w.Data, start.Get(w.Name).Data) {
			t.Errorf("%s did not train", w.Name)
		}
	}
	// It lends its UNet to a recipe that continues it, and to none of another shape.
	c.ContinueUNet = true
	if _, err := Run(context.Background(), b, c, Options{Lowering: nn.Patches}); err == nil {
		t.Error("a recipe continues a UNet that nothing lends")
	}
	again, err := Run(context.Background(), b, c, Options{Lowering: nn.Patches, Base: m})
	if err != nil {
		t.Fatal(err)
	}
	if name := "unet.conv_out.weight"; !slices.Equal(again.Weights.Get(name).Data, m.Weights.Get(name).Data) {
		t.Error("the UNet does not start from the one that is lent")
	}
}
