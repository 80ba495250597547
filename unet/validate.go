package unet

import (
	"fmt"
	"slices"
)

// Bounds that keep a broken file from asking for absurd amounts of memory.
const (
	maxBlocks   = 16
	maxLayers   = 64
	maxChannels = 1 << 16
)

// Validate returns an error unless the configuration describes a network that
// we can build. ParseConfig has called it.
func (c *Config) Validate() error {
	if classKeys[c.Class] == nil {
		return fmt.Errorf("class is %q, want %q or %q", c.Class, Unconditional, Conditional)
	}
	for key, value := range c.Extra {
		if err := checkFixed(c.Class, key, value); err != nil {
			return err
		}
	}
	if err := c.validateShape(); err != nil {
		return err
	}
	if err := c.validateBlocks(); err != nil {
		return err
	}
	return c.validateGroups()
}

// validateShape checks lengths and ranges.
func (c *Config) validateShape() error {
	n := len(c.BlockOutChannels)
	if n == 0 || n > maxBlocks {
		return fmt.Errorf("\"block_out_channels\" has %d entries, want 1 to %d", n, maxBlocks)
	}
	for _, l := range []struct {
		key       string
		got       int
		perBlock  bool // One element applies to all, none is null.
		classOnly Class
	}{
		{"down_block_types", len(c.DownBlockTypes), false, ""},
		{"up_block_types", len(c.UpBlockTypes), false, ""},
		{"layers_per_block", len(c.LayersPerBlock), true, ""},
		{"attention_head_dim", len(c.AttentionHeadDim), true, ""},
		{"cross_attention_dim", len(c.CrossAttentionDim), true, Conditional},
		{"only_cross_attention", len(c.OnlyCrossAttention), true, Conditional},
		{"transformer_layers_per_block", len(c.TransformerLayersPerBlock), true, Conditional},
	} {
		if l.got == n || l.perBlock && l.got <= 1 || l.classOnly != "" && l.classOnly != c.Class {
			continue
		}
		return fmt.Errorf("key %q has %d entries, want %d, as \"block_out_channels\" has", l.key, l.got, n)
	}
	if c.Class == Unconditional && (len(c.LayersPerBlock) > 1 || len(c.AttentionHeadDim) > 1) {
		return fmt.Errorf("\"layers_per_block\" and \"attention_head_dim\" of %s must be one number, not a list", c.Class)
	}
	if len(c.SampleSize) > 2 {
		return fmt.Errorf("key \"sample_size\" has %d numbers, want one or two", len(c.SampleSize))
	}

	type bound struct {
		key         string
		values      []int
		least, most int
	}
	bounds := []bound{
		{"sample_size", c.SampleSize, 1, maxChannels},
		{"in_channels", []int{c.InChannels}, 1, maxChannels},
		{"out_channels", []int{c.OutChannels}, 1, maxChannels},
		{"block_out_channels", c.BlockOutChannels, 1, maxChannels},
		{"layers_per_block", orZero(c.LayersPerBlock), 1, maxLayers},
		{"norm_num_groups", []int{c.NormNumGroups}, 1, maxChannels},
		{"time_embedding_dim", []int{c.TimeEmbeddingDim}, 0, maxChannels},
		{"num_class_embeds", []int{c.NumClassEmbeds}, 0, 1 << 24},
		{"freq_shift", []int{c.FreqShift}, 0, 1},
		{"downsample_padding", []int{c.DownsamplePadding}, 0, 1},
		{"attention_head_dim", c.AttentionHeadDim, 1, maxChannels},
	}
	switch c.Class {
	case Unconditional:
		bounds = append(bounds, bound{"attn_norm_num_groups", []int{c.AttnNormNumGroups}, 0, maxChannels})
	case Conditional:
		bounds = append(bounds,
			bound{"attention_head_dim", orZero(c.AttentionHeadDim), 1, maxChannels},
			bound{"cross_attention_dim", c.CrossAttentionDim, 1, maxChannels},
			bound{"transformer_layers_per_block", orZero(c.TransformerLayersPerBlock), 1, maxLayers},
			bound{"conv_in_kernel", []int{c.ConvInKernel}, 1, maxLayers},
			bound{"conv_out_kernel", []int{c.ConvOutKernel}, 1, maxLayers})
		if c.ConvInKernel%2 == 0 || c.ConvOutKernel%2 == 0 {
			return fmt.Errorf("\"conv_in_kernel\" is %d and \"conv_out_kernel\" is %d, want odd numbers", c.ConvInKernel, c.ConvOutKernel)
		}
	}
	for _, b := range bounds {
		for _, v := range b.values {
			if v < b.least || v > b.most {
				return fmt.Errorf("key %q has %d, want %d to %d", b.key, v, b.least, b.most)
			}
		}
	}
	if first := c.BlockOutChannels[0]; first%2 != 0 || first/2 <= c.FreqShift {
		return fmt.Errorf("\"block_out_channels\" starts with %d, want an even number of at least %d for the time embedding", first, 2*c.FreqShift+2)
	}
	if !(c.NormEps > 0) || !(c.MidBlockScaleFactor > 0) {
		return fmt.Errorf("\"norm_eps\" is %g and \"mid_block_scale_factor\" is %g, want positive numbers", c.NormEps, c.MidBlockScaleFactor)
	}
	return nil
}

// validateBlocks checks the names of block types.
func (c *Config) validateBlocks() error {
	known := map[string][]string{
		"down_block_types": {"DownBlock2D", "AttnDownBlock2D"},
		"mid_block_type":   {"UNetMidBlock2D", ""},
		"up_block_types":   {"UpBlock2D", "AttnUpBlock2D"},
	}
	if c.Class == Conditional {
		known = map[string][]string{
			"down_block_types": {"DownBlock2D", "CrossAttnDownBlock2D"},
			"mid_block_type":   {"UNetMidBlock2DCrossAttn", "UNetMidBlock2D", ""},
			"up_block_types":   {"UpBlock2D", "CrossAttnUpBlock2D"},
		}
	}
	for _, l := range []struct {
		key   string
		types []string
	}{
		{"down_block_types", c.DownBlockTypes},
		{"mid_block_type", []string{c.MidBlockType}},
		{"up_block_types", c.UpBlockTypes},
	} {
		for _, t := range l.types {
			if !slices.Contains(known[l.key], t) {
				return fmt.Errorf("key %q has %q, which is not supported in %s; %q are", l.key, t, c.Class, known[l.key])
			}
		}
	}
	if s := c.ResnetTimeScaleShift; s != "default" && s != "scale_shift" {
		return fmt.Errorf("key \"resnet_time_scale_shift\" is %q, which is not supported; \"default\" and \"scale_shift\" are", s)
	}
	return nil
}

// validateGroups checks that heads and norm groups divide the channels, and that
// blocks agree about the context.
func (c *Config) validateGroups() error {
	divides := func(path, key string, part, channels int) error {
		if part < 1 || channels%part != 0 {
			return fmt.Errorf("%s: %d channels cannot be split as key %q says (%d)", path, channels, key, part)
		}
		return nil
	}
	for _, b := range c.blocks() {
		for j, r := range b.resnets {
			path := fmt.Sprintf("%s.resnets.%d", b.path, j)
			for _, channels := range []int{r.in, r.out} {
				if err := divides(path, "norm_num_groups", c.NormNumGroups, channels); err != nil {
					return err
				}
			}
		}
		a, channels := b.attention, b.resnets[len(b.resnets)-1].out
		if a == nil {
			continue
		}
		path := b.path + ".attentions.0"
		if a.groups > 0 {
			key := "norm_num_groups"
			if b.path == "mid_block" && c.AttnNormNumGroups > 0 {
				key = "attn_norm_num_groups"
			}
			if err := divides(path, key, a.groups, channels); err != nil {
				return err
			}
		}
		if !a.spatial && len(c.AttentionHeadDim) > 0 {
			if err := divides(path, "attention_head_dim", c.AttentionHeadDim[0], channels); err != nil {
				return err
			}
		}
		if err := divides(path, "attention_head_dim", a.heads, channels); err != nil {
			return err
		}
		if a.context > 0 && a.context != c.contextWidth() {
			return fmt.Errorf("%s: key \"cross_attention_dim\" has %d beside %d, but all blocks see one context", path, a.context, c.contextWidth())
		}
		if a.crossOnly && a.context == 0 {
			return fmt.Errorf("%s: \"only_cross_attention\" is true but \"cross_attention_dim\" is null", path)
		}
	}
	return nil
}

// orZero makes a value that must not be null fail its lower bound.
func orZero(p PerBlock[int]) []int {
	if len(p) == 0 {
		return []int{0}
	}
	return p
}
