package unet

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// classKeys holds all keys of a class with diffusers' defaults.
var classKeys = map[Class]map[string]json.RawMessage{
	Unconditional: mustKeys(`{
		"_class_name": "UNet2DModel",
		"_diffusers_version": "0.42.1",
		"sample_size": null,
		"in_channels": 3,
		"out_channels": 3,
		"center_input_sample": false,
		"time_embedding_type": "positional",
		"time_embedding_dim": null,
		"freq_shift": 0,
		"flip_sin_to_cos": true,
		"down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
		"mid_block_type": "UNetMidBlock2D",
		"up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
		"block_out_channels": [224, 448, 672, 896],
		"layers_per_block": 2,
		"mid_block_scale_factor": 1,
		"downsample_padding": 1,
		"downsample_type": "conv",
		"upsample_type": "conv",
		"dropout": 0.0,
		"act_fn": "silu",
		"attention_head_dim": 8,
		"norm_num_groups": 32,
		"attn_norm_num_groups": null,
		"norm_eps": 1e-05,
		"resnet_time_scale_shift": "default",
		"add_attention": true,
		"class_embed_type": null,
		"num_class_embeds": null,
		"num_train_timesteps": null
	}`),
	Conditional: mustKeys(`{
		"_class_name": "UNet2DConditionModel",
		"_diffusers_version": "0.42.1",
		"sample_size": null,
		"in_channels": 4,
		"out_channels": 4,
		"center_input_sample": false,
		"flip_sin_to_cos": true,
		"freq_shift": 0,
		"down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
		"mid_block_type": "UNetMidBlock2DCrossAttn",
		"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
		"only_cross_attention": false,
		"block_out_channels": [320, 640, 1280, 1280],
		"layers_per_block": 2,
		"downsample_padding": 1,
		"mid_block_scale_factor": 1,
		"dropout": 0.0,
		"act_fn": "silu",
		"norm_num_groups": 32,
		"norm_eps": 1e-05,
		"cross_attention_dim": 1280,
		"transformer_layers_per_block": 1,
		"reverse_transformer_layers_per_block": null,
		"encoder_hid_dim": null,
		"encoder_hid_dim_type": null,
		"attention_head_dim": 8,
		"num_attention_heads": null,
		"dual_cross_attention": false,
		"use_linear_projection": false,
		"class_embed_type": null,
		"addition_embed_type": null,
		"addition_time_embed_dim": null,
		"num_class_embeds": null,
		"upcast_attention": false,
		"resnet_time_scale_shift": "default",
		"resnet_skip_time_act": false,
		"resnet_out_scale_factor": 1.0,
		"time_embedding_type": "positional",
		"time_embedding_dim": null,
		"time_embedding_act_fn": null,
		"timestep_post_act": null,
		"time_cond_proj_dim": null,
		"conv_in_kernel": 3,
		"conv_out_kernel": 3,
		"projection_class_embeddings_input_dim": null,
		"attention_type": "default",
		"class_embeddings_concat": false,
		"mid_block_only_cross_attention": null,
		"cross_attention_norm": null,
		"addition_embed_type_num_heads": 64
	}`),
}

// fixedKeys holds, for each key without a field that changes the computation,
// the values we have.
//
// The other keys without a field change nothing here: upcast_attention because
// attention is in float32 anyway; num_train_timesteps, addition_time_embed_dim,
// addition_embed_type_num_heads and projection_class_embeddings_input_dim because
// they go with embeddings we refuse; mid_block_only_cross_attention because only a
// middle block that we refuse reads it.
var fixedKeys = map[string][]any{
	"act_fn":                               {"silu", "swish"}, // Two names of one function.
	"addition_embed_type":                  {nil},
	"attention_type":                       {"default"},
	"class_embed_type":                     {nil},
	"class_embeddings_concat":              {false},
	"cross_attention_norm":                 {nil},
	"downsample_type":                      {"conv"},
	"dropout":                              {0.0},
	"dual_cross_attention":                 {false},
	"encoder_hid_dim":                      {nil},
	"encoder_hid_dim_type":                 {nil},
	"num_attention_heads":                  {nil}, // Diffusers refuses it too.
	"resnet_out_scale_factor":              {1.0},
	"resnet_skip_time_act":                 {false},
	"reverse_transformer_layers_per_block": {nil},
	"time_cond_proj_dim":                   {nil},
	"time_embedding_act_fn":                {nil},
	"time_embedding_type":                  {"positional"},
	"timestep_post_act":                    {nil},
	"upsample_type":                        {"conv"},
}

// checkFixed returns an error if the key changes the computation of the class
// and has a value that we do not have.
func checkFixed(class Class, key string, value json.RawMessage) error {
	allowed, ok := fixedKeys[key]
	if !ok || classKeys[class][key] == nil {
		return nil
	}
	var got any
	if err := json.Unmarshal(value, &got); err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	if slices.ContainsFunc(allowed, func(want any) bool { return reflect.DeepEqual(got, want) }) {
		return nil
	}
	want, err := json.Marshal(allowed[0])
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	if key == "dropout" {
		return fmt.Errorf("key %q is %s, but we have no dropout; set it to 0, which leaves the weights valid", key, value)
	}
	return fmt.Errorf("key %q is %s, which is not supported; only %s is", key, value, want)
}

// nullable reports whether the zero value of a key's field is written as null.
func (c *Config) nullable(key string) bool {
	switch key {
	case "mid_block_type", "attention_head_dim", "cross_attention_dim":
		return true
	}
	return string(classKeys[c.Class][key]) == "null"
}

func mustKeys(object string) map[string]json.RawMessage {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal([]byte(object), &keys); err != nil {
		panic(err)
	}
	return keys
}
