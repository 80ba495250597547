package unet

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/internal/parsebound"
)

// configFiles are the configurations below testdata.
var configFiles = []string{
	"unet2d/config.json",
	"unet2d_condition/config.json",
	"workloads/pixel_unet_config.json",
	"workloads/latent_unet_config.json",
}

// TestConfigRoundTrip writes what it read: no key lost, added or changed.
func TestConfigRoundTrip(t *testing.T) {
	for _, name := range configFiles {
		t.Run(name, func(t *testing.T) {
			c := loadConfig(t, filepath.FromSlash(name))
			raw, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			written, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			want, got := object(t, raw), object(t, written)
			if want["_class_name"] == nil { // The workloads' files leave these out.
				want["_class_name"], want["_diffusers_version"] = string(c.Class), "0.42.1"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("written config differs (-read +written):\n%s", diff)
			}
			again, err := ParseConfig(written)
			if err != nil {
				t.Fatal(err)
			}
			if twice, _ := json.Marshal(again); string(twice) != string(written) {
				t.Errorf("second writing differs:\n%s\n%s", twice, written)
			}
		})
	}
}

// TestConfigInsideOtherJSON: as a field, too, a config has all keys and defaults.
func TestConfigInsideOtherJSON(t *testing.T) {
	type model struct{ UNet Config }
	var m model
	if err := json.Unmarshal([]byte(`{"UNet": {"_class_name": "UNet2DModel", "in_channels": 1}}`), &m); err != nil {
		t.Fatal(err)
	}
	want := Default(Unconditional)
	want.InChannels = 1
	if diff := cmp.Diff(*want, m.UNet); diff != "" {
		t.Errorf("read config differs (-want +got):\n%s", diff)
	}
	written, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(written), `"upsample_type":"conv"`) {
		t.Errorf("written config lacks a key:\n%s", written)
	}
	if err := json.Unmarshal([]byte(`{"UNet": {"_class_name": "UNet2DModel", "act_fn": "mish"}}`), &m); err == nil {
		t.Error("an unsupported value was accepted")
	}
}

func TestUnknownKeysAreKept(t *testing.T) {
	c, err := ParseConfig([]byte(`{"_class_name": "UNet2DModel", "our_note": {"b": [1, 2.50], "a": null}, "num_train_timesteps": 1000}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(c.Extra["our_note"]); got != `{"b": [1, 2.50], "a": null}` {
		t.Errorf("unknown key is %s, want it verbatim", got)
	}
	written, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"our_note":{"b":[1,2.50],"a":null}`, `"num_train_timesteps":1000`, `"add_attention":true`} {
		if !strings.Contains(string(written), part) {
			t.Errorf("written config lacks %s:\n%s", part, written)
		}
	}
}

// TestDefaultWritesEveryKey compares with the key lists of the classes.
func TestDefaultWritesEveryKey(t *testing.T) {
	for class, keys := range classKeys {
		written, err := json.Marshal(Default(class))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{}
		for key, raw := range keys {
			var v any
			if err := json.Unmarshal(raw, &v); err != nil {
				t.Fatal(err)
			}
			want[key] = v
		}
		if diff := cmp.Diff(want, object(t, written)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", class, diff)
		}
	}
	if n := len(classKeys[Unconditional]); n != 30 {
		t.Errorf("UNet2DModel has %d keys, want 28 and two of the library", n)
	}
	if n := len(classKeys[Conditional]); n != 50 {
		t.Errorf("UNet2DConditionModel has %d keys, want 48 and two of the library", n)
	}
}

// TestUnsupportedIsRefusedByName has a value for every key that changes the
// computation in ways we do not have.
func TestUnsupportedIsRefusedByName(t *testing.T) {
	const un, cond = "UNet2DModel", "UNet2DConditionModel"
	tested := map[string]bool{}
	for _, tc := range []struct{ class, key, value string }{
		{un, "act_fn", `"gelu"`},
		{un, "class_embed_type", `"timestep"`},
		{un, "downsample_type", `"resnet"`},
		{un, "upsample_type", `"resnet"`},
		{un, "dropout", `0.1`},
		{un, "time_embedding_type", `"fourier"`},
		{cond, "addition_embed_type", `"text_time"`},
		{cond, "attention_type", `"gated"`},
		{cond, "class_embeddings_concat", `true`},
		{cond, "cross_attention_norm", `"layer_norm"`},
		{cond, "dual_cross_attention", `true`},
		{cond, "encoder_hid_dim", `64`},
		{cond, "encoder_hid_dim_type", `"text_proj"`},
		{cond, "num_attention_heads", `8`},
		{cond, "resnet_out_scale_factor", `2`},
		{cond, "resnet_skip_time_act", `true`},
		{cond, "reverse_transformer_layers_per_block", `[1]`},
		{cond, "time_cond_proj_dim", `256`},
		{cond, "time_embedding_act_fn", `"silu"`},
		{cond, "timestep_post_act", `"silu"`},
		// Keys with fields.
		{un, "resnet_time_scale_shift", `"spatial"`},
		{un, "mid_block_type", `"UnCLIPUNetMidBlock2D"`},
		{un, "down_block_types", `["SkipDownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"]`},
		{un, "down_block_types", `["DownBlock2D"]`},
		{un, "up_block_types", `["CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"]`},
		{cond, "down_block_types", `["AttnDownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"]`},
		{cond, "mid_block_type", `"UNetMidBlock2DSimpleCrossAttn"`},
		{un, "layers_per_block", `[1, 2, 1, 2]`},
		{un, "layers_per_block", `1000000000`},
		{un, "attention_head_dim", `9`},
		{un, "attention_head_dim", `[]`},
		{cond, "attention_head_dim", `null`},
		{cond, "attention_head_dim", `[8, 8]`},
		{cond, "attention_head_dim", `9`},
		{cond, "transformer_layers_per_block", `[[1], [1], [1], [1]]`},
		{cond, "cross_attention_dim", `[8, 16, 16, 16]`},
		{cond, "conv_in_kernel", `4`},
		{un, "norm_num_groups", `5`},
		{un, "norm_num_groups", `null`},
		{un, "attn_norm_num_groups", `5`},
		{un, "norm_eps", `0`},
		{un, "norm_eps", `"small"`},
		{un, "mid_block_scale_factor", `-1`},
		{un, "block_out_channels", `[]`},
		{un, "block_out_channels", `[224, -448, 672, 896]`},
		{un, "downsample_padding", `2`},
		{un, "freq_shift", `2`},
		{un, "in_channels", `0`},
		{un, "flip_sin_to_cos", `null`},
		{un, "sample_size", `[1, 2, 3]`},
		{un, "_class_name", `"UNet3DModel"`},
	} {
		tested[tc.key] = true
		raw := `{"_class_name": "` + tc.class + `", "` + tc.key + `": ` + tc.value + `}`
		switch _, err := ParseConfig([]byte(raw)); {
		case err == nil:
			t.Errorf("%s with %s = %s was accepted", tc.class, tc.key, tc.value)
		case tc.key != "_class_name" && !strings.Contains(err.Error(), tc.key):
			t.Errorf("%s with %s = %s: the error does not name the key: %v", tc.class, tc.key, tc.value, err)
		}
	}
	for key := range fixedKeys {
		if !tested[key] {
			t.Errorf("no test refuses a value of key %q", key)
		}
	}
}

func TestOnlyCrossAttentionNeedsContext(t *testing.T) {
	_, err := ParseConfig([]byte(`{"_class_name": "UNet2DConditionModel", "only_cross_attention": true, "cross_attention_dim": null}`))
	if err == nil || !strings.Contains(err.Error(), "only_cross_attention") {
		t.Errorf("error is %v, want one that names the key", err)
	}
}

// TestEveryFieldIsAKey keeps the struct and the key lists together.
func TestEveryFieldIsAKey(t *testing.T) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		key := f.Tag.Get("json")
		if key != "-" && classKeys[Unconditional][key] == nil && classKeys[Conditional][key] == nil {
			t.Errorf("field %s has key %q, which no class has", f.Name, key)
		}
	}
}

func TestModuleNames(t *testing.T) {
	c := loadConfig(t, "unet2d_condition", "config.json")
	want := []string{"down_blocks.0.attentions.0", "mid_block.attentions.0", "up_blocks.1.attentions.0", "up_blocks.1.attentions.1"}
	if diff := cmp.Diff(want, c.AttentionModules()); diff != "" {
		t.Errorf("attention modules (-want +got):\n%s", diff)
	}
	want = []string{
		"down_blocks.0.resnets.0", "down_blocks.1.resnets.0", "mid_block.resnets.0", "mid_block.resnets.1",
		"up_blocks.0.resnets.0", "up_blocks.0.resnets.1", "up_blocks.1.resnets.0", "up_blocks.1.resnets.1",
	}
	if diff := cmp.Diff(want, c.Resnets()); diff != "" {
		t.Errorf("resnets (-want +got):\n%s", diff)
	}
}

// TestModuleNamesAreThoseOfParameters: each module has parameters, and each
// parameter of an attention or a resnet is in exactly one module.
func TestModuleNamesAreThoseOfParameters(t *testing.T) {
	for _, name := range configFiles {
		c := loadConfig(t, filepath.FromSlash(name))
		specs, err := c.Specs(backendtest.Open(t, "go"))
		if err != nil {
			t.Fatal(err)
		}
		modules := append(c.AttentionModules(), c.Resnets()...)
		var met []string // In the order of the graph.
		for _, spec := range specs {
			i := slices.IndexFunc(modules, func(m string) bool { return strings.HasPrefix(spec.Name, m+".") })
			inside := strings.Contains(spec.Name, ".attentions.") || strings.Contains(spec.Name, ".resnets.")
			if inside != (i >= 0) {
				t.Errorf("%s: parameter %s in a module: %t, want %t", name, spec.Name, i >= 0, inside)
			}
			if i >= 0 && !slices.Contains(met, modules[i]) {
				met = append(met, modules[i])
			}
		}
		met = slices.DeleteFunc(met, func(m string) bool { return strings.Contains(m, ".resnets.") })
		if diff := cmp.Diff(c.AttentionModules(), met); diff != "" {
			t.Errorf("%s: attention modules are not in the order of the graph (-listed +met):\n%s", name, diff)
		}
	}
}

func TestParameterCounts(t *testing.T) {
	for name, want := range map[string]int{
		"workloads/pixel_unet_config.json":  6_804_225,
		"workloads/latent_unet_config.json": 24_457_988 - 11*128, // The class table is outside.
	} {
		c := loadConfig(t, filepath.FromSlash(name))
		specs, err := c.Specs(backendtest.Open(t, "go"))
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, spec := range specs {
			got += spec.Size()
		}
		if got != want {
			t.Errorf("%s: %d parameters, want %d", name, got, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, name := range configFiles {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`null`))
	f.Add([]byte(`{"_class_name": "UNet2DModel", "attention_head_dim": null, "x": 1e999}`))
	f.Add([]byte(`{"cross_attention_dim": [8, 8, 8, 8], "block_out_channels": [32, 32, 32, 32]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var c *Config
		var err error
		parsebound.Check(t, len(raw), func() { c, err = ParseConfig(raw) })
		if err != nil {
			return
		}
		if len(c.Resnets()) == 0 {
			t.Error("an accepted config has no resnets")
		}
		c.AttentionModules()
		written, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfig(written)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, written)
		}
		if twice, _ := json.Marshal(again); string(twice) != string(written) {
			t.Errorf("second writing differs:\n%s\n%s", twice, written)
		}
	})
}

func object(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	return o
}
