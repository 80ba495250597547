package pretrain

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

const tinyLatent = `
name: tiny
seed: 4
images: {size: 28, channels: 1}
autoencoder:
  steps: 60
  batch_size: 8
  learning_rate: 5.0e-3
  kl_weight: 1.0e-3
  latents: 64
  model: {in_channels: 1, out_channels: 1, block_out_channels: [4, 8, 8], down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D, DownEncoderBlock2D], up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D, UpDecoderBlock2D], layers_per_block: 1, latent_channels: 2, norm_num_groups: 4, mid_block_add_attention: false}
class_embedder: 8
unet: {_class_name: UNet2DConditionModel, in_channels: 2, out_channels: 2, block_out_channels: [8], layers_per_block: 1, down_block_types: [CrossAttnDownBlock2D], up_block_types: [CrossAttnUpBlock2D], cross_attention_dim: 8, attention_head_dim: 2, norm_num_groups: 4}
scheduler: {_class_name: DDIMScheduler, prediction_type: v_prediction, clip_sample: false}
denoiser: [{steps: 30, batch_size: 8, learning_rate: 5.0e-3, label_drop: 0.1}]
`

// Training lowers both losses, sets the latents' scale from public images, and
// gives a model that is whole: it saves and loads.
func TestRunTrainsALatentModel(t *testing.T) {
	b := backendtest.Open(t, "go")
	c, err := ParseConfig([]byte(tinyLatent))
	if err != nil {
		t.Fatal(err)
	}
	losses := map[string][]float64{}
	o := Options{Lowering: nn.Patches, Workers: 2, Report: func(p Progress) { losses[p.Stage] = append(losses[p.Stage], p.Loss) }}
	m, err := Run(context.Background(), b, c, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, stage := range []string{"autoencoder", "denoiser, step 1"} {
		l := losses[stage]
		if len(l) == 0 || !(l[len(l)-1] < 0.8*l[0]) {
			t.Errorf("%s: loss went from %v, want it to fall by a fifth", stage, l)
		}
	}
	if s := m.Autoencoder.LatentScalingFactor; !(s > 0) || s == 0.18215 {
		t.Errorf("latent scaling factor is %g, want one measured on public images", s)
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := checkpoint.Save(dir, m); err != nil {
		t.Fatal(err)
	}
	loaded, err := checkpoint.Load(dir)
	if err != nil {
		t.Fatal(err)
	}

	// Another run that borrows the autoencoder keeps it as it is.
	c.Denoiser[0].Steps = 1
	o.Base = loaded
	again, err := Run(context.Background(), b, c, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range again.Weights.All() {
		same := slices.Equal(w.Data, loaded.Weights.Get(w.Name).Data)
		if strings.HasPrefix(w.Name, "vae.") && !same {
			t.Errorf("%s changed though the autoencoder was borrowed", w.Name)
		}
	}
}

func TestConfigRefusals(t *testing.T) {
	for name, k := range map[string]struct{ old, new, want string }{
		"unknown key": {"kl_weight", "kl_wait", "kl_wait"},
		"both kinds":  {"class_embedder: 8", "class_embedder: 8\npixel_unshuffle: 4", "exactly one"},
		"no steps":    {"steps: 60", "steps: 0", "steps is 0"},
		"drop":        {"label_drop: 0.1", "label_drop: 2", "label_drop is 2"},
		"renderer":    {"channels: 1}", "channels: 1, renderer: shape}", "want glyphs or shapes"},
		"not glyphs'": {"channels: 1}", "channels: 1, garment_share: 0.5}", "go with renderer: shapes"},
		"not shapes'": {"channels: 1}", "channels: 1, renderer: shapes, pen_share: 0.5}", "go with renderer: glyphs"},
		"no denoiser": {"denoiser: [{steps: 30, batch_size: 8, learning_rate: 5.0e-3, label_drop: 0.1}]", "", "no steps"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseConfig([]byte(strings.Replace(tinyLatent, k.old, k.new, 1)))
			if err == nil || !strings.Contains(err.Error(), k.want) {
				t.Errorf("error is %v, want one with %q", err, k.want)
			}
		})
	}
}

// Shapes train as glyphs do, with their own classes, and the model says so; a
// model of texts needs captions, which they lack.
func TestShapesAreImagesToo(t *testing.T) {
	text := strings.Replace(tinyLatent, "channels: 1}", "channels: 1, renderer: shapes, garment_share: 0.5, classes: [bag, star]}", 1)
	c, err := ParseConfig([]byte(strings.NewReplacer("steps: 60", "steps: 2", "steps: 30", "steps: 2").Replace(text)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Run(context.Background(), backendtest.Open(t, "go"), c, Options{Lowering: nn.Patches})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.Classes, []string{"bag", "star"}) || !strings.Contains(m.Info["public_data"], "data shapes") {
		t.Errorf("classes are %v and public data %q, want those of the shapes", m.Classes, m.Info["public_data"])
	}
	c.ClassEmbedder, c.TextEncoder = 0, map[string]any{"hidden_size": 8}
	if err := c.validate(); err == nil || !strings.Contains(err.Error(), "no captions") {
		t.Errorf("error is %v, want one about captions", err)
	}
}

// The recipes of the repository parse, and describe models that fit together.
func TestRecipesAreWhole(t *testing.T) {
	b := backendtest.Open(t, "go")
	files, err := filepath.Glob("../recipes/glyphs-*.yaml")
	more, _ := filepath.Glob("../recipes/shapes-*.yaml")
	files = append(files, more...)
	if err != nil || len(files) == 0 {
		t.Fatalf("recipes: %v, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseConfig(data)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		im, err := newImages(c)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		m, err := c.model(im)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if _, err := m.Specs(b); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if _, err := pipeline.NewCanvas(m, im.size, im.channels); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
