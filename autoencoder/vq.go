package autoencoder

import (
	"encoding/json"
	"fmt"
	"maps"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas

	"github.com/scumble-dp/scumble/nn"
)

const vqClassName = "VQModel"

// Codebook is the table that the latents of a VQModel are rounded to.
type Codebook struct {
	Entries  int // Rows of the table.
	Channels int // Of a latent: what the diffusion model sees.
}

// DefaultVQConfig returns what diffusers assumes for keys that the file of a
// VQModel lacks.
func DefaultVQConfig() *Config {
	c := DefaultConfig()
	c.LatentChannels, c.Codebook = 3, &Codebook{Entries: 256, Channels: 3}
	return c
}

// Quantize rounds latents to the nearest entries of the codebook, by Euclidean
// distance (van den Oord et al. 2017, Eq. 1). The codebook is frozen: it has no
// gradient rule, and no gradient passes.
//
//   - latent: [rows, height, width, Codebook.Channels].
//   - codes: [rows, height, width] int32, in [0, Codebook.Entries).
//   - quantized: as latent.
func (c *Config) Quantize(s *nn.Scope, latent *Node) (codes, quantized *Node) {
	return nn.Nearest(s.In("quantize.embedding"), latent, c.Codebook.Entries)
}

// vqFile is config.json of a VQModel.
type vqFile struct {
	Class              string   `json:"_class_name"`
	ActFn              string   `json:"act_fn"`
	BlockOutChannels   []int    `json:"block_out_channels"`
	DownBlockTypes     []string `json:"down_block_types"`
	InChannels         int      `json:"in_channels"`
	LatentChannels     int      `json:"latent_channels"`
	LayersPerBlock     int      `json:"layers_per_block"`
	LookupFromCodebook bool     `json:"lookup_from_codebook"`
	MidAttention       bool     `json:"mid_block_add_attention"`
	NormNumGroups      int      `json:"norm_num_groups"`
	NormType           string   `json:"norm_type"`
	Entries            int      `json:"num_vq_embeddings"`
	OutChannels        int      `json:"out_channels"`
	SampleSize         *int     `json:"sample_size"`
	ScalingFactor      float64  `json:"scaling_factor"`
	UpBlockTypes       []string `json:"up_block_types"`
	Channels           *int     `json:"vq_embed_dim"` // Null: as latent_channels.
}

// vqFile returns the file form of c.
func (c *Config) vqFile() vqFile {
	f := c.file()
	return vqFile{
		Class: vqClassName, ActFn: f.ActFn, BlockOutChannels: f.BlockOutChannels, DownBlockTypes: f.DownBlockTypes,
		InChannels: f.InChannels, LatentChannels: f.LatentChannels, LayersPerBlock: f.LayersPerBlock, MidAttention: f.MidAttention,
		NormNumGroups: f.NormNumGroups, NormType: "group", Entries: c.Codebook.Entries, OutChannels: f.OutChannels,
		SampleSize: f.SampleSize, ScalingFactor: f.ScalingFactor, UpBlockTypes: f.UpBlockTypes, Channels: &c.Codebook.Channels,
	}
}

// parseVQ reads the config of a VQModel; extra holds all its keys.
func parseVQ(data []byte, extra map[string]json.RawMessage) (*Config, error) {
	f := DefaultVQConfig().vqFile()
	f.DownBlockTypes, f.UpBlockTypes, f.Channels = []string{downBlock}, []string{upBlock}, nil
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("autoencoder config: %w", err)
	}
	switch {
	case f.ActFn != "silu" && f.ActFn != "swish":
		return nil, fmt.Errorf("autoencoder config: act_fn is %q, want \"silu\"; no other is implemented", f.ActFn)
	case f.NormType != "group":
		return nil, fmt.Errorf("autoencoder config: norm_type is %q, want \"group\"; no other is implemented", f.NormType)
	case f.LookupFromCodebook:
		return nil, fmt.Errorf("autoencoder config: lookup_from_codebook is true, want false; models of codes are not implemented")
	}
	if err := checkBlocks(f.DownBlockTypes, f.UpBlockTypes, len(f.BlockOutChannels)); err != nil {
		return nil, err
	}
	known, err := object(vqFile{})
	if err != nil {
		return nil, err
	}
	for key := range known {
		delete(extra, key)
	}
	c := &Config{
		InChannels: f.InChannels, OutChannels: f.OutChannels, BlockOutChannels: f.BlockOutChannels,
		LayersPerBlock: f.LayersPerBlock, LatentChannels: f.LatentChannels, NormNumGroups: f.NormNumGroups,
		LatentScalingFactor: f.ScalingFactor, QuantConv: true, PostQuantConv: true, MidAttention: f.MidAttention,
		Codebook: &Codebook{Entries: f.Entries, Channels: f.LatentChannels}, extra: extra,
	}
	if f.SampleSize != nil {
		c.SampleSize = *f.SampleSize
	}
	if f.Channels != nil {
		c.Codebook.Channels = *f.Channels
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// marshalVQ is MarshalJSON of a VQModel.
func (c *Config) marshalVQ() ([]byte, error) {
	keys, err := object(c.vqFile())
	if err != nil {
		return nil, err
	}
	keys["_diffusers_version"] = json.RawMessage(`"0.42.1"`)
	keys["force_upcast"] = json.RawMessage("false") // The default of this class.
	maps.Copy(keys, c.extra)
	return json.Marshal(keys)
}
