package unet

import "fmt"

// block is one level of the network, worked out from the configuration.
type block struct {
	path      string // "down_blocks.0", "mid_block", "up_blocks.1".
	resnets   []resnet
	attention *attention // After each resnet (in the middle: between them); nil for none.
	resize    bool       // Down- or upsampler at the end.
	scale     float64    // Divides residual sums; 1 but in the middle block.
}

// resnet gives the channels of a residual block.
type resnet struct{ in, out int }

// attention is what the attention modules of one block have in common.
type attention struct {
	count     int // Modules.
	heads     int
	groups    int  // Of the group norm; 0 for none.
	spatial   bool // A transformer with cross attention; else plain self-attention.
	depth     int  // Transformer layers.
	context   int  // Width of the context; 0 for no cross attention.
	crossOnly bool // The first attention of a layer also looks at the context.
}

// plan returns the blocks in the order of the data; mid is nil if there is none.
// It is defined for valid configurations.
func (c *Config) plan() (down []block, mid *block, up []block) {
	n := len(c.BlockOutChannels)
	skips := []int{c.BlockOutChannels[0]} // Channels of what the up blocks will meet.
	in := c.BlockOutChannels[0]
	for i, out := range c.BlockOutChannels {
		b := block{path: fmt.Sprintf("down_blocks.%d", i), resize: i < n-1, scale: 1}
		for range c.LayersPerBlock.At(i) {
			b.resnets = append(b.resnets, resnet{in, out})
			in = out
			skips = append(skips, out)
		}
		if b.resize {
			skips = append(skips, out)
		}
		b.attention = c.attention(c.DownBlockTypes[i], i, len(b.resnets))
		down = append(down, b)
	}

	if c.MidBlockType != "" {
		mid = &block{path: "mid_block", resnets: []resnet{{in, in}, {in, in}}, scale: c.MidBlockScaleFactor}
		mid.attention = c.attention(c.MidBlockType, n-1, 1)
		if c.Class == Conditional && mid.attention == nil {
			mid.resnets = mid.resnets[:1]
		}
	}

	for i := range n {
		level := n - 1 - i // The down block at the same size.
		out := c.BlockOutChannels[level]
		b := block{path: fmt.Sprintf("up_blocks.%d", i), resize: i < n-1, scale: 1}
		for range c.LayersPerBlock.At(level) + 1 {
			b.resnets = append(b.resnets, resnet{in + skips[len(skips)-1], out})
			skips = skips[:len(skips)-1]
			in = out
		}
		b.attention = c.attention(c.UpBlockTypes[i], level, len(b.resnets))
		up = append(up, b)
	}
	return down, mid, up
}

// attention returns the attention of a block of the given type, nil if it has
// none. level is the number of the down block of the same size.
func (c *Config) attention(blockType string, level, count int) *attention {
	channels := c.BlockOutChannels[level]
	a := &attention{count: count, groups: c.NormNumGroups}
	switch blockType {
	case "AttnDownBlock2D", "AttnUpBlock2D":
		a.heads = c.plainHeads(channels)
	case "UNetMidBlock2D":
		if c.Class == Conditional || !c.AddAttention {
			return nil
		}
		a.heads = c.plainHeads(channels)
		switch {
		case c.AttnNormNumGroups > 0:
			a.groups = c.AttnNormNumGroups
		case c.ResnetTimeScaleShift == "scale_shift":
			a.groups = 0
		}
	case "CrossAttnDownBlock2D", "CrossAttnUpBlock2D", "UNetMidBlock2DCrossAttn":
		a.spatial = true
		a.heads = c.AttentionHeadDim.At(level)
		a.depth = c.TransformerLayersPerBlock.At(level)
		a.context = c.CrossAttentionDim.At(level)
		a.crossOnly = blockType != "UNetMidBlock2DCrossAttn" && c.OnlyCrossAttention.At(level)
	default:
		return nil
	}
	return a
}

// plainHeads returns the number of heads of a plain attention.
func (c *Config) plainHeads(channels int) int {
	if len(c.AttentionHeadDim) == 0 {
		return 1
	}
	return channels / c.AttentionHeadDim[0]
}

// blocks returns the plan as one list in the order of the data.
func (c *Config) blocks() []block {
	down, mid, up := c.plan()
	all := down
	if mid != nil {
		all = append(all, *mid)
	}
	return append(all, up...)
}

// AttentionModules returns the names of the attention modules, such as
// "mid_block.attentions.0", in the order of the data: input blocks, middle,
// output blocks. A parameter belongs to the module if its name starts with the
// module's and a dot. The configuration must be valid.
func (c *Config) AttentionModules() []string {
	var names []string
	for _, b := range c.blocks() {
		if b.attention == nil {
			continue
		}
		for j := range b.attention.count {
			names = append(names, fmt.Sprintf("%s.attentions.%d", b.path, j))
		}
	}
	return names
}

// Resnets returns the names of the residual blocks, such as
// "down_blocks.0.resnets.1", in the order of the data.
func (c *Config) Resnets() []string {
	var names []string
	for _, b := range c.blocks() {
		for j := range b.resnets {
			names = append(names, fmt.Sprintf("%s.resnets.%d", b.path, j))
		}
	}
	return names
}
