package compvis

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/scumble-dp/scumble/autoencoder"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/unet"
)

// Config is what a model needs of a YAML config of CompVis. Keys that concern
// training are not here.
type Config struct {
	Model struct {
		Params struct {
			LinearStart      float64 `yaml:"linear_start"`
			LinearEnd        float64 `yaml:"linear_end"`
			BetaSchedule     string  `yaml:"beta_schedule"`
			Timesteps        int     `yaml:"timesteps"`
			Parameterization string  `yaml:"parameterization"`
			ScaleFactor      float64 `yaml:"scale_factor"`
			ImageSize        int     `yaml:"image_size"` // Of the latents.
			Channels         int     `yaml:"channels"`
			ConditioningKey  string  `yaml:"conditioning_key"`

			UNet struct {
				Target string     `yaml:"target"`
				Params UNetParams `yaml:"params"`
			} `yaml:"unet_config"`
			FirstStage struct {
				Target string           `yaml:"target"`
				Params FirstStageParams `yaml:"params"`
			} `yaml:"first_stage_config"`
			// A map, or one of CompVis' words such as "__is_unconditional__".
			CondStage any `yaml:"cond_stage_config"`
		} `yaml:"params"`
	} `yaml:"model"`
}

// UNetParams are those of CompVis' UNetModel.
type UNetParams struct {
	ImageSize             int   `yaml:"image_size"`
	InChannels            int   `yaml:"in_channels"`
	OutChannels           int   `yaml:"out_channels"`
	ModelChannels         int   `yaml:"model_channels"`
	AttentionResolutions  []int `yaml:"attention_resolutions"`
	NumResBlocks          int   `yaml:"num_res_blocks"`
	ChannelMult           []int `yaml:"channel_mult"`
	NumHeads              int   `yaml:"num_heads"`
	NumHeadChannels       int   `yaml:"num_head_channels"`
	NumClasses            int   `yaml:"num_classes"`
	UseSpatialTransformer bool  `yaml:"use_spatial_transformer"`
	TransformerDepth      int   `yaml:"transformer_depth"`
	ContextDim            int   `yaml:"context_dim"`
	UseLinear             bool  `yaml:"use_linear_in_transformer"`
	UseScaleShiftNorm     bool  `yaml:"use_scale_shift_norm"`
	ResblockUpdown        bool  `yaml:"resblock_updown"`
	UseNewAttentionOrder  bool  `yaml:"use_new_attention_order"`
	DisableSelfAttentions any   `yaml:"disable_self_attentions"`
	NumAttentionBlocks    any   `yaml:"num_attention_blocks"`
	AdmInChannels         any   `yaml:"adm_in_channels"`
	NPredictCodebookIDs   any   `yaml:"n_embed"`
	ConvResample          *bool `yaml:"conv_resample"`
	Dims                  int   `yaml:"dims"`
	DisableMiddleSelfAttn bool  `yaml:"disable_middle_self_attn"`
	NumHeadsUpsample      int   `yaml:"num_heads_upsample"`
}

// FirstStageParams are those of CompVis' autoencoders.
type FirstStageParams struct {
	EmbedDim int `yaml:"embed_dim"`
	Entries  int `yaml:"n_embed"`
	DD       struct {
		DoubleZ     bool  `yaml:"double_z"`
		ZChannels   int   `yaml:"z_channels"`
		Resolution  int   `yaml:"resolution"`
		InChannels  int   `yaml:"in_channels"`
		OutCh       int   `yaml:"out_ch"`
		Ch          int   `yaml:"ch"`
		ChMult      []int `yaml:"ch_mult"`
		ResBlocks   int   `yaml:"num_res_blocks"`
		Resolutions []int `yaml:"attn_resolutions"`
	} `yaml:"ddconfig"`
}

// condStage is the conditioning, if it is a map.
type condStage struct {
	Target string
	Params struct {
		EmbedDim   int `yaml:"embed_dim"`
		Classes    int `yaml:"n_classes"`
		EmbedWidth int `yaml:"n_embed"`
		Layers     int `yaml:"n_layer"`

		Layer    string `yaml:"layer"` // CLIP: "" or "last"; OpenCLIP: also "penultimate".
		UseWords *bool  `yaml:"use_tokenizer"`
	}
}

// ParseConfig reads a YAML config, such as
// configs/latent-diffusion/celebahq-ldm-vq-4.yaml.
func ParseConfig(data []byte) (*Config, error) {
	c := &Config{}
	p := &c.Model.Params
	p.LinearStart, p.LinearEnd, p.Timesteps, p.ScaleFactor = 1e-4, 2e-2, 1000, 1
	p.Parameterization, p.BetaSchedule = "eps", "linear"
	p.UNet.Params.TransformerDepth, p.UNet.Params.NumHeads, p.UNet.Params.NumHeadChannels, p.UNet.Params.Dims = 1, -1, -1, 2
	if err := yaml.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("model config: %w", err)
	}
	if c.Model.Params.UNet.Target == "" {
		return nil, fmt.Errorf("model config: model.params.unet_config is missing, want a config of CompVis' latent-diffusion or stable-diffusion")
	}
	return c, nil
}

// unetConfig returns the UNet as diffusers configures it.
func (c *Config) unetConfig() (*unet.Config, error) {
	p := c.Model.Params.UNet.Params
	for _, no := range []struct {
		key string
		on  bool
	}{
		{"resblock_updown", p.ResblockUpdown}, {"use_new_attention_order", p.UseNewAttentionOrder}, {"disable_self_attentions", p.DisableSelfAttentions != nil},
		{"num_attention_blocks", p.NumAttentionBlocks != nil}, {"adm_in_channels", p.AdmInChannels != nil}, {"n_embed", p.NPredictCodebookIDs != nil},
		{"conv_resample: false", p.ConvResample != nil && !*p.ConvResample}, {"dims", p.Dims != 2}, {"disable_middle_self_attn", p.DisableMiddleSelfAttn},
		{"num_heads_upsample", p.NumHeadsUpsample > 0 && p.NumHeadsUpsample != p.NumHeads},
	} {
		if no.on {
			return nil, fmt.Errorf("model config: unet_config has %s, which is not implemented", no.key)
		}
	}
	if len(p.ChannelMult) == 0 || len(p.ChannelMult) > 16 || p.ModelChannels < 1 || p.ModelChannels > 1<<16 || p.NumResBlocks < 1 {
		return nil, fmt.Errorf("model config: unet_config has model_channels %d, channel_mult %v and num_res_blocks %d, want positive ones", p.ModelChannels, p.ChannelMult, p.NumResBlocks)
	}
	cross := p.UseSpatialTransformer
	keys := map[string]any{"_class_name": unet.Unconditional, "in_channels": p.InChannels, "out_channels": p.OutChannels,
		"layers_per_block": p.NumResBlocks, "sample_size": max(p.ImageSize, 1), "flip_sin_to_cos": true, "freq_shift": 0, "downsample_padding": 1}
	if c.Model.Params.ImageSize > 0 {
		keys["sample_size"] = c.Model.Params.ImageSize
	}
	if p.UseScaleShiftNorm {
		keys["resnet_time_scale_shift"] = "scale_shift"
	}
	if p.NumClasses > 0 {
		keys["num_class_embeds"] = p.NumClasses
	}
	var widths, heads []int
	var down, up []string
	for i, mult := range p.ChannelMult {
		width := mult * p.ModelChannels
		widths = append(widths, width)
		h := p.NumHeads
		if p.NumHeadChannels > 0 {
			h = width / p.NumHeadChannels
		}
		if h < 1 {
			return nil, fmt.Errorf("model config: unet_config has num_heads %d and num_head_channels %d, want one of them positive", p.NumHeads, p.NumHeadChannels)
		}
		heads = append(heads, h)
		kind := [2]string{"DownBlock2D", "UpBlock2D"}
		switch attends := slices.Contains(p.AttentionResolutions, 1<<i); {
		case attends && cross:
			kind = [2]string{"CrossAttnDownBlock2D", "CrossAttnUpBlock2D"}
		case attends:
			kind = [2]string{"AttnDownBlock2D", "AttnUpBlock2D"}
		}
		down, up = append(down, kind[0]), append(up, kind[1])
	}
	slices.Reverse(up)
	keys["block_out_channels"], keys["down_block_types"], keys["up_block_types"] = widths, down, up
	if cross {
		keys["_class_name"], keys["attention_head_dim"] = unet.Conditional, heads
		keys["cross_attention_dim"], keys["transformer_layers_per_block"], keys["use_linear_projection"] = p.ContextDim, p.TransformerDepth, p.UseLinear
		if p.ContextDim == 0 {
			return nil, fmt.Errorf("model config: unet_config has use_spatial_transformer and no context_dim")
		}
	} else {
		per := p.NumHeadChannels
		for i, w := range widths {
			if per < 1 && slices.Contains(p.AttentionResolutions, 1<<i) || i == len(widths)-1 && per < 1 {
				per = w / heads[i]
			}
		}
		for i, w := range widths {
			if (slices.Contains(p.AttentionResolutions, 1<<i) || i == len(widths)-1) && heads[i]*per != w {
				return nil, fmt.Errorf("model config: unet_config has num_heads %d, which gives heads of different widths per level; not implemented without cross attention", p.NumHeads)
			}
		}
		keys["attention_head_dim"] = per
	}
	data, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	u, err := unet.ParseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("model config: %w", err)
	}
	return u, nil
}

// autoencoderConfig returns the first stage, nil for a model on pixels. scale is
// the latents' factor.
func (c *Config) autoencoderConfig(scale float64) (*autoencoder.Config, error) {
	s := c.Model.Params.FirstStage
	class := ""
	switch name := lastPart(s.Target); name {
	case "IdentityFirstStage":
		return nil, nil
	case "AutoencoderKL":
		class = "AutoencoderKL"
	case "VQModelInterface", "VQModel":
		class = "VQModel"
	default:
		return nil, fmt.Errorf("model config: first_stage_config.target is %q, want AutoencoderKL, VQModelInterface or IdentityFirstStage", s.Target)
	}
	d := s.Params.DD
	if len(d.ChMult) == 0 || len(d.ChMult) > 16 || d.Ch < 1 || d.Ch > 1<<16 {
		return nil, fmt.Errorf("model config: ddconfig has ch %d and ch_mult %v, want positive ones", d.Ch, d.ChMult)
	}
	if len(d.Resolutions) > 0 {
		return nil, fmt.Errorf("model config: ddconfig has attn_resolutions %v, want none: diffusers' autoencoders attend in the middle only", d.Resolutions)
	}
	keys := map[string]any{"_class_name": class, "in_channels": d.InChannels, "out_channels": d.OutCh, "latent_channels": d.ZChannels,
		"layers_per_block": d.ResBlocks, "sample_size": d.Resolution, "scaling_factor": scale, "norm_num_groups": 32}
	var widths []int
	var down, up []string
	for _, mult := range d.ChMult {
		widths, down, up = append(widths, mult*d.Ch), append(down, "DownEncoderBlock2D"), append(up, "UpDecoderBlock2D")
	}
	keys["block_out_channels"], keys["down_block_types"], keys["up_block_types"] = widths, down, up
	if class == "VQModel" {
		keys["num_vq_embeddings"], keys["vq_embed_dim"] = s.Params.Entries, s.Params.EmbedDim
	} else if s.Params.EmbedDim != d.ZChannels {
		return nil, fmt.Errorf("model config: embed_dim is %d and z_channels %d, want as many in AutoencoderKL", s.Params.EmbedDim, d.ZChannels)
	}
	data, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	a, err := autoencoder.ParseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("model config: %w", err)
	}
	return a, nil
}

// schedulerConfig returns the noise schedule.
func (c *Config) schedulerConfig(latent bool) (*diffusion.Config, error) {
	p := c.Model.Params
	// CompVis' "linear" is even in √β, its "sqrt_linear" in β.
	schedule, ok := map[string]string{"linear": "scaled_linear", "sqrt_linear": "linear", "cosine": "squaredcos_cap_v2"}[p.BetaSchedule]
	if !ok {
		return nil, fmt.Errorf("model config: beta_schedule is %q, want linear, sqrt_linear or cosine", p.BetaSchedule)
	}
	prediction, ok := map[string]diffusion.Prediction{"eps": diffusion.PredictNoise, "v": diffusion.PredictV, "x0": diffusion.PredictX0}[p.Parameterization]
	if !ok {
		return nil, fmt.Errorf("model config: parameterization is %q, want eps, v or x0", p.Parameterization)
	}
	data, err := json.Marshal(map[string]any{"_class_name": "DDIMScheduler", "num_train_timesteps": p.Timesteps, "beta_start": p.LinearStart, "beta_end": p.LinearEnd,
		"beta_schedule": schedule, "prediction_type": prediction, "clip_sample": !latent, "set_alpha_to_one": false, "steps_offset": 1})
	if err != nil {
		return nil, err
	}
	return diffusion.ParseConfig(data)
}

// conditioning returns what enters the network besides the image: "", or the last
// part of the target's name.
func (c *Config) conditioning() (string, *condStage, error) {
	switch v := c.Model.Params.CondStage.(type) {
	case nil:
		return "", nil, nil
	case string:
		if v == "__is_unconditional__" {
			return "", nil, nil
		}
		return "", nil, fmt.Errorf("model config: cond_stage_config is %q, want a class or text embedder, or __is_unconditional__", v)
	case map[string]any:
		data, err := yaml.Marshal(v)
		if err != nil {
			return "", nil, err
		}
		var s condStage
		if err := yaml.Unmarshal(data, &s); err != nil {
			return "", nil, fmt.Errorf("model config: cond_stage_config: %w", err)
		}
		if key := c.Model.Params.ConditioningKey; key != "crossattn" && key != "" {
			return "", nil, fmt.Errorf("model config: conditioning_key is %q, want crossattn; no other is implemented", key)
		}
		return lastPart(s.Target), &s, nil
	}
	return "", nil, fmt.Errorf("model config: cond_stage_config is %T, want a map or a word", c.Model.Params.CondStage)
}

func lastPart(target string) string { return target[strings.LastIndexByte(target, '.')+1:] }
