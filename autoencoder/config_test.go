package autoencoder

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

func TestConfigKeepsEveryKey(t *testing.T) {
	data, err := os.ReadFile("testdata/config.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	want["some_later_key"] = []any{1.5, "x"}
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
	var got map[string]any
	if err := json.Unmarshal(written, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("written config is\n%v\nwant\n%v", got, want)
	}
}

func TestConfigDefaults(t *testing.T) {
	c, err := ParseConfig([]byte(`{"_class_name": "AutoencoderKL"}`))
	if err != nil {
		t.Fatal(err)
	}
	c.extra = nil
	if want := DefaultConfig(); !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, change := range map[string]struct{ key, value, want string }{
		"class":        {"_class_name", `"AutoencoderTiny"`, "_class_name"},
		"activation":   {"act_fn", `"gelu"`, "act_fn"},
		"block":        {"down_block_types", `["AttnDownEncoderBlock2D", "DownEncoderBlock2D"]`, "AttnDownEncoderBlock2D"},
		"block count":  {"up_block_types", `["UpDecoderBlock2D"]`, "up_block_types has 1"},
		"latent means": {"latents_mean", `[0, 0, 0]`, "latents_mean"},
		"groups":       {"norm_num_groups", `3`, "multiple of norm_num_groups 3"},
		"no channels":  {"in_channels", `0`, "in_channels is 0"},
		"no levels":    {"block_out_channels", `[]`, "down_block_types has 2 entries, want 0"},
		"type":         {"layers_per_block", `"two"`, "layers_per_block"},
		"scale":        {"scaling_factor", `0`, "scaling_factor"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile("testdata/config.json")
			if err != nil {
				t.Fatal(err)
			}
			var keys map[string]json.RawMessage
			if err := json.Unmarshal(data, &keys); err != nil {
				t.Fatal(err)
			}
			keys[change.key] = json.RawMessage(change.value)
			if data, err = json.Marshal(keys); err != nil {
				t.Fatal(err)
			}
			if _, err := ParseConfig(data); err == nil || !strings.Contains(err.Error(), change.want) {
				t.Errorf("error is %v, want one with %q", err, change.want)
			}
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	data, err := os.ReadFile("testdata/config.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"_class_name": "AutoencoderKL"}`))
	f.Add([]byte(`{"_class_name": "VQModel", "vq_embed_dim": 5}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c *Config
		var err error
		parsebound.Check(t, len(data), func() { c, err = ParseConfig(data) })
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("accepted, then: %v", err)
		}
		written, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfig(written)
		if err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, written)
		}
		if again.Factor() != c.Factor() || again.Depth() != c.Depth() || again.Class() != c.Class() {
			t.Fatal("read, written, read: not the same")
		}
	})
}

func ExampleConfig_Factor() {
	c := DefaultConfig()
	c.BlockOutChannels = []int{128, 256, 512, 512}
	fmt.Println(c.Factor())
	// Output: 8
}
