package finetune

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/textencoder"
	"github.com/scumble-dp/scumble/tokenizer"
	"github.com/scumble-dp/scumble/unet"
)

// marker is a word that only private captions have.
const marker = "quetzalcoatl"

// tinyTextBase is a pixel-space model that takes text, with random weights.
func tinyTextBase(t testing.TB, b compute.Backend) *checkpoint.Model {
	t.Helper()
	u, err := unet.ParseConfig([]byte(`{"_class_name": "UNet2DConditionModel", "sample_size": 7, "in_channels": 16, "out_channels": 16,
		"block_out_channels": [8], "layers_per_block": 1, "down_block_types": ["CrossAttnDownBlock2D"], "mid_block_type": null,
		"up_block_types": ["CrossAttnUpBlock2D"], "attention_head_dim": 2, "norm_num_groups": 4, "cross_attention_dim": 8}`))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Build(glyphs.CaptionWords([]string{"0", "1", "2"}), 9)
	if err != nil {
		t.Fatal(err)
	}
	text, err := textencoder.ParseConfig([]byte(fmt.Sprintf(`{"model_type": "clip_text_model", "hidden_size": 8, "num_hidden_layers": 1,
		"num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 9, "vocab_size": %d, "eos_token_id": %d}`, tok.Size(), tok.Size()-1)))
	if err != nil {
		t.Fatal(err)
	}
	m := &checkpoint.Model{UNet: u, TextEncoder: text, Tokenizer: tok, Scheduler: diffusion.DefaultConfig(), Channels: 1, Size: 28, PixelUnshuffle: 4}
	specs, err := m.Specs(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range specs {
		if specs[i].Init == nn.InitZeros {
			specs[i].Init = nn.InitNormal
		}
	}
	m.Weights = nn.InitWeights(specs, rand.New(rand.NewPCG(5, 5)))
	for _, w := range m.Weights.All() {
		if w.Kind == nn.KindVector || w.Kind == nn.KindKernel {
			for i := range w.Data {
				w.Data[i] *= 0.3
			}
		}
	}
	return m
}

// captionedData writes n images with captions, each with the marker.
func captionedData(t testing.TB, n int) string {
	t.Helper()
	g, err := glyphs.NewRenderer(glyphs.Options{Seed: 3, Classes: []string{"0", "1", "2"}})
	if err != nil {
		t.Fatal(err)
	}
	set := &dataset.Set{Height: 28, Width: 28, Channels: 1, Pixels: make([]byte, n*g.ImageSize())}
	for i := range n {
		_, caption := g.DrawCaptioned(i, set.Image(i))
		set.Captions = append(set.Captions, caption+" "+marker)
	}
	dir := filepath.Join(t.TempDir(), "captioned")
	if err := dataset.WriteCaptions(dir, set); err != nil {
		t.Fatal(err)
	}
	return dir
}

func textConfig(method Method, data string) *Config {
	c := tinyConfig(method, data)
	c.Data.Classes = nil
	c.Training.LabelDrop = 0.3
	return c
}

// A run on captions moves what it trains and nothing else, whether the text
// encoder is frozen or not, and no caption is in what may leave.
func TestTextRun(t *testing.T) {
	b := backendtest.Open(t, "go")
	data := captionedData(t, 40)
	for _, frozen := range []bool{true, false} {
		t.Run(fmt.Sprintf("frozen %t", frozen), func(t *testing.T) {
			c := textConfig(Attention, data)
			c.Attention.FreezeEmbedder = frozen
			base := tinyTextBase(t, b)
			before := base.Weights.Clone()
			dir := filepath.Join(t.TempDir(), "run")
			r, err := Run(context.Background(), b, c, base, options(dir))
			if err != nil {
				t.Fatal(err)
			}
			if !r.Plan.Text || len(r.Plan.Classes) != 0 {
				t.Errorf("plan has text %t and classes %q", r.Plan.Text, r.Plan.Classes)
			}
			released, err := checkpoint.Load(filepath.Join(dir, ReleaseDir, "model"))
			if err != nil {
				t.Fatal(err)
			}
			trained := 0
			for _, w := range released.Weights.All() {
				moved := !slices.Equal(before.Get(w.Name).Data, w.Data)
				want := strings.Contains(w.Name, ".attentions.") || !frozen && strings.HasPrefix(w.Name, "text_encoder.")
				if want {
					trained += len(w.Data)
				}
				if moved != want {
					t.Errorf("%s: moved is %t, want %t", w.Name, moved, want)
				}
			}
			if trained != r.Plan.TrainableParameters {
				t.Errorf("%d parameters trained, the plan says %d", trained, r.Plan.TrainableParameters)
			}
			if !slices.Equal(released.Tokens([]string{"a one"}), base.Tokens([]string{"a one"})) {
				t.Error("the released tokenizer is another")
			}
			checkNoMarker(t, dir)
		})
	}
}

// checkNoMarker looks for the private captions in all files outside private/.
func checkNoMarker(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if e != nil && e.Name() == PrivateDir {
				return fs.SkipDir
			}
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(content, []byte(marker)) || bytes.Contains(content, []byte("tilted left "+marker[:3])) {
			t.Errorf("%s holds a private caption", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTextEngines: with token and position tables trained, book-keeping gives the
// model that one example at a time does.
func TestTextEngines(t *testing.T) {
	b := backendtest.Open(t, "go")
	data := captionedData(t, 40)
	run := func(engine dpsgd.Method) *nn.Weights {
		c := textConfig(Full, data)
		c.Training.Steps = 2
		o := options(filepath.Join(t.TempDir(), "run"))
		o.Engine, o.InsecureSeed = engine, 9
		r, err := Run(context.Background(), b, c, tinyTextBase(t, b), o)
		if err != nil {
			t.Fatal(err)
		}
		return r.Model.Weights
	}
	got, want := run(dpsgd.BookKeeping), run(dpsgd.PerExampleLoop)
	for _, w := range want.All() {
		var far, size float64
		for i, v := range got.Get(w.Name).Data {
			far, size = max(far, math.Abs(float64(v-w.Data[i]))), max(size, math.Abs(float64(w.Data[i])))
		}
		// Adam divides by the gradient's size, so a rounding of 1e-6 may grow; a wrong
		// rule moves entries by the learning rate, 1e-2.
		if far > 2e-4*max(1, size) {
			t.Errorf("%s differs by %.2g of %.2g between the engines", w.Name, far, size)
		}
	}
}

func TestTextConfigRefuses(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, tc := range []struct {
		change func(c *Config)
		text   bool
		want   string
	}{
		{func(c *Config) { c.Data.Classes = []string{"a", "b"} }, true, "data.classes"},
		{func(c *Config) { c.Sampling.Count = 3 }, true, "sampling.prompts"},
		{func(c *Config) { c.Sampling.Prompts = []string{"a one"} }, false, "sampling.prompts"},
		{func(c *Config) { c.Sampling.NegativePrompt = "a one" }, false, "sampling.negative_prompt"},
	} {
		c, base := tinyConfig(Attention, "nowhere"), tinyBase(t, b)
		if tc.text {
			c, base = textConfig(Attention, "nowhere"), tinyTextBase(t, b)
		}
		tc.change(c)
		if _, _, err := NewPlan(b, c, base); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error is %v, want one of the config with %q", err, tc.want)
		}
	}
	// Images without captions, and a caption in no error.
	c := textConfig(Attention, tinyData(t, 40))
	if _, err := Run(context.Background(), b, c, tinyTextBase(t, b), options(filepath.Join(t.TempDir(), "run"))); err == nil || !strings.Contains(err.Error(), "no captions") {
		t.Errorf("error is %v, want one about captions", err)
	}
	bad := captionedData(t, 3)
	list := filepath.Join(bad, "metadata.jsonl")
	data, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, bytes.Replace(data, []byte(`"text":`), []byte(`"text":7,"x":`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	c = textConfig(Attention, bad)
	if _, err := Run(context.Background(), b, c, tinyTextBase(t, b), options(filepath.Join(t.TempDir(), "run"))); err == nil || strings.Contains(err.Error(), marker) {
		t.Errorf("error is %v, want one without a caption", err)
	}
}
