package compvis

import (
	"fmt"
	"strconv"
	"strings"
)

// OpenCLIP's parts of a layer.
var openParts = map[string]string{"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}

// openName returns the source, below "cond_stage_model.model.", of a tensor of CLIP
// in the text encoder of Stable Diffusion 2, which OpenCLIP wrote: queries, keys and
// values are one tensor. width is that of the encoder.
func openName(width int) func(name string) (source, error) {
	return func(name string) (source, error) {
		fixed := map[string]string{"embeddings.token_embedding.weight": "token_embedding.weight", "embeddings.position_embedding.weight": "positional_embedding",
			"final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias"}
		if s, ok := fixed[name]; ok {
			return whole(s), nil
		}
		lost := fmt.Errorf("text encoder's tensor %q has no name in OpenCLIP's checkpoints", name)
		rest, ok := strings.CutPrefix(name, "encoder.layers.")
		number, rest, ok2 := strings.Cut(rest, ".")
		i, err := strconv.Atoi(number)
		if !ok || !ok2 || err != nil {
			return source{}, lost
		}
		module, leaf, _ := cutLast(rest)
		block := fmt.Sprintf("transformer.resblocks.%d.", i)
		for part, which := range []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"} {
			if module == which { // As one head as wide as all: rows are [3, width].
				return source{name: block + "attn.in_proj_" + leaf, part: part, heads: width}, nil
			}
		}
		part, ok := openParts[module]
		if !ok {
			return source{}, lost
		}
		return whole(block + part + "." + leaf), nil
	}
}

// passOpen marks the tensors of OpenCLIP that the text encoder of a diffusion model
// does not use: what compares texts with images, and, in a model that takes the
// layer before the last, the last. layers is how many are used.
func (m *importer) passOpen(prefix string, layers int) {
	last := fmt.Sprintf("%stransformer.resblocks.%d.", prefix, layers)
	for name := range m.names {
		if name == prefix+"text_projection" || name == prefix+"logit_scale" || name == prefix+"attn_mask" || strings.HasPrefix(name, last) {
			m.used[name] = true
		}
	}
}
