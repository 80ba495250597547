package adapter

import (
	"encoding/json"
	"fmt"

	"github.com/scumble-dp/scumble/nn"
)

// Config is what a model folder must keep to run a model with adapter branches:
// its weights carry their tensors. With Targets, or TargetPattern, it is LoRA,
// as PEFT configures it; else LoDA.
type Config struct {
	Rank   int      `json:"r"`
	Alpha  float64  `json:"lora_alpha"`       // Zero means the rank.
	Core   Core     `json:"core"`             // LoDA only.
	Kernel int      `json:"kernel"`           // LoDA: smallest kernel that has a branch.
	Layers []string `json:"layers,omitempty"` // LoDA: prefixes below the UNet; none is all of it.

	Targets        []string           `json:"-"` // LoRA: layers whose name is one of these or ends in a dot and one of them.
	TargetPattern  string             `json:"-"` // LoRA: instead, a regular expression for whole names, or "all-linear".
	Exclude        []string           `json:"-"` // LoRA: layers left out, as Targets.
	RankPattern    map[string]int     `json:"-"` // LoRA: other ranks by regular expression for ends of names.
	AlphaPattern   map[string]float64 `json:"-"` // LoRA: other alphas likewise.
	RankStabilized bool               `json:"-"` // LoRA: scale by alpha/√rank instead of alpha/rank.

	extra map[string]json.RawMessage // Other keys of PEFT's file, as read.
}

// IsLoRA reports whether the branches are those of LoRA, which PEFT can load.
func (c *Config) IsLoRA() bool { return len(c.Targets) > 0 || c.TargetPattern != "" }

// IsLinear reports whether the branches are linear, so that they can be merged
// into the layers' weights.
func (c *Config) IsLinear() bool { return c.IsLoRA() || c.Core == LinearCore }

// Adapter returns the branch for the layers of a UNet whose parameters begin
// with prefix and a dot ("unet"), or with nothing if it is "".
func (c *Config) Adapter(prefix string) (nn.Adapter, error) {
	if c.IsLoRA() {
		return c.lora(prefix)
	}
	var layers []string
	switch {
	case prefix == "":
		layers = c.Layers
	case len(c.Layers) == 0:
		layers = []string{prefix}
	default:
		for _, l := range c.Layers {
			layers = append(layers, prefix+"."+l)
		}
	}
	l := &LoDA{Rank: c.Rank, Alpha: c.Alpha, Core: c.Core, Target: Convolutions(c.Kernel, layers...)}
	return l, l.Validate()
}

// Scale returns the factor of a layer's branch, and its rank. name is the
// layer's, below the UNet. Alpha zero means the rank.
func (c *Config) Scale(name string) (scale float64, rank int, err error) {
	if !c.IsLoRA() {
		if c.Alpha == 0 {
			return 1, c.Rank, nil
		}
		return c.Alpha / float64(c.Rank), c.Rank, nil
	}
	l, err := c.lora("")
	if err != nil {
		return 0, 0, fmt.Errorf("adapter: %w", err)
	}
	rank, scale = l.of(name)
	return scale, rank, nil
}
