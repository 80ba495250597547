package bench

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// TestPublishedParameters compares the embedded configurations with what their
// authors' code builds: UNets of latent diffusion and DP-LDM as counted from
// their repositories, CLIP's and the autoencoders' as in diffusers and
// transformers, LDMBert's by hand (its layer to_logits included). Of the VQ autoencoder
// 22.3 million in the encoder and 33.0 in the decoder are known.
func TestPublishedParameters(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, c := range []struct {
		name string
		want map[string]int
	}{
		{CelebAHQ, map[string]int{"unet": 400920579, "vae": 55322782, "class_embedder": 1024}},
		{LDMText2Img, map[string]int{"unet": 872300484, "vae": 83653863, "text_encoder": 581994042}},
		{SD15, map[string]int{"unet": 859520964, "vae": 83653863, "text_encoder": 123060480}},
		{SD21, map[string]int{"unet": 865910724, "vae": 83653863, "text_encoder": 340387840}},
	} {
		p, err := OpenPublished(c.name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Parameters(b)
		if err != nil {
			t.Fatal(err)
		}
		for component, want := range c.want {
			if got[component] != want {
				t.Errorf("%s: %s has %d parameters, want %d", c.name, component, got[component], want)
			}
		}
		if len(got) != len(c.want) || p.Source == "" {
			t.Errorf("%s: components %v, source %q", c.name, got, p.Source)
		}
	}
}

// small is a model of the published ones' kind: text to images of 16x16 pixels.
const small = `{
 "source": "a test", "image": {"size": 16, "channels": 3}, "trains_embedder": true,
 "unet": {"_class_name": "UNet2DConditionModel", "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": [8, 16],
  "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
  "layers_per_block": 1, "attention_head_dim": 2, "cross_attention_dim": 12, "norm_num_groups": 4},
 "vae": {"_class_name": "AutoencoderKL", "block_out_channels": [8, 8], "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
  "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"], "norm_num_groups": 4},
 "text_encoder": {"_class_name": "LDMBertModel", "model_type": "ldmbert", "vocab_size": 50, "max_position_embeddings": 5, "d_model": 12,
  "encoder_layers": 2, "encoder_attention_heads": 2, "head_dim": 4, "encoder_ffn_dim": 24, "activation_function": "gelu"},
 "scheduler": {"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": false}
}`

// TestPublishedStep makes a step of a small model in the way of the full-size
// ones: text encoder trained and frozen, the base in either precision, both
// engines and the choice between them.
func TestPublishedStep(t *testing.T) {
	b := backendtest.Open(t, "go")
	parameters := map[bool]int{}
	for _, c := range []struct {
		name string
		o    StepOptions
	}{
		{"embedder trains", StepOptions{Engine: dpsgd.PerExampleLoop}},
		{"embedder frozen", StepOptions{Engine: dpsgd.BookKeeping, FreezeEmbedder: true}},
		{"bfloat16", StepOptions{Engine: dpsgd.PerExampleLoop, FreezeEmbedder: true, BasePrecision: nn.BFloat16, Workers: 2}},
		{"choice", StepOptions{FreezeEmbedder: true, BasePrecision: nn.BFloat16, Multiplicity: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			model, err := parsePublished("small", []byte(small))
			if err != nil {
				t.Fatal(err)
			}
			o := c.o
			o.Workload, o.Set, o.Batch, o.Rounds, o.PrivateOnly, o.Lowering, o.model = "small", Attention, 2, 1, true, nn.Patches, model
			r, err := Step(context.Background(), b, o)
			if err != nil {
				t.Fatal(err)
			}
			if !(*r.SecondsDP > 0) || r.BasePrecision != o.BasePrecision || r.FreezeEmbedder != o.FreezeEmbedder || r.GFLOPPerStep <= 0 {
				t.Errorf("result is %+v", r)
			}
			if before, ok := parameters[o.FreezeEmbedder]; ok && before != r.TrainableParameters {
				t.Errorf("%d parameters train, want %d", r.TrainableParameters, before)
			}
			parameters[o.FreezeEmbedder] = r.TrainableParameters
		})
	}
	text := 50*12 + 5*12 + 2*(3*12*8+8*12+12+12*24+24+24*12+12+4*12) + 2*12 // Tables, blocks, last norm.
	if d := parameters[false] - parameters[true]; d != text {
		t.Errorf("the text encoder adds %d trainable parameters, want %d", d, text)
	}
	for name, raw := range map[string]string{
		"not JSON":      "{",
		"other latents": strings.Replace(small, `"sample_size": 8`, `"sample_size": 4`, 1),
		"no unet":       strings.Replace(small, `"unet"`, `"net"`, 1),
	} {
		if _, err := parsePublished("small", []byte(raw)); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

// TestPublishedTrainable: what DP-LDM trains, counted from its code: attention
// modules, and of CelebA-HQ's model the two classes.
func TestPublishedTrainable(t *testing.T) {
	if os.Getenv("SCUMBLE_SLOW") == "" {
		t.Skip("allocates models of gigabytes; SCUMBLE_SLOW=1 runs it")
	}
	b := backendtest.Open(t, "go")
	for name, want := range map[string]int{CelebAHQ: 169550400 + 1024, LDMText2Img: 280018880} {
		p, err := OpenPublished(name)
		if err != nil {
			t.Fatal(err)
		}
		w, err := newPublished(b, p, Attention, name == LDMText2Img)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.TrainableParameters(); got != want {
			t.Errorf("%s: %d parameters train, want %d", name, got, want)
		}
	}
}
