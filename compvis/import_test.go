package compvis

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/internal/parsebound"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
	"github.com/scumble-dp/scumble/safetensors"
	"github.com/scumble-dp/scumble/torchfile"
)

func imported(t *testing.T, name string, o Options) (*checkpoint.Model, error) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	f, err := torchfile.Open(filepath.Join("testdata", name+".ckpt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return Import(backendtest.Open(t, "go"), f, c, o)
}

// images reads a recorded tensor, channels last where it has four axes.
func images(t *testing.T, path, name string) *tensors.Tensor {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x, err := f.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := x.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Shape) != 4 {
		return tensors.FromFlatDataAndDimensions(v, x.Shape...)
	}
	n, c, h, w := x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	out := make([]float32, len(v))
	for i := range n {
		for k := range c {
			for p := range h * w {
				out[(i*h*w+p)*c+k] = v[(i*c+k)*h*w+p]
			}
		}
	}
	return tensors.FromFlatDataAndDimensions(out, n, h, w, c)
}

// TestImport: a checkpoint gives what diffusers gives for the same model.
func TestImport(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, name := range []string{"classes", "plain"} {
		t.Run(name, func(t *testing.T) {
			m, err := imported(t, name, Options{})
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "model") // It saves and loads, too.
			if err := checkpoint.Save(dir, m); err != nil {
				t.Fatal(err)
			}
			if m, err = checkpoint.Load(dir); err != nil {
				t.Fatal(err)
			}
			io := filepath.Join("testdata", name+".io.safetensors")
			inputs := []*tensors.Tensor{images(t, io, "sample"), images(t, io, "timestep")}
			if m.ClassEmbedder != nil {
				inputs = append(inputs, images(t, io, "labels"))
			} else {
				inputs = append(inputs, tensors.FromFlatDataAndDimensions([]float32{0, 0}, 2))
			}
			p, err := nn.NewProgram(b, nn.ProgramOptions{NN: nn.Options{Lowering: nn.LoweringFor("go")}, Weights: m.Weights,
				Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
					class := graph.ConvertDType(in[2], graph.Const(s.Graph(), int32(0)).DType())
					var y *graph.Node
					if m.ClassEmbedder != nil {
						y = pipeline.Denoise(m, s, in[0], in[1], class)
					} else {
						y = m.UNet.Forward(s.In("unet"), pipeline.UNetInputs(m.UNet, in[:2]))
					}
					return []*graph.Node{y, m.Autoencoder.Decode(s.In("vae"), in[0])}
				}})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			out, err := p.Run(nil, inputs...)
			if err != nil {
				t.Fatal(err)
			}
			for i, what := range []string{"output", "decoded"} {
				got, want := tensors.MustCopyFlatData[float32](out[i]), tensors.MustCopyFlatData[float32](images(t, io, what))
				var off, scale float64
				for j, v := range want {
					off = max(off, float64(max(got[j]-v, v-got[j])))
					scale = max(scale, float64(max(v, -v)))
				}
				if !(off <= 1e-4*scale) {
					t.Errorf("%s is off by %.1e of the largest entry, want at most 1e-4", what, off/scale)
				}
			}
			if name == "plain" && (m.Autoencoder.LatentScalingFactor != 0.25 || m.Size != 16 || m.Channels != 3) {
				t.Errorf("scaling factor is %g, size %d, channels %d", m.Autoencoder.LatentScalingFactor, m.Size, m.Channels)
			}
		})
	}
}

func TestImportAveraged(t *testing.T) {
	plain, err := imported(t, "plain", Options{})
	if err != nil {
		t.Fatal(err)
	}
	averaged, err := imported(t, "plain", Options{EMA: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range plain.Weights.All() { // The script doubled them.
		factor := float32(1)
		if strings.HasPrefix(x.Name, "unet.") {
			factor = 2
		}
		if y := averaged.Weights.Get(x.Name); y.Data[0] != factor*x.Data[0] {
			t.Errorf("%s begins with %g, want %g", x.Name, y.Data[0], factor*x.Data[0])
		}
	}
	if _, err := imported(t, "classes", Options{EMA: true}); err == nil || !strings.Contains(err.Error(), "averaged") {
		t.Errorf("no averaged weights: error is %v", err)
	}
}

// fake is a checkpoint with names only.
type fake struct{ Weights }

func (f fake) Names() []string {
	return append(f.Weights.Names(), "first_stage_model.encoder.extra.weight")
}

func TestImportRefuses(t *testing.T) {
	f, err := torchfile.Open(filepath.Join("testdata", "classes.ckpt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := os.ReadFile(filepath.Join("testdata", "classes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"a wider network":    {`"model_channels": 32`, `"model_channels": 64`, "shape is"},
		"more blocks":        {`"num_res_blocks": 1`, `"num_res_blocks": 2`, "which the config wants"},
		"fewer levels":       {`"ch_mult": [`, `"ch_mult": [1], "x": [`, "no place"},
		"another stage":      {"VQModelInterface", "VQGANXL", "first_stage_config.target"},
		"another embedder":   {"ClassEmbedder", "FrozenT5Embedder", "FrozenT5Embedder"},
		"text, no tokenizer": {"ClassEmbedder", "FrozenCLIPEmbedder", "--tokenizer"},
		"concatenation":      {`"crossattn"`, `"concat"`, "conditioning_key"},
		"attention":          {`"attn_resolutions": [`, `"attn_resolutions": [16], "y": [`, "attn_resolutions"},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := ParseConfig([]byte(strings.Replace(string(text), c.old, c.new, 1)))
			if err == nil {
				_, err = Import(backendtest.Open(t, "go"), f, config, Options{})
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
	config, err := ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Import(backendtest.Open(t, "go"), fake{f}, config, Options{}); err == nil || !strings.Contains(err.Error(), "encoder.extra") {
		t.Errorf("a tensor without place: error is %v", err)
	}
}

func TestLayersOfTextEncoders(t *testing.T) {
	no := false
	for _, c := range []struct {
		kind, layer string
		words       *bool
		want        string
	}{
		{clipEmbedder, "hidden", nil, `layer "hidden"`}, {clipEmbedder, "penultimate", nil, `layer "penultimate"`}, {openEmbedder, "pooled", nil, `layer "pooled"`},
		{bertEmbedder, "", &no, "use_tokenizer"}, {clipEmbedder, "last", nil, "--tokenizer"}, {openEmbedder, "penultimate", nil, "--tokenizer"},
	} {
		var stage condStage
		stage.Params.Layer, stage.Params.UseWords = c.layer, c.words
		if err := (&importer{}).text(c.kind, &stage); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, layer %q: error is %v, want one with %q", c.kind, c.layer, err, c.want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, name := range []string{"classes", "plain"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c *Config
		var err error
		parsebound.Check(t, len(data), func() { c, err = ParseConfig(data) })
		if err != nil {
			return
		}
		_, _ = c.unetConfig()
		_, _ = c.autoencoderConfig(1)
		_, _ = c.schedulerConfig(true)
		_, _, _ = c.conditioning()
	})
}
