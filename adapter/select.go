package adapter

import (
	"fmt"

	"github.com/scumble-dp/scumble/nn"
)

// Everything returns the names of all parameters below a prefix, in order.
func Everything(specs []nn.Spec, prefixes ...string) []string {
	var names []string
	for _, s := range specs {
		if under(s.Name, prefixes) {
			names = append(names, s.Name)
		}
	}
	return names
}

// Attention returns the parameters that DP-LDM trains (Liu et al. 2024,
// https://arxiv.org/abs/2305.15759): those of the attention modules from the
// first one on, and those of the conditioning embedder.
//
//   - modules: prefixes of the attention modules, in the order of the network:
//     input blocks, middle block, output blocks.
//   - first: 0-based index of the first module that trains ("varying layers").
//   - embedder: prefixes of the conditioning embedder; none leaves it frozen.
func Attention(specs []nn.Spec, modules []string, first int, embedder ...string) ([]string, error) {
	if first < 0 || first >= len(modules) {
		return nil, fmt.Errorf("first trained attention module is %d, want in [0, %d): the model has %d", first, len(modules), len(modules))
	}
	prefixes := append(append([]string(nil), modules[first:]...), embedder...)
	return Everything(specs, prefixes...), nil
}

// Adapters returns the parameters of adapter branches, in order.
func Adapters(specs []nn.Spec) []string {
	var names []string
	for _, s := range specs {
		if IsAdapter(s.Name) {
			names = append(names, s.Name)
		}
	}
	return names
}
