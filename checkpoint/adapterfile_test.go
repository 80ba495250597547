package checkpoint

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
	"github.com/scumble-dp/scumble/unet"
)

// adapted returns a tiny UNet with random LoRA branches.
func adapted(t testing.TB, c *adapter.Config, seed uint64) (*Model, []nn.Spec) {
	t.Helper()
	config, err := unet.ParseConfig([]byte(`{"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1,
		"block_out_channels": [8, 8], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "norm_num_groups": 4}`))
	if err != nil {
		t.Fatal(err)
	}
	b := backendtest.Open(t, "go")
	branches, err := c.Adapter("")
	if err != nil {
		t.Fatal(err)
	}
	specs, err := config.SpecsWith(b, branches)
	if err != nil {
		t.Fatal(err)
	}
	m := &Model{UNet: config, Adapter: c, Weights: nn.NewWeights()}
	rng := rand.New(rand.NewPCG(seed, 0))
	var plain []nn.Spec
	for _, s := range specs {
		if !adapter.IsAdapter(s.Name) {
			plain = append(plain, s)
		}
		s.Init = nn.InitNormal
		s.Name = "unet." + s.Name
		m.Weights.Add(nn.NewTensor(s, rng))
	}
	return m, plain
}

// What WriteAdapter writes, ReadAdapter reads: the same branches and scales, in
// every format, whatever ranks and alphas.
func TestAdapterRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &adapter.Config{Rank: rapid.IntRange(1, 4).Draw(rt, "rank"), Alpha: rapid.SampledFrom([]float64{0, 1, 2.5, 8}).Draw(rt, "alpha"),
			Targets: rapid.SampledFrom([][]string{{"to_q", "to_out.0"}, {"conv1", "to_k"}, {"conv_shortcut", "conv2", "time_emb_proj"}}).Draw(rt, "targets")}
		if rapid.Bool().Draw(rt, "patterns") {
			c.RankPattern = map[string]int{`mid_block\..*`: 3}
			c.AlphaPattern = map[string]float64{"to_q": 5, `down_blocks\.1\.resnets\.0\.conv1`: 0.5}
		}
		c.RankStabilized = rapid.Bool().Draw(rt, "stabilized")
		if rapid.Bool().Draw(rt, "loda") {
			c = &adapter.Config{Rank: c.Rank, Alpha: c.Alpha, Core: adapter.LinearCore, Kernel: 3, Layers: []string{"mid_block", "up_blocks.0"}}
		}
		m, specs := adapted(t, c, rapid.Uint64().Draw(rt, "seed"))
		dir := t.TempDir()
		format := rapid.SampledFrom([]AdapterFormat{PEFT, DiffusersLoRA, Kohya}).Draw(rt, "format")
		if err := WriteAdapter(dir, m, format, map[string]string{"dp.epsilon": "10"}); err != nil {
			rt.Fatal(err)
		}
		got, tensors, err := ReadAdapter(AdapterPath(dir, format), specs, "unet")
		if err != nil {
			rt.Fatal(err)
		}
		layers := adapter.Branches(m.Weights)
		if len(tensors) != 2*len(layers) {
			rt.Fatalf("%d tensors, want %d", len(tensors), 2*len(layers))
		}
		for _, x := range tensors {
			want := m.Weights.Get(x.Name)
			if want == nil {
				rt.Fatalf("tensor %q was not written", x.Name)
			}
			for i, v := range want.Data {
				if x.Data[i] != v {
					rt.Fatalf("tensor %q comes back changed", x.Name)
				}
			}
		}
		for _, layer := range layers {
			name := strings.TrimPrefix(layer, "unet.")
			a, r, _ := c.Scale(name)
			b, s, err := got.Scale(name)
			if err != nil || r != s || math.Abs(a-b) > 1e-6*a {
				rt.Fatalf("layer %q has scale %g and rank %d, want %g and %d (%v)", name, b, s, a, r, err)
			}
		}
		branches, err := got.Adapter("")
		if err != nil {
			rt.Fatal(err)
		}
		again, err := m.UNet.SpecsWith(backendtest.Open(t, "go"), branches)
		if err != nil {
			rt.Fatal(err)
		}
		if n := len(adapter.Adapters(again)); n != len(tensors) {
			rt.Fatalf("the config read gives %d branch tensors, want %d", n, len(tensors))
		}
	})
}

// Names that other programs and older versions write.
func TestAdapterNames(t *testing.T) {
	flat := map[string]string{"mid_block_attentions_0_to_q": "mid_block.attentions.0.to_q"}
	for name, want := range map[string]string{
		"base_model.model.mid_block.attentions.0.to_q.lora_A.weight":                             "mid_block.attentions.0.to_q down",
		"base_model.model.unet.mid_block.attentions.0.to_q.lora_B.default.weight":                "mid_block.attentions.0.to_q up",
		"unet.mid_block.attentions.0.to_out.0.lora.up.weight":                                    "mid_block.attentions.0.to_out.0 up",
		"unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight": "mid_block.attentions.0.transformer_blocks.0.attn1.to_q down",
		"mid_block.attentions.0.attn2.processor.to_out_lora.up.weight":                           "mid_block.attentions.0.attn2.to_out.0 up",
		"lora_unet_mid_block_attentions_0_to_q.lora_down.weight":                                 "mid_block.attentions.0.to_q down",
		"lora_unet_mid_block_attentions_0_to_q.alpha":                                            "mid_block.attentions.0.to_q alpha",
	} {
		layer, part, err := parseBranch(name, flat)
		if err != nil || layer+" "+part != want {
			t.Errorf("%s is %s %s (%v), want %s", name, layer, part, err, want)
		}
	}
	for _, name := range []string{"lora_unet_x.hada_w1_a", "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", "text_encoder.a.lora_A.weight",
		"lora_unet_nowhere.lora_up.weight", "mid_block.weight"} {
		if _, _, err := parseBranch(name, flat); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error is %v, want one that names it", name, err)
		}
	}
}

// Tucker's form is the composition of its three convolutions.
func TestTucker(t *testing.T) {
	b := &filed{down: &array{[]int{2, 3, 1, 1}, []float32{1, 2, 3, 4, 5, 6}}, mid: &array{[]int{2, 2, 1, 2}, []float32{1, 0, 2, 1, 0, 1, 3, 2}}, up: &array{[]int{4, 2, 1, 1}, make([]float32, 8)}}
	if err := b.join(); err != nil {
		t.Fatal(err)
	}
	// Output 0, input 0: mid[0,0]·down[0,0] + mid[0,1]·down[1,0] at each of two places.
	if got := b.down.data[:2]; got[0] != 1*1+2*4 || got[1] != 0*1+1*4 {
		t.Errorf("joined kernel begins %v, want [9 4]", got)
	}
}

// A conv LoRA merged is the sum of both convolutions: against the model with its
// branches, in package parity; here, that merging removes them and only them.
func TestMerged(t *testing.T) {
	m, _ := adapted(t, &adapter.Config{Rank: 2, Alpha: 3, Targets: []string{"conv1"}}, 1)
	merged, err := Merged(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range m.Weights.All() {
		y := merged.Weights.Get(x.Name)
		if adapter.IsAdapter(x.Name) != (y == nil) {
			t.Errorf("%s: kept is %v", x.Name, y != nil)
		}
		if y != nil && (&x.Data[0] != &y.Data[0]) != strings.HasSuffix(x.Name, ".conv1.weight") {
			t.Errorf("%s: changed, or not", x.Name)
		}
	}
	m.Adapter = &adapter.Config{Rank: 2, Core: adapter.NonLinearCore, Kernel: 3}
	if _, err := Merged(m); err == nil || !strings.Contains(err.Error(), "non-linear") {
		t.Errorf("error is %v, want one about the non-linear core", err)
	}
	if err := WriteAdapter(t.TempDir(), m, PEFT, nil); err == nil {
		t.Error("PEFT takes a non-linear core")
	}
}

func TestReadAdapterRefuses(t *testing.T) {
	m, specs := adapted(t, &adapter.Config{Rank: 2, Targets: []string{"to_q"}}, 1)
	write := func(change func(list []safetensors.Tensor) []safetensors.Tensor) string {
		list, err := kohyaTensors(m, []string{"mid_block.attentions.0.to_q"})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "x.safetensors")
		if err := safetensors.Write(path, change(list), nil); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		change func(list []safetensors.Tensor) []safetensors.Tensor
		want   string
	}{
		"half of a branch": {func(l []safetensors.Tensor) []safetensors.Tensor { return l[:1] }, "lacks a projection"},
		"no tensors":       {func(l []safetensors.Tensor) []safetensors.Tensor { return nil }, "no tensors"},
		"not finite": {func(l []safetensors.Tensor) []safetensors.Tensor {
			n := len(l[0].Data) / 4
			l[0] = safetensors.FromFloat32s(l[0].Name, l[0].Shape, append([]float32{float32(math.NaN())}, make([]float32, n-1)...))
			return l
		}, "finite"},
		"alpha of zero": {func(l []safetensors.Tensor) []safetensors.Tensor {
			l[2] = safetensors.FromFloat32s(l[2].Name, nil, []float32{0})
			return l
		}, "one positive"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := ReadAdapter(write(c.change), specs, "unet")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
		})
	}
	if _, _, err := ReadAdapter(filepath.Join(t.TempDir(), "none"), specs, "unet"); err == nil || !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("no file: %v", err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok || os.IsNotExist(err) {
			return err
		}
		err = u.Unwrap()
	}
}
