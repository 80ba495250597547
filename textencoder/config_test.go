package textencoder

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

func TestConfigKeepsEveryKey(t *testing.T) {
	for _, dir := range []string{"testdata/clip_text", "testdata/ldmbert"} {
		data, err := os.ReadFile(dir + "/config.json")
		if err != nil {
			t.Fatal(err)
		}
		var want, got map[string]any
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		want["a_later_key"] = map[string]any{"x": 1.5}
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
			t.Errorf("%s: written config is\n%v\nwant\n%v", dir, got, want)
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	for _, tc := range []struct {
		data  string
		class Class
	}{
		{`{"architectures": ["CLIPTextModel"]}`, CLIP},
		{`{"model_type": "clip_text_model"}`, CLIP},
		{`{"model_type": "ldmbert", "architectures": null}`, LDMBert},
		{`{"_class_name": "LDMBertModel"}`, LDMBert},
	} {
		c, err := ParseConfig([]byte(tc.data))
		if err != nil {
			t.Fatal(err)
		}
		c.read = nil
		if want := Default(tc.class); !reflect.DeepEqual(c, want) {
			t.Errorf("%s: got %+v, want %+v", tc.data, c, want)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	for _, tc := range []struct{ data, want string }{
		{`null`, "null"},
		{`{}`, "model_type"},
		{`{"architectures": ["CLIPTextModelWithProjection"]}`, "CLIPTextModelWithProjection"},
		{`{"model_type": "t5"}`, "t5"},
		{`{"model_type": "clip_text_model", "hidden_act": "gelu_new"}`, "gelu_new"},
		{`{"model_type": "clip_text_model", "num_attention_heads": 5}`, "num_attention_heads"},
		{`{"model_type": "clip_text_model", "num_attention_heads": 0}`, "number of heads"},
		{`{"model_type": "clip_text_model", "vocab_size": 1e99}`, "vocab_size"},
		{`{"model_type": "clip_text_model", "layer_norm_eps": -1}`, "layer_norm_eps"},
		{`{"model_type": "clip_text_model", "hidden_size": null}`, "hidden_size is null"},
		{`{"model_type": "ldmbert", "scale_embedding": true}`, "scale_embedding"},
		{`{"model_type": "ldmbert", "head_dim": 0}`, "head width"},
	} {
		if _, err := ParseConfig([]byte(tc.data)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v, want one with %q", tc.data, err, tc.want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, dir := range []string{"testdata/clip_text", "testdata/ldmbert"} {
		data, err := os.ReadFile(dir + "/config.json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"architectures": ["CLIPTextModel"], "eos_token_id": 2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c *Config
		var err error
		parsebound.Check(t, len(data), func() { c, err = ParseConfig(data) })
		if err != nil {
			return
		}
		written, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfig(written)
		if err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, written)
		}
		c.read, again.read = nil, nil
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("read %+v, written, read %+v", c, again)
		}
	})
}
