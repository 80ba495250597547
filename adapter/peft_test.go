package adapter

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/internal/parsebound"
	"github.com/scumble-dp/scumble/nn"
)

// recordedPEFT is what peft 0.21.2 wrote.
func recordedPEFT(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "parity", "testdata", "small", "lora_conv_unet2d", "adapter_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPEFTConfig(t *testing.T) {
	c, err := ParsePEFT(recordedPEFT(t))
	if err != nil {
		t.Fatal(err)
	}
	if c.Rank != 2 || c.Alpha != 3 || !slices.Equal(c.Targets, []string{"conv1", "conv2"}) || !c.IsLoRA() || !c.IsLinear() {
		t.Errorf("config is %+v", c)
	}
	written, err := c.PEFT(nil)
	if err != nil {
		t.Fatal(err)
	}
	var was, is map[string]any
	if err := json.Unmarshal(recordedPEFT(t), &was); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(written, &is); err != nil {
		t.Fatal(err)
	}
	for key, v := range was {
		a, _ := json.Marshal(v)
		b, _ := json.Marshal(is[key])
		if string(a) != string(b) {
			t.Errorf("%s is written as %s, was %s", key, b, a)
		}
	}
}

func TestPEFTRefuses(t *testing.T) {
	for key, value := range map[string]string{"peft_type": `"LOHA"`, "bias": `"all"`, "use_dora": "true", "modules_to_save": `["conv_in"]`,
		"layers_to_transform": "[1]", "target_modules": "null", "r": "0", "lora_alpha": "-1", "rank_pattern": `{"a(": 2}`, "fan_in_fan_out": "true"} {
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(recordedPEFT(t), &keys); err != nil {
			t.Fatal(err)
		}
		keys[key] = json.RawMessage(value)
		data, _ := json.Marshal(keys)
		want := map[string]string{"r": "rank is 0"}[key]
		if want == "" {
			want = key
		}
		if _, err := ParsePEFT(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s = %s: error is %v, want one that names it", key, value, err)
		}
	}
}

func TestLoRATargets(t *testing.T) {
	conv := func(path string) nn.Target { return nn.Target{Path: path, Conv: &nn.Conv{Kernel: 3}} }
	dense := func(path string) nn.Target { return nn.Target{Path: path} }
	for _, c := range []struct {
		config Config
		layer  nn.Target
		want   bool
	}{
		{Config{Targets: []string{"to_q"}}, dense("unet.a.to_q"), true},
		{Config{Targets: []string{"to_q"}}, dense("unet.a.into_q"), false},
		{Config{Targets: []string{"a.to_q"}}, dense("unet.a.to_q"), true},
		{Config{Targets: []string{"conv1"}}, conv("unet.a.conv1"), true},
		{Config{Targets: []string{"to_q"}, Exclude: []string{"a.to_q"}}, dense("unet.a.to_q"), false},
		{Config{Targets: []string{"to_q"}}, dense("vae.a.to_q"), false},
		{Config{TargetPattern: `.*\.attn\d\.to_(q|v)`}, dense("unet.x.attn2.to_v"), true},
		{Config{TargetPattern: `attn\d\.to_(q|v)`}, dense("unet.x.attn2.to_v"), false}, // The whole name.
		{Config{TargetPattern: allLinear}, dense("unet.x.fc"), true},
		{Config{TargetPattern: allLinear}, conv("unet.x.conv1"), false},
	} {
		c.config.Rank = 1
		l, err := c.config.lora("unet")
		if err != nil {
			t.Fatal(err)
		}
		name, below := strings.CutPrefix(c.layer.Path, "unet.")
		if got := below && l.targets(name, c.layer.Conv == nil); got != c.want {
			t.Errorf("%+v targets %s: %v, want %v", c.config, c.layer.Path, got, c.want)
		}
	}
}

func TestLoRAScale(t *testing.T) {
	c := Config{Rank: 4, Alpha: 8, Targets: []string{"x"}, RankPattern: map[string]int{"b.x": 2}, AlphaPattern: map[string]float64{"^c": 1, "c.x": 3}}
	for name, want := range map[string]float64{"a.x": 2, "b.x": 4, "q.b.x": 4, "c.x": 0.75} {
		if got, _, err := c.Scale(name); err != nil || got != want {
			t.Errorf("scale of %s is %g (%v), want %g", name, got, err, want)
		}
	}
	c.RankStabilized = true
	if got, _, _ := c.Scale("a.x"); math.Abs(got-4) > 1e-12 {
		t.Errorf("stabilized scale is %g, want 8/√4 = 4", got)
	}
}

func FuzzParsePEFT(f *testing.F) {
	f.Add(recordedPEFT(f))
	f.Add([]byte(`{"peft_type":"LORA","target_modules":"all-linear","r":3,"rank_pattern":{"a.*":2}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c *Config
		var err error
		parsebound.Check(t, len(data), func() { c, err = ParsePEFT(data) })
		if err != nil {
			return
		}
		written, err := c.PEFT(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePEFT(written); err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, written)
		}
	})
}
