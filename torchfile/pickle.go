package torchfile

import (
	"fmt"
	"strings"

	"github.com/scumble-dp/scumble/internal/pickle"
)

// ErrRefused is matched by the error of a file that asks for something which a
// file of tensors has no need of.
var ErrRefused = pickle.ErrRefused

const maxPickle = 64 << 20 // Bytes of data.pkl: far above what state dictionaries need.

// stored is a persistent id: ("storage", type, key, location, elements).
type stored []any

// unpickle runs a program to its STOP and returns what it built.
func unpickle(program []byte) (any, error) {
	return pickle.Run(program, pickle.Rules{Allowed: allowed, Call: call, Build: build, Persistent: persistent})
}

// Functions that call knows.
const (
	rebuildTensor    = "torch._utils._rebuild_tensor_v2"
	rebuildParameter = "torch._utils._rebuild_parameter"
	orderedDict      = "collections.OrderedDict"
)

// allowed holds what may be named. Classes of pytorch_lightning are keys of its
// checkpoints; calling one is refused.
func allowed(name string) bool {
	switch name {
	case rebuildTensor, rebuildParameter, orderedDict:
		return true
	}
	_, storage := storageTypes[name]
	return storage || strings.HasPrefix(name, "pytorch_lightning.")
}

// call does what the allowed functions do.
func call(f pickle.Global, args pickle.Tuple) (any, error) {
	switch f {
	case rebuildTensor:
		return newTensor(args)
	case rebuildParameter:
		if len(args) == 0 {
			return nil, fmt.Errorf("rebuilds a parameter of nothing")
		}
		return args[0], nil
	case orderedDict:
		return pickle.NewDict(args)
	}
	return nil, fmt.Errorf("%w: call of %q", ErrRefused, string(f))
}

// build drops the attributes of dictionaries: a state dictionary keeps only its
// version there.
func build(object, _ any) error {
	if _, ok := object.(*pickle.Dict); !ok {
		return fmt.Errorf("%w: attributes of %T", ErrRefused, object)
	}
	return nil
}

func persistent(id pickle.Tuple) (any, error) {
	if len(id) < 5 || id[0] != "storage" {
		return nil, fmt.Errorf("%w: persistent id %v, want a storage", ErrRefused, []any(id))
	}
	return stored(id), nil
}
