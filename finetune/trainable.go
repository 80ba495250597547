package finetune

import (
	"fmt"
	"slices"
	"strings"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/nn"
)

// Block is a part of the UNet.
type Block string

const (
	InputBlocks  Block = "input"  // conv_in and down_blocks.
	MiddleBlock  Block = "middle" // mid_block.
	OutputBlocks Block = "output" // up_blocks, conv_norm_out and conv_out.
)

// Parameters says which parameters of a layer train.
type Parameters string

const (
	AllParameters Parameters = ""              // Every one.
	NormAndBias   Parameters = "norm-and-bias" // Scales and shifts of norms, and biases (BitFit, https://arxiv.org/abs/2106.10199).
)

// blockPrefixes are the UNet's parts by the names of diffusers. What belongs to
// none of them, such as the time embedding, trains with all of them only.
var blockPrefixes = map[Block][]string{
	InputBlocks:  {"unet.conv_in.", "unet.down_blocks."},
	MiddleBlock:  {"unet.mid_block."},
	OutputBlocks: {"unet.up_blocks.", "unet.conv_norm_out.", "unet.conv_out."},
}

// inBlocks says whether a parameter is in one of the blocks; no blocks are all.
func inBlocks(name string, blocks []Block) bool {
	if len(blocks) == 0 {
		return true
	}
	for _, b := range blocks {
		for _, prefix := range blockPrefixes[b] {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
	}
	return false
}

// checkBlocks reports a name that is no block, or one that is there twice.
func checkBlocks(key string, blocks []Block) error {
	for i, b := range blocks {
		if blockPrefixes[b] == nil {
			return fmt.Errorf("%s has %q, want input, middle or output", key, string(b))
		}
		if slices.Contains(blocks[:i], b) {
			return fmt.Errorf("%s has %q twice, want it once", key, string(b))
		}
	}
	return nil
}

// trainableNames returns what the method of a config trains, in the order of the
// specs but for the embedder of a method that trains adapters.
func trainableNames(specs []nn.Spec, m *checkpoint.Model, c *Config) ([]string, error) {
	embedder := embedderNames(specs, m)
	switch c.Method {
	case Attention:
		return attentionNames(specs, m, c.Attention, embedder)
	case LoRA, LoDA:
		names := adapter.Adapters(specs)
		frozen := c.LoDA.FreezeEmbedder
		if c.Method == LoRA {
			frozen = c.LoRA.FreezeEmbedder
		}
		switch {
		case len(names) == 0 && c.Method == LoRA:
			return nil, fmt.Errorf("%w: lora.targets: no layer of the UNet has a name that ends in one of %v", ErrConfig, m.Adapter.Targets)
		case len(names) == 0:
			return nil, fmt.Errorf("%w: loda: no convolution of the UNet has a kernel of at least %d below %v", ErrConfig, c.LoDA.Kernel, c.LoDA.Layers)
		case !frozen:
			names = append(names, embedder...)
		}
		return names, nil
	}
	return fullNames(specs, c.Full, embedder)
}

// attentionNames returns the attention modules from the first that trains on, of
// the blocks that train, and the embedder.
func attentionNames(specs []nn.Spec, m *checkpoint.Model, c AttentionConfig, embedder []string) ([]string, error) {
	var modules []string
	for _, name := range m.UNet.AttentionModules() {
		modules = append(modules, "unet."+name)
	}
	if c.FreezeEmbedder {
		embedder = nil
	}
	names, err := adapter.Attention(specs, modules, c.FirstLayer, embedder...)
	if err != nil {
		return nil, fmt.Errorf("%w: attention.first_layer: %w", ErrConfig, err)
	}
	attends := false
	names = slices.DeleteFunc(names, func(name string) bool {
		keep := slices.Contains(embedder, name) || inBlocks(name, c.Blocks)
		attends = attends || keep && !slices.Contains(embedder, name)
		return !keep
	})
	if !attends {
		return nil, fmt.Errorf("%w: attention.blocks: no attention module from number %d on is in %v, want a block that has one; scumble plan --json lists them", ErrConfig, c.FirstLayer, c.Blocks)
	}
	return names, nil
}

// fullNames returns the parameters of the blocks that train, and the embedder.
func fullNames(specs []nn.Spec, c FullConfig, embedder []string) ([]string, error) {
	isEmbedder := map[string]bool{}
	for _, name := range embedder {
		isEmbedder[name] = true
	}
	var names []string
	inUNet := 0
	for _, s := range specs {
		switch {
		case isEmbedder[s.Name]:
			if !c.FreezeEmbedder {
				names = append(names, s.Name)
			}
		case strings.HasPrefix(s.Name, "unet.") && inBlocks(s.Name, c.Blocks) && (c.Parameters != NormAndBias || s.Kind == nn.KindVector):
			names = append(names, s.Name)
			inUNet++
		}
	}
	if inUNet == 0 {
		return nil, fmt.Errorf("%w: full.blocks: the UNet has no parameter in %v", ErrConfig, c.Blocks)
	}
	return names, nil
}
