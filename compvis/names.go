package compvis

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/scumble-dp/scumble/unet"
)

// source is where a tensor of ours is in a checkpoint.
type source struct {
	name  string
	part  int // Of three of equal size along the first axis: q, k, v. -1 for all of it.
	heads int // Of a qkv tensor, whose rows are [heads, 3, width].
}

func whole(name string) source { return source{name: name, part: -1} }

// Parts of a residual block.
var resnetParts = map[string]string{"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
	"norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}

// Tensors at the ends of the UNet.
var unetEnds = map[string]string{"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
	"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2", "class_embedding": "label_emb"}

// unetName returns the source, below "model.diffusion_model.", of a UNet tensor.
func unetName(c *unet.Config, name string) (source, error) {
	lost := fmt.Errorf("UNet tensor %q has no name in CompVis' checkpoints", name)
	module, leaf, ok := cutLast(name)
	if !ok {
		return source{}, lost
	}
	if end, ok := unetEnds[module]; ok {
		return whole(end + "." + leaf), nil
	}
	p := strings.Split(name, ".")
	per := c.LayersPerBlock.At(0) + 1 // Levels alike: layers, then a resize.
	var block, kind string
	var rest []string
	index := func(i int) int {
		if i >= len(p) {
			return -1
		}
		n, err := strconv.Atoi(p[i])
		if err != nil {
			return -1
		}
		return n
	}
	level, j := index(1), index(3)
	switch {
	case p[0] == "mid_block" && len(p) > 3:
		kind, rest, j = p[1], p[3:], index(2)
		place := map[string]int{"resnets0": 0, "attentions0": 1, "resnets1": 2}
		at, ok := place[kind+p[2]]
		if !ok {
			return source{}, lost
		}
		block = fmt.Sprintf("middle_block.%d", at)
	case len(p) < 5 || level < 0 || j < 0:
		return source{}, lost
	case p[0] == "down_blocks":
		kind, rest = p[2], p[4:]
		switch kind {
		case "resnets":
			block = fmt.Sprintf("input_blocks.%d.0", 1+level*per+j)
		case "attentions":
			block = fmt.Sprintf("input_blocks.%d.1", 1+level*per+j)
		case "downsamplers":
			return whole(fmt.Sprintf("input_blocks.%d.0.op.%s", level*per+per, leaf)), nil
		}
	case p[0] == "up_blocks":
		kind, rest = p[2], p[4:]
		switch kind {
		case "resnets":
			block = fmt.Sprintf("output_blocks.%d.0", level*per+j)
		case "attentions":
			block = fmt.Sprintf("output_blocks.%d.1", level*per+j)
		case "upsamplers":
			at := 1
			if c.UpBlockTypes[level] != "UpBlock2D" {
				at = 2
			}
			return whole(fmt.Sprintf("output_blocks.%d.%d.conv.%s", level*per+per-1, at, leaf)), nil
		}
	}
	if block == "" || len(rest) < 2 {
		return source{}, lost
	}
	if kind == "resnets" {
		part, ok := resnetParts[rest[0]]
		if !ok {
			return source{}, lost
		}
		return whole(block + "." + part + "." + leaf), nil
	}
	if c.Class == unet.Conditional { // Transformers have the same names inside.
		return whole(block + "." + strings.Join(rest, ".")), nil
	}
	switch inside := strings.Join(rest[:len(rest)-1], "."); inside {
	case "group_norm":
		return whole(block + ".norm." + leaf), nil
	case "to_out.0":
		return whole(block + ".proj_out." + leaf), nil
	case "to_q", "to_k", "to_v":
		return source{name: block + ".qkv." + leaf, part: slices.Index([]string{"to_q", "to_k", "to_v"}, inside)}, nil
	}
	return source{}, lost
}

func cutLast(name string) (before, last string, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// vaeName returns the source, below "first_stage_model.", of an autoencoder's
// tensor. levels is how many resolutions it has.
func vaeName(levels int, name string) (source, error) {
	p := strings.Split(name, ".")
	lost := fmt.Errorf("autoencoder tensor %q has no name in CompVis' checkpoints", name)
	switch p[0] {
	case "quant_conv", "post_quant_conv", "quantize":
		return whole(name), nil
	case "encoder", "decoder":
	default:
		return source{}, lost
	}
	side, rest := p[0], p[1:]
	join := func(parts ...string) (source, error) { return whole(side + "." + strings.Join(parts, ".")), nil }
	leaf := rest[len(rest)-1]
	switch {
	case rest[0] == "conv_in" || rest[0] == "conv_out":
		return join(rest...)
	case rest[0] == "conv_norm_out":
		return join("norm_out", leaf)
	case rest[0] == "mid_block" && len(rest) > 3 && rest[1] == "resnets":
		n, err := strconv.Atoi(rest[2])
		if err != nil {
			return source{}, lost
		}
		return join(fmt.Sprintf("mid.block_%d", n+1), shortcut(rest[3]), leaf)
	case rest[0] == "mid_block" && len(rest) > 3:
		part, ok := map[string]string{"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}[rest[3]]
		if !ok {
			return source{}, lost
		}
		return join("mid.attn_1", part, leaf)
	case len(rest) < 5:
		return source{}, lost
	}
	level, err := strconv.Atoi(rest[1])
	if err != nil {
		return source{}, lost
	}
	way := "down"
	if rest[0] == "up_blocks" {
		way, level = "up", levels-1-level // CompVis counts from the finest.
	}
	switch rest[2] {
	case "resnets":
		return join(way, strconv.Itoa(level), "block", rest[3], shortcut(rest[4]), leaf)
	case "downsamplers":
		return join(way, strconv.Itoa(level), "downsample.conv", leaf)
	case "upsamplers":
		return join(way, strconv.Itoa(level), "upsample.conv", leaf)
	}
	return source{}, lost
}

func shortcut(part string) string {
	if part == "conv_shortcut" {
		return "nin_shortcut"
	}
	return part
}

// bertName returns the source, below "cond_stage_model.transformer.", of a tensor
// of LDM's BERT: its layers are pairs of attention and network.
func bertName(name string) (source, error) {
	fixed := map[string]string{"model.embed_tokens.weight": "token_emb.weight", "model.embed_positions.weight": "pos_emb.emb.weight",
		"model.layer_norm.weight": "norm.weight", "model.layer_norm.bias": "norm.bias", "to_logits.weight": "to_logits.weight", "to_logits.bias": "to_logits.bias"}
	if s, ok := fixed[name]; ok {
		return whole(s), nil
	}
	lost := fmt.Errorf("text encoder's tensor %q has no name in CompVis' checkpoints", name)
	rest, ok := strings.CutPrefix(name, "model.layers.")
	number, rest, ok2 := strings.Cut(rest, ".")
	i, err := strconv.Atoi(number)
	if !ok || !ok2 || err != nil {
		return source{}, lost
	}
	module, leaf, _ := cutLast(rest)
	attention, network := fmt.Sprintf("attn_layers.layers.%d", 2*i), fmt.Sprintf("attn_layers.layers.%d", 2*i+1)
	places := map[string]string{"self_attn_layer_norm": attention + ".0", "final_layer_norm": network + ".0",
		"self_attn.q_proj": attention + ".1.to_q", "self_attn.k_proj": attention + ".1.to_k", "self_attn.v_proj": attention + ".1.to_v",
		"self_attn.out_proj": attention + ".1.to_out", "fc1": network + ".1.net.0.0", "fc2": network + ".1.net.2"}
	place, ok := places[module]
	if !ok {
		return source{}, lost
	}
	return whole(place + "." + leaf), nil
}
