package checkpoint

import (
	"github.com/scumble-dp/scumble/nn"
)

// LoadComponent reads the weights of one component from its folder, named below
// the component and a dot, in our layout. specs are its parameters without that
// prefix. Missing, extra or misshapen tensors are errors.
func LoadComponent(folder, component string, specs []nn.Spec) (*nn.Weights, error) {
	w := nn.NewWeights()
	if err := readWeights(w, folder, component, prefixed(nil, component, specs)); err != nil {
		return nil, err
	}
	return w, nil
}
