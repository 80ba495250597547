package autoencoder

import (
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

func fixture(t testing.TB) *Config {
	t.Helper()
	data, err := os.ReadFile("testdata/config.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// run builds f over w and returns its outputs.
func run(t testing.TB, b compute.Backend, w *nn.Weights, lowering nn.Lowering,
	f func(s *nn.Scope, in []*Node) []*Node, inputs ...*tensors.Tensor) []*tensors.Tensor {
	t.Helper()
	args := make([]any, len(inputs))
	for i, in := range inputs {
		args[i] = in
	}
	out, err := ExecOnceN(b, func(in []*Node) []*Node {
		g := in[0].Graph()
		s := nn.NewScope(g, nn.Options{Lowering: lowering, Param: func(g *Graph, spec nn.Spec) *Node {
			p := w.Get(spec.Name)
			return Const(g, tensors.FromFlatDataAndDimensions(p.Data, p.Shape...))
		}})
		return f(s, in)
	}, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tensor(a array) *tensors.Tensor {
	return tensors.FromFlatDataAndDimensions(a.data, a.shape...)
}

// distance returns the largest difference over the largest wanted entry.
func distance(t testing.TB, got *tensors.Tensor, want array) float64 {
	t.Helper()
	data, err := tensors.CopyFlatData[float32](got)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != len(want.data) {
		t.Fatalf("%d values, want %d", len(data), len(want.data))
	}
	var worst, scale float64
	for i, w := range want.data {
		worst = max(worst, math.Abs(float64(data[i])-float64(w)))
		scale = max(scale, math.Abs(float64(w)))
	}
	if math.IsNaN(worst) {
		return math.Inf(1)
	}
	return worst / scale
}

// The recorded outputs are diffusers 0.42.1 in float64 (testdata/README.md).
func TestMatchesDiffusers(t *testing.T) {
	c := fixture(t)
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		specs, err := c.Specs(b)
		if err != nil {
			t.Fatal(err)
		}
		w := weights(t, "testdata/diffusion_pytorch_model.safetensors", specs)
		io := record(t, "testdata/io.safetensors")
		lowerings := map[string]nn.Lowering{"as for xla": nn.LoweringFor("xla")}
		if strings.HasSuffix(t.Name(), "/go") { // XLA takes seconds to compile each.
			lowerings["patches"] = nn.Patches
		}
		for name, lowering := range lowerings {
			out := run(t, b, w, lowering, func(s *nn.Scope, in []*Node) []*Node {
				image, noise, latent := in[0], in[1], in[2]
				mean, logvar := c.Encode(s, image)
				z := Sample(mean, logvar, noise)
				return []*Node{mean, logvar, z, Divergence(mean, logvar), c.Decode(s, latent)}
			}, tensor(io["image"].channelsLast()), tensor(io["noise"].channelsLast()), tensor(io["latent"].channelsLast()))
			want := []array{io["mean"].channelsLast(), io["logvar"].channelsLast(), io["latent"].channelsLast(),
				io["kl"], io["decoded"].channelsLast()}
			for i, what := range []string{"mean", "logvar", "latent", "kl", "decoded"} {
				d := distance(t, out[i], want[i])
				t.Logf("%s %s: %.1e", name, what, d)
				if d > 1e-4 {
					t.Errorf("%s: %s differs by %.2e of its largest entry, want at most 1e-4", name, what, d)
				}
			}
		}
	})
}

func TestRowsDoNotMix(t *testing.T) {
	c := fixture(t)
	b := backendtest.Open(t, "go")
	specs, err := c.Specs(b)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	w := nn.InitWeights(specs, rng)
	images := array{shape: []int{2, 8, 8, 3}, data: make([]float32, 2*8*8*3)}
	encode := func() []float32 {
		out := run(t, b, w, nn.Patches, func(s *nn.Scope, in []*Node) []*Node {
			mean, _ := c.Encode(s, in[0])
			return []*Node{Concatenate([]*Node{Reshape(mean, 2, -1), Reshape(c.Decode(s, mean), 2, -1)}, -1)}
		}, tensor(images))
		data, err := tensors.CopyFlatData[float32](out[0])
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for i := range images.data {
		images.data[i] = float32(rng.NormFloat64())
	}
	before := encode()
	for i := 8 * 8 * 3; i < len(images.data); i++ {
		images.data[i] = float32(rng.NormFloat64())
	}
	after := encode()
	half := len(before) / 2
	for i := range half {
		if before[i] != after[i] {
			t.Fatalf("value %d of row 0 changed with row 1", i)
		}
	}
	if before[half] == after[half] {
		t.Fatal("row 1 did not change with its own image")
	}
}

func TestNormalizeInverts(t *testing.T) {
	c := DefaultConfig()
	c.LatentShift = 0.3
	out := run(t, backendtest.Open(t, "go"), nil, nn.Patches, func(_ *nn.Scope, in []*Node) []*Node {
		n := c.Normalize(in[0])
		return []*Node{n, c.Denormalize(n)}
	}, tensors.FromFlatDataAndDimensions([]float32{1.3}, 1))
	for i, want := range []float32{0.18215, 1.3} {
		if d := distance(t, out[i], array{data: []float32{want}}); d > 1e-6 {
			t.Errorf("output %d is off by %g", i, d)
		}
	}
}

func TestSpecsOfManyShapes(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := DefaultConfig()
	c.BlockOutChannels, c.LayersPerBlock, c.LatentChannels, c.MidAttention, c.QuantConv, c.PostQuantConv =
		[]int{32, 64, 64}, 2, 3, false, false, false
	specs, err := c.Specs(b)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range specs {
		names[s.Name] = true
	}
	for name, want := range map[string]bool{
		"encoder.down_blocks.1.downsamplers.0.conv.bias":       true,
		"encoder.down_blocks.1.resnets.0.conv_shortcut.weight": true,
		"decoder.up_blocks.2.resnets.0.conv_shortcut.weight":   true,
		"decoder.up_blocks.2.resnets.2.norm1.weight":           true,
		"decoder.up_blocks.2.resnets.2.conv_shortcut.weight":   false, // Channels do not change there.
		"encoder.down_blocks.2.downsamplers.0.conv.bias":       false, // Lowest level.
		"quant_conv.weight":                        false, // Switched off, as the next two.
		"post_quant_conv.weight":                   false,
		"encoder.mid_block.attentions.0.to_q.bias": false,
	} {
		if names[name] != want {
			t.Errorf("parameter %q: there %v, want %v", name, names[name], want)
		}
	}
	if c.Factor() != 4 {
		t.Errorf("factor is %d, want 4", c.Factor())
	}
}
