package autoencoder

import (
	"encoding/json"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

const vqDir = "testdata/vqmodel/"

func vqFixture(t testing.TB) *Config {
	t.Helper()
	data, err := os.ReadFile(vqDir + "config.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// recordIO reads float tensors, and the codes beside them.
func recordIO(t testing.TB, path string) (floats map[string]array, codes []int64) {
	t.Helper()
	list, _, err := safetensors.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	floats = map[string]array{}
	for _, tensor := range list {
		if tensor.Name == "codes" {
			if codes, err = tensor.Int64s(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		data, err := tensor.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		floats[tensor.Name] = array{tensor.Shape, data}
	}
	return floats, codes
}

// The recorded outputs are diffusers 0.42.1 in float64.
func TestVQMatchesDiffusers(t *testing.T) {
	c := vqFixture(t)
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		specs, err := c.Specs(b)
		if err != nil {
			t.Fatal(err)
		}
		w := weights(t, vqDir+"diffusion_pytorch_model.safetensors", specs)
		io, codes := recordIO(t, vqDir+"io.safetensors")
		lowering := nn.LoweringFor(map[bool]string{true: "go", false: "xla"}[strings.HasSuffix(t.Name(), "/go")])
		out := run(t, b, w, lowering, func(s *nn.Scope, in []*Node) []*Node {
			h, _ := c.Encode(s, in[0])
			code, quantized := c.Quantize(s, in[1])
			return []*Node{h, quantized, c.decode(s, quantized), code}
		}, tensor(io["image"].channelsLast()), tensor(io["encoded"].channelsLast()))
		for i, what := range []string{"encoded", "quantized", "decoded"} {
			d := distance(t, out[i], io[what].channelsLast())
			t.Logf("%s: %.1e", what, d)
			if d > 1e-4 {
				t.Errorf("%s differs by %.2e of its largest entry, want at most 1e-4", what, d)
			}
		}
		got, err := tensors.CopyFlatData[int32](out[3])
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range codes {
			if int64(got[i]) != want {
				t.Fatalf("code %d is %d, want %d", i, got[i], want)
			}
		}
		// From latents that the encoder made: the whole decoder, with rounding and without.
		out = run(t, b, w, lowering, func(s *nn.Scope, in []*Node) []*Node {
			return []*Node{c.Decode(s, in[0])}
		}, tensor(io["encoded"].channelsLast()))
		if d := distance(t, out[0], io["decoded"].channelsLast()); d > 1e-4 {
			t.Errorf("Decode differs by %.2e", d)
		}
		out = run(t, b, w, lowering, func(s *nn.Scope, in []*Node) []*Node {
			return []*Node{c.decode(s, in[0])}
		}, tensor(io["encoded"].channelsLast()))
		if d := distance(t, out[0], io["decoded_not_quantized"].channelsLast()); d > 1e-4 {
			t.Errorf("decode without rounding differs by %.2e", d)
		}
	})
}

func TestVQConfigKeepsEveryKey(t *testing.T) {
	data, err := os.ReadFile(vqDir + "config.json")
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	want["some_later_key"] = "kept"
	if data, err = json.Marshal(want); err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	written, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(written, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("written config is\n%v\nwant\n%v", got, want)
	}
	if c.Depth() != 3 || c.Class() != "VQModel" || c.Codebook.Entries != 32 {
		t.Errorf("config is %+v", c)
	}
}

func TestVQConfigDefaultsAndRefusals(t *testing.T) {
	c, err := ParseConfig([]byte(`{"_class_name": "VQModel"}`))
	if err != nil {
		t.Fatal(err)
	}
	c.extra = nil
	if want := DefaultVQConfig(); !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
	for _, tc := range []struct{ config, want string }{
		{`"norm_type": "spatial"`, "norm_type"},
		{`"lookup_from_codebook": true`, "lookup_from_codebook"},
		{`"act_fn": "relu"`, "act_fn"},
		{`"num_vq_embeddings": 0`, "num_vq_embeddings"},
		{`"vq_embed_dim": -1`, "vq_embed_dim"},
		{`"up_block_types": []`, "up_block_types"},
	} {
		if _, err := ParseConfig([]byte(`{"_class_name": "VQModel", ` + tc.config + `}`)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v, want one with %q", tc.config, err, tc.want)
		}
	}
}

// TestQuantizeIsNearest: over all shapes, the code of a latent is that of the
// least distance by a plain loop, and no gradient passes.
func TestQuantizeIsNearest(t *testing.T) {
	b := backendtest.Open(t, "go")
	rapid.Check(t, func(rt *rapid.T) {
		rows, size := rapid.IntRange(1, 3).Draw(rt, "rows"), rapid.IntRange(1, 4).Draw(rt, "size")
		c := &Config{Codebook: &Codebook{Entries: rapid.IntRange(1, 9).Draw(rt, "entries"), Channels: rapid.IntRange(1, 5).Draw(rt, "channels")}}
		draw := func(n int) []float32 {
			return rapid.SliceOfN(rapid.Float32Range(-3, 3), n, n).Draw(rt, "values")
		}
		table, x := draw(c.Codebook.Entries*c.Codebook.Channels), draw(rows*size*size*c.Codebook.Channels)
		w := nn.NewWeights()
		w.Add(&nn.Tensor{Name: "quantize.embedding.weight", Kind: nn.KindTable, Shape: []int{c.Codebook.Entries, c.Codebook.Channels}, Data: table})
		out := run(t, b, w, nn.Patches, func(s *nn.Scope, in []*Node) []*Node {
			code, q := c.Quantize(s, in[0])
			return []*Node{code, q, Gradient(ReduceAllSum(Add(Mul(q, q), MulScalar(in[0], 0))), in[0])[0]}
		}, tensors.FromFlatDataAndDimensions(x, rows, size, size, c.Codebook.Channels))
		codes, quantized, slope := tensors.MustCopyFlatData[int32](out[0]), tensors.MustCopyFlatData[float32](out[1]), tensors.MustCopyFlatData[float32](out[2])
		n := c.Codebook.Channels
		for i, code := range codes {
			distance := func(e int) (sum float64) {
				for k := range n {
					d := float64(x[i*n+k]) - float64(table[e*n+k])
					sum += d * d
				}
				return sum
			}
			least := math.Inf(1)
			for e := range c.Codebook.Entries {
				least = min(least, distance(e))
			}
			if d := distance(int(code)); d > least+1e-4 { // Squares up to 180 in float32.
				rt.Fatalf("latent %d has code %d at distance² %g, the least is %g", i, code, d, least)
			}
			for k := range n {
				if quantized[i*n+k] != table[int(code)*n+k] || slope[i*n+k] != 0 {
					rt.Fatalf("latent %d is not entry %d, or has a gradient", i, code)
				}
			}
		}
	})
}
