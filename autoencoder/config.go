package autoencoder

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Config is the architecture of an AutoencoderKL, or of a VQModel where Codebook
// is set. [DefaultConfig] and [DefaultVQConfig] give diffusers' defaults.
type Config struct {
	InChannels, OutChannels int   // Of images: 1 or 3.
	BlockOutChannels        []int // Channels per level; each level but the last halves height and width.
	LayersPerBlock          int   // Residual blocks per level of the encoder; the decoder has one more.
	LatentChannels          int
	NormNumGroups           int // Groups of every group norm.
	SampleSize              int // Height and width of the training images; 0 if unknown. Information only.

	// Latents minus LatentShift, times LatentScalingFactor, are what the
	// diffusion model sees, with about unit variance. Both come from public data.
	LatentScalingFactor, LatentShift float64

	QuantConv     bool // 1×1 convolution after the encoder.
	PostQuantConv bool // 1×1 convolution before the decoder.
	MidAttention  bool // Self-attention at the lowest resolution.

	// Codebook, if not nil, makes this a VQModel: latents are rounded to entries
	// of a table before they are decoded. Both 1×1 convolutions are then there.
	Codebook *Codebook

	extra map[string]json.RawMessage // Keys that do not change results, as read.
}

// DefaultConfig returns what diffusers assumes for keys that a file lacks.
func DefaultConfig() *Config {
	return &Config{
		InChannels: 3, OutChannels: 3, BlockOutChannels: []int{64}, LayersPerBlock: 1,
		LatentChannels: 4, NormNumGroups: 32, SampleSize: 32, LatentScalingFactor: 0.18215,
		QuantConv: true, PostQuantConv: true, MidAttention: true,
	}
}

// file is config.json of an AutoencoderKL. Pointers tell null and absent apart
// from zero.
type file struct {
	Class            string     `json:"_class_name"`
	ActFn            string     `json:"act_fn"`
	BlockOutChannels []int      `json:"block_out_channels"`
	DownBlockTypes   []string   `json:"down_block_types"`
	InChannels       int        `json:"in_channels"`
	LatentChannels   int        `json:"latent_channels"`
	LatentsMean      *[]float64 `json:"latents_mean"`
	LatentsStd       *[]float64 `json:"latents_std"`
	LayersPerBlock   int        `json:"layers_per_block"`
	MidAttention     bool       `json:"mid_block_add_attention"`
	NormNumGroups    int        `json:"norm_num_groups"`
	OutChannels      int        `json:"out_channels"`
	SampleSize       *int       `json:"sample_size"`
	ScalingFactor    float64    `json:"scaling_factor"`
	ShiftFactor      *float64   `json:"shift_factor"`
	UpBlockTypes     []string   `json:"up_block_types"`
	PostQuantConv    bool       `json:"use_post_quant_conv"`
	QuantConv        bool       `json:"use_quant_conv"`
}

const (
	className = "AutoencoderKL"
	downBlock = "DownEncoderBlock2D"
	upBlock   = "UpDecoderBlock2D"
)

// file returns the file form of c.
func (c *Config) file() file {
	f := file{
		Class: className, ActFn: "silu", BlockOutChannels: c.BlockOutChannels,
		InChannels: c.InChannels, OutChannels: c.OutChannels, LatentChannels: c.LatentChannels,
		LayersPerBlock: c.LayersPerBlock, MidAttention: c.MidAttention, NormNumGroups: c.NormNumGroups,
		ScalingFactor: c.LatentScalingFactor, PostQuantConv: c.PostQuantConv, QuantConv: c.QuantConv,
	}
	if c.SampleSize != 0 {
		f.SampleSize = &c.SampleSize
	}
	if c.LatentShift != 0 {
		f.ShiftFactor = &c.LatentShift
	}
	for range c.BlockOutChannels {
		f.DownBlockTypes = append(f.DownBlockTypes, downBlock)
		f.UpBlockTypes = append(f.UpBlockTypes, upBlock)
	}
	return f
}

// ParseConfig reads a diffusers config.json of either class. Keys that are absent take
// diffusers' defaults, keys that are not known are kept for [Config.MarshalJSON],
// and a known one with a value that this package does not implement is an error
// that names it.
func ParseConfig(data []byte) (*Config, error) {
	var extra map[string]json.RawMessage
	if err := json.Unmarshal(data, &extra); err != nil {
		return nil, fmt.Errorf("autoencoder config: %w", err)
	}
	if string(extra["_class_name"]) == `"`+vqClassName+`"` {
		return parseVQ(data, extra)
	}
	f := DefaultConfig().file()
	f.DownBlockTypes, f.UpBlockTypes = []string{downBlock}, []string{upBlock}
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("autoencoder config: %w", err)
	}
	if err := f.supported(); err != nil {
		return nil, err
	}
	for key := range known() {
		delete(extra, key)
	}
	c := &Config{
		InChannels: f.InChannels, OutChannels: f.OutChannels, BlockOutChannels: f.BlockOutChannels,
		LayersPerBlock: f.LayersPerBlock, LatentChannels: f.LatentChannels, NormNumGroups: f.NormNumGroups,
		LatentScalingFactor: f.ScalingFactor, QuantConv: f.QuantConv, PostQuantConv: f.PostQuantConv,
		MidAttention: f.MidAttention, extra: extra,
	}
	if f.SampleSize != nil {
		c.SampleSize = *f.SampleSize
	}
	if f.ShiftFactor != nil {
		c.LatentShift = *f.ShiftFactor
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// supported returns an error naming the first key whose value we lack.
func (f *file) supported() error {
	if f.Class != className {
		return fmt.Errorf("autoencoder config: _class_name is %q, want %q or %q", f.Class, className, vqClassName)
	}
	if f.ActFn != "silu" && f.ActFn != "swish" { // Two names of one function.
		return fmt.Errorf("autoencoder config: act_fn is %q, want \"silu\"; no other is implemented", f.ActFn)
	}
	if f.LatentsMean != nil || f.LatentsStd != nil {
		return fmt.Errorf("autoencoder config: latents_mean and latents_std are set, want null; " +
			"only scaling_factor and shift_factor are implemented")
	}
	return checkBlocks(f.DownBlockTypes, f.UpBlockTypes, len(f.BlockOutChannels))
}

// checkBlocks returns an error unless both lists name n blocks that we have.
func checkBlocks(down, up []string, n int) error {
	for _, list := range []struct {
		key, want string
		got       []string
	}{{"down_block_types", downBlock, down}, {"up_block_types", upBlock, up}} {
		if len(list.got) != n {
			return fmt.Errorf("autoencoder config: %s has %d entries, want %d as block_out_channels",
				list.key, len(list.got), n)
		}
		for _, name := range list.got {
			if name != list.want {
				return fmt.Errorf("autoencoder config: %s has %q, want only %q; no other is implemented",
					list.key, name, list.want)
			}
		}
	}
	return nil
}

// Validate returns an error unless c describes an autoencoder that can be built.
func (c *Config) Validate() error {
	for _, f := range []struct {
		key   string
		value int
	}{
		{"in_channels", c.InChannels}, {"out_channels", c.OutChannels},
		{"latent_channels", c.LatentChannels}, {"layers_per_block", c.LayersPerBlock},
		{"norm_num_groups", c.NormNumGroups}, {"number of block_out_channels", len(c.BlockOutChannels)},
	} {
		if f.value < 1 || f.value > 1<<16 {
			return fmt.Errorf("autoencoder config: %s is %d, want 1 to 65536", f.key, f.value)
		}
	}
	if len(c.BlockOutChannels) > 16 {
		return fmt.Errorf("autoencoder config: %d block_out_channels, want at most 16", len(c.BlockOutChannels))
	}
	for _, n := range c.BlockOutChannels {
		if n < 1 || n%c.NormNumGroups != 0 {
			return fmt.Errorf("autoencoder config: block_out_channels has %d, want a positive multiple of norm_num_groups %d",
				n, c.NormNumGroups)
		}
	}
	if b := c.Codebook; b != nil {
		if b.Entries < 1 || b.Entries > 1<<24 || b.Channels < 1 || b.Channels > 1<<16 {
			return fmt.Errorf("autoencoder config: num_vq_embeddings is %d and vq_embed_dim %d, want 1 to 16777216 and 1 to 65536", b.Entries, b.Channels)
		}
		if !c.QuantConv || !c.PostQuantConv || c.LatentShift != 0 {
			return fmt.Errorf("autoencoder config: a VQModel without its quant_conv or post_quant_conv or with a latent shift of %g, want both and none", c.LatentShift)
		}
	}
	if c.LatentScalingFactor == 0 {
		return fmt.Errorf("autoencoder config: scaling_factor is 0, want the inverse of the latents' standard deviation")
	}
	return nil
}

// MarshalJSON writes every key, default or not, and those that ParseConfig did
// not know, as read.
func (c *Config) MarshalJSON() ([]byte, error) {
	if c.Codebook != nil {
		return c.marshalVQ()
	}
	keys, err := object(c.file())
	if err != nil {
		return nil, err
	}
	keys["_diffusers_version"] = json.RawMessage(`"0.42.1"`) // Whose keys these are.
	keys["force_upcast"] = json.RawMessage("true")           // The default; says nothing in float32.
	maps.Copy(keys, c.extra)
	return json.Marshal(keys)
}

// known returns the keys that a Config has fields for.
func known() map[string]json.RawMessage {
	keys, err := object(file{})
	if err != nil {
		panic(err) // A struct of plain fields.
	}
	return keys
}

func object(f any) (keys map[string]json.RawMessage, err error) {
	data, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("autoencoder config: %w", err)
	}
	err = json.Unmarshal(data, &keys)
	return keys, err
}

// Factor returns how many pixels wide one latent is: 2 per level but the last.
func (c *Config) Factor() int { return 1 << (len(c.BlockOutChannels) - 1) }

// Depth returns the channels of a latent, as the diffusion model sees it.
func (c *Config) Depth() int {
	if c.Codebook != nil {
		return c.Codebook.Channels
	}
	return c.LatentChannels
}

// Class returns diffusers' name of the class.
func (c *Config) Class() string {
	if c.Codebook != nil {
		return vqClassName
	}
	return className
}

// reversed returns the channels per level from the lowest resolution up.
func (c *Config) reversed() []int {
	r := slices.Clone(c.BlockOutChannels)
	slices.Reverse(r)
	return r
}
