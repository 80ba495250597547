package unet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Class is the diffusers class of a UNet.
type Class string

const (
	Unconditional Class = "UNet2DModel"          // Time and class; plain self-attention.
	Conditional   Class = "UNet2DConditionModel" // Also cross attention over a context.
)

// Config is the configuration of a UNet: the keys of config.json that we
// honour. [Default] and [ParseConfig] make one; the zero value is not valid.
// Where JSON allows null, the zero value stands for it.
type Config struct {
	Class   Class  `json:"_class_name"`
	Version string `json:"_diffusers_version"` // Of the library that wrote the file.

	SampleSize  PerBlock[int] `json:"sample_size"` // Height and width, one number or two; for callers, no layer depends on it.
	InChannels  int           `json:"in_channels"`
	OutChannels int           `json:"out_channels"`

	CenterInputSample bool `json:"center_input_sample"` // Maps the input x to 2x-1.
	FlipSinToCos      bool `json:"flip_sin_to_cos"`     // Time embedding: cosines first.
	FreqShift         int  `json:"freq_shift"`          // Taken from the number of frequencies when they are spread.
	TimeEmbeddingDim  int  `json:"time_embedding_dim"`  // Zero means 4·BlockOutChannels[0].
	NumClassEmbeds    int  `json:"num_class_embeds"`    // Entries of the class table; zero means none.

	DownBlockTypes   []string      `json:"down_block_types"`
	MidBlockType     string        `json:"mid_block_type"` // "" means none.
	UpBlockTypes     []string      `json:"up_block_types"`
	BlockOutChannels []int         `json:"block_out_channels"`
	LayersPerBlock   PerBlock[int] `json:"layers_per_block"` // Per block in Conditional only.

	MidBlockScaleFactor  float64 `json:"mid_block_scale_factor"` // Divides the residual sums of the middle block.
	DownsamplePadding    int     `json:"downsample_padding"`     // 1, or 0 for one row and column at the end only.
	NormNumGroups        int     `json:"norm_num_groups"`
	NormEps              float64 `json:"norm_eps"`
	ResnetTimeScaleShift string  `json:"resnet_time_scale_shift"` // "default" or "scale_shift".

	// AttentionHeadDim is, by a slip in the history of diffusers, the channels
	// per head in Unconditional (nil: one head), but the number of heads in
	// Conditional, where it may differ per block.
	AttentionHeadDim PerBlock[int] `json:"attention_head_dim"`

	// Only in Unconditional.
	AddAttention      bool `json:"add_attention"`        // Attention in the middle block.
	AttnNormNumGroups int  `json:"attn_norm_num_groups"` // Of that attention. Zero means NormNumGroups, or no norm with "scale_shift".

	// Only in Conditional.
	CrossAttentionDim         PerBlock[int]  `json:"cross_attention_dim"` // Width of the context; nil means no cross attention.
	OnlyCrossAttention        PerBlock[bool] `json:"only_cross_attention"`
	TransformerLayersPerBlock PerBlock[int]  `json:"transformer_layers_per_block"`
	UseLinearProjection       bool           `json:"use_linear_projection"`
	ConvInKernel              int            `json:"conv_in_kernel"`
	ConvOutKernel             int            `json:"conv_out_kernel"`

	// Extra holds all other keys verbatim: unknown ones, and known ones that do
	// not change the computation.
	Extra map[string]json.RawMessage `json:"-"`
}

// PerBlock is a JSON value that applies to all blocks, or a list with a value
// per block. One element applies to all; nil is null.
type PerBlock[T int | bool] []T

// At returns the value for block i, the zero value if p is nil.
func (p PerBlock[T]) At(i int) T {
	switch len(p) {
	case 0:
		var zero T
		return zero
	case 1:
		return p[0]
	}
	return p[i]
}

// UnmarshalJSON reads a value, a list or null.
func (p *PerBlock[T]) UnmarshalJSON(data []byte) error {
	*p = nil
	switch data = bytes.TrimSpace(data); {
	case bytes.Equal(data, []byte("null")):
		return nil
	case len(data) > 0 && data[0] == '[':
		var list []*T
		if err := json.Unmarshal(data, &list); err != nil {
			return err
		}
		for _, v := range list {
			if v == nil {
				return errors.New("list has a null, want values")
			}
			*p = append(*p, *v)
		}
		if len(*p) == 0 {
			return errors.New("list is empty, want a value per block")
		}
		return nil
	}
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	*p = PerBlock[T]{v}
	return nil
}

// MarshalJSON writes a value where one applies to all, else a list.
func (p PerBlock[T]) MarshalJSON() ([]byte, error) {
	switch len(p) {
	case 0:
		return []byte("null"), nil
	case 1:
		return json.Marshal(p[0])
	}
	return json.Marshal([]T(p))
}

// Default returns the configuration that diffusers gives to a class when no key
// is set.
func Default(class Class) *Config {
	name, _ := json.Marshal(map[string]Class{"_class_name": class})
	c, err := ParseConfig(name)
	if err != nil {
		panic(fmt.Errorf("unet: default of class %q: %w", class, err))
	}
	return c
}

// ParseConfig reads a config.json. Keys that are left out have diffusers'
// defaults; without _class_name the class is told from keys that only one class
// has. It is an error if the file asks for something that we do not have.
func ParseConfig(data []byte) (*Config, error) {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(data, &given); err != nil {
		return nil, fmt.Errorf("read unet config: %w", err)
	}
	if given == nil {
		return nil, errors.New("read unet config: got null, want an object")
	}
	class, err := classOf(given)
	if err != nil {
		return nil, fmt.Errorf("read unet config: %w", err)
	}
	all := maps.Clone(classKeys[class])
	maps.Copy(all, given)

	c := &Config{Class: class}
	if err := c.setFields(all); err != nil {
		return nil, fmt.Errorf("read unet config: %w", err)
	}
	for key, value := range given {
		if c.field(key) != nil {
			continue
		}
		if c.Extra == nil {
			c.Extra = map[string]json.RawMessage{}
		}
		c.Extra[key] = slices.Clone(value)
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("read unet config: %w", err)
	}
	return c, nil
}

// UnmarshalJSON reads as ParseConfig does.
func (c *Config) UnmarshalJSON(data []byte) error {
	parsed, err := ParseConfig(data)
	if err == nil {
		*c = *parsed
	}
	return err
}

// MarshalJSON writes every key of the class, default or not, and Extra.
func (c Config) MarshalJSON() ([]byte, error) {
	all := maps.Clone(classKeys[c.Class])
	if all == nil {
		return nil, fmt.Errorf("write unet config: class is %q, want %q or %q", c.Class, Unconditional, Conditional)
	}
	maps.Copy(all, c.Extra)
	for key := range all {
		field := c.field(key)
		if field == nil {
			continue
		}
		if c.nullable(key) && reflect.ValueOf(field).Elem().IsZero() {
			all[key] = json.RawMessage("null")
			continue
		}
		value, err := json.Marshal(field)
		if err != nil {
			return nil, fmt.Errorf("write unet config key %q: %w", key, err)
		}
		all[key] = value
	}
	return json.Marshal(all)
}

// classOf reads _class_name, or tells the class from the keys.
func classOf(given map[string]json.RawMessage) (Class, error) {
	if raw, ok := given["_class_name"]; ok {
		var class Class
		if err := json.Unmarshal(raw, &class); err != nil {
			return "", fmt.Errorf("key \"_class_name\": %w", err)
		}
		if class != Unconditional && class != Conditional {
			return "", fmt.Errorf("class is %q, want %q or %q", class, Unconditional, Conditional)
		}
		return class, nil
	}
	only := func(class, other Class) bool {
		mine, theirs := classKeys[class], classKeys[other]
		for key := range given {
			if mine[key] != nil && theirs[key] == nil {
				return true
			}
		}
		return false
	}
	switch un, cond := only(Unconditional, Conditional), only(Conditional, Unconditional); {
	case un && !cond:
		return Unconditional, nil
	case cond && !un:
		return Conditional, nil
	}
	return "", fmt.Errorf("key \"_class_name\" is missing, want %q or %q", Unconditional, Conditional)
}

// setFields decodes the values into the fields of the class.
func (c *Config) setFields(all map[string]json.RawMessage) error {
	for _, key := range slices.Sorted(maps.Keys(all)) { // Sorted: the same error each time.
		field := c.field(key)
		if field == nil || key == "_class_name" {
			continue
		}
		if err := json.Unmarshal(all[key], field); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		if string(all[key]) == "null" && !c.nullable(key) {
			return fmt.Errorf("key %q is null, want a value", key)
		}
	}
	return nil
}

// field returns a pointer to the field of a key, nil if the key has none in
// this class.
func (c *Config) field(key string) any {
	if classKeys[c.Class][key] == nil {
		return nil
	}
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("json") == key {
			return v.Field(i).Addr().Interface()
		}
	}
	return nil
}
