package textencoder

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Class is the class of a text encoder in transformers or diffusers.
type Class string

const (
	CLIP    Class = "CLIPTextModel" // Causal; the norm comes first; position and token tables.
	LDMBert Class = "LDMBertModel"  // Not causal; heads may be narrower than the model.
)

// Activation between the layers of a block's network.
type Activation string

const (
	QuickGELU Activation = "quick_gelu" // x·sigmoid(1.702x).
	GELU      Activation = "gelu"       // Exact.
)

// Config is the architecture of a text encoder: what we honour of config.json.
// [Default] and [ParseConfig] make one; the zero value is not valid.
type Config struct {
	Class      Class
	Vocabulary int // Tokens.
	Positions  int // Longest text, in tokens.
	Width      int // Of the context.
	Layers     int
	Heads      int
	HeadWidth  int // Of LDMBert. CLIP's is Width/Heads.
	Hidden     int // Width inside a block's network.
	Activation Activation
	Epsilon    float64 // Of every layer norm.
	EndToken   int     // CLIP's end of text, where the pooled output is taken; 2 means the largest token, as in files of before 2023.

	read map[string]json.RawMessage // All keys as read.
}

// Default returns what transformers or diffusers assumes for keys that a file
// lacks.
func Default(class Class) *Config {
	if class == LDMBert {
		return &Config{Class: LDMBert, Vocabulary: 30522, Positions: 77, Width: 1280, Layers: 32, Heads: 8, HeadWidth: 64,
			Hidden: 5120, Activation: GELU, Epsilon: 1e-5}
	}
	return &Config{Class: CLIP, Vocabulary: 49408, Positions: 77, Width: 512, Layers: 12, Heads: 8, HeadWidth: 64,
		Hidden: 2048, Activation: QuickGELU, Epsilon: 1e-5, EndToken: 49407}
}

// fields returns where the keys of a class go.
func (c *Config) fields() map[string]any {
	if c.Class == LDMBert {
		return map[string]any{"vocab_size": &c.Vocabulary, "max_position_embeddings": &c.Positions, "d_model": &c.Width,
			"encoder_layers": &c.Layers, "encoder_attention_heads": &c.Heads, "head_dim": &c.HeadWidth,
			"encoder_ffn_dim": &c.Hidden, "activation_function": &c.Activation}
	}
	return map[string]any{"vocab_size": &c.Vocabulary, "max_position_embeddings": &c.Positions, "hidden_size": &c.Width,
		"num_hidden_layers": &c.Layers, "num_attention_heads": &c.Heads, "intermediate_size": &c.Hidden,
		"hidden_act": &c.Activation, "layer_norm_eps": &c.Epsilon, "eos_token_id": &c.EndToken}
}

// Keys that change the computation and have no field, with the value we have.
var fixed = map[Class]map[string]string{
	CLIP:    {"use_attention_mask": "false", "is_decoder": "false"},
	LDMBert: {"scale_embedding": "false", "is_encoder_decoder": "false", "is_decoder": "false"},
}

// ParseConfig reads the config.json of a text encoder. Keys that are left out
// have their library's defaults, unknown ones are kept for [Config.MarshalJSON],
// and values that we do not have are errors that name the key. Rates of dropout
// are kept and have no effect.
func ParseConfig(data []byte) (*Config, error) {
	var read map[string]json.RawMessage
	if err := json.Unmarshal(data, &read); err != nil {
		return nil, fmt.Errorf("text encoder config: %w", err)
	}
	if read == nil {
		return nil, errors.New("text encoder config: got null, want an object")
	}
	class, err := classOf(read)
	if err != nil {
		return nil, fmt.Errorf("text encoder config: %w", err)
	}
	c := Default(class)
	for key, field := range c.fields() {
		value, ok := read[key]
		if !ok {
			continue
		}
		if string(value) == "null" {
			return nil, fmt.Errorf("text encoder config: %s is null, want a value", key)
		}
		if err := json.Unmarshal(value, field); err != nil {
			return nil, fmt.Errorf("text encoder config: key %q: %w", key, err)
		}
	}
	for key, want := range fixed[class] {
		if got, ok := read[key]; ok && string(got) != want && string(got) != "null" {
			return nil, fmt.Errorf("text encoder config: %s is %s, want %s; no other is implemented", key, got, want)
		}
	}
	if class == CLIP && c.Heads > 0 {
		c.HeadWidth = c.Width / c.Heads
	}
	c.read = read
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// classOf tells the class from the keys that name it.
func classOf(read map[string]json.RawMessage) (Class, error) {
	var names []string
	if raw, ok := read["architectures"]; ok && string(raw) != "null" {
		if err := json.Unmarshal(raw, &names); err != nil {
			return "", fmt.Errorf("architectures: %w", err)
		}
	}
	var one string
	if raw, ok := read["_class_name"]; ok && json.Unmarshal(raw, &one) == nil && one != "" {
		names = append(names, one)
	}
	for _, name := range names {
		if name != string(CLIP) && name != string(LDMBert) {
			return "", fmt.Errorf("architectures has %q, want %q or %q; no other text encoder is implemented", name, CLIP, LDMBert)
		}
	}
	if len(names) > 0 {
		return Class(names[0]), nil
	}
	var kind string
	if raw, ok := read["model_type"]; ok {
		if err := json.Unmarshal(raw, &kind); err != nil {
			return "", fmt.Errorf("model_type: %w", err)
		}
	}
	switch kind {
	case "clip_text_model":
		return CLIP, nil
	case "ldmbert":
		return LDMBert, nil
	}
	return "", fmt.Errorf("model_type is %q and architectures is missing, want \"clip_text_model\" or \"ldmbert\"", kind)
}

// Validate returns an error naming the first field that is out of range.
func (c *Config) Validate() error {
	if c.Class != CLIP && c.Class != LDMBert {
		return fmt.Errorf("text encoder config: class is %q, want %q or %q", c.Class, CLIP, LDMBert)
	}
	for _, f := range []struct {
		what       string
		value, max int
	}{
		{"vocabulary", c.Vocabulary, 1 << 24}, {"number of positions", c.Positions, 1 << 16}, {"width", c.Width, 1 << 16},
		{"number of layers", c.Layers, 1 << 10}, {"number of heads", c.Heads, 1 << 10}, {"head width", c.HeadWidth, 1 << 16},
		{"hidden width", c.Hidden, 1 << 20},
	} {
		if f.value < 1 || f.value > f.max {
			return fmt.Errorf("text encoder config: %s is %d, want 1 to %d", f.what, f.value, f.max)
		}
	}
	if c.Class == CLIP && c.Heads*c.HeadWidth != c.Width {
		return fmt.Errorf("text encoder config: %d heads of %d do not make up the width %d; num_attention_heads must divide hidden_size", c.Heads, c.HeadWidth, c.Width)
	}
	if c.Activation != QuickGELU && c.Activation != GELU {
		return fmt.Errorf("text encoder config: activation is %q, want %q or %q; no other is implemented", c.Activation, QuickGELU, GELU)
	}
	if !(c.Epsilon > 0) {
		return fmt.Errorf("text encoder config: layer_norm_eps is %g, want positive", c.Epsilon)
	}
	return nil
}

// MarshalJSON writes every key that we honour, and all others as read.
func (c *Config) MarshalJSON() ([]byte, error) {
	keys := map[string]any{"architectures": []Class{c.Class}}
	if c.Class == CLIP {
		maps.Copy(keys, map[string]any{"model_type": "clip_text_model", "dtype": "float32", "attention_dropout": 0.0})
	} else {
		maps.Copy(keys, map[string]any{"model_type": "ldmbert", "num_hidden_layers": c.Layers, "scale_embedding": false, "pad_token_id": 0})
	}
	for key, value := range c.read {
		keys[key] = value
	}
	maps.Copy(keys, c.fields())
	return json.Marshal(keys)
}

// Keys returns the keys of config.json that this package honours for a class.
func Keys(class Class) []string {
	return slices.Sorted(maps.Keys(Default(class).fields()))
}
