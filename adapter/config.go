package adapter

import "github.com/scumble-dp/scumble/nn"

// Config is what a model folder must keep to run a model with a LoDA branch:
// its weights carry the branch's tensors.
type Config struct {
	Rank   int      `json:"r"`
	Alpha  float64  `json:"lora_alpha"`
	Core   Core     `json:"core"`
	Kernel int      `json:"kernel"`           // Smallest kernel that has a branch.
	Layers []string `json:"layers,omitempty"` // Prefixes below the UNet; none is all of it.
}

// Adapter returns the branch for the layers of a UNet whose parameters begin
// with prefix and a dot ("unet"), or with nothing if it is "".
func (c *Config) Adapter(prefix string) (nn.Adapter, error) {
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
