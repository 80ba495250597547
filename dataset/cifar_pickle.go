package dataset

import (
	"errors"
	"fmt"

	"github.com/scumble-dp/scumble/internal/pickle"
)

// pickledBatch is the dictionary of a batch of CIFAR's Python version: its array
// of bytes, and its lists of numbers. All else (file names, titles) is dropped.
type pickledBatch struct {
	data  []byte
	lists map[string][]int
}

// What a batch needs of NumPy: the recipe of one array of bytes.
type (
	pickledArray struct{ data []byte }
	pickledType  struct{ name string } // numpy.dtype of that name.
)

var errPickle = errors.New("the pickle asks for what a batch has no need of")

// unpickleBatch runs a pickle and returns the batch that it holds. The file is
// private: no error quotes it.
func unpickleBatch(program []byte) (*pickledBatch, error) {
	root, err := pickle.Run(program, pickle.Rules{Allowed: allowedInBatch, Call: callInBatch, Build: buildInBatch})
	if errors.Is(err, pickle.ErrRefused) {
		return nil, errPickle
	}
	if err != nil {
		return nil, err
	}
	d, ok := root.(*pickle.Dict)
	if !ok {
		return nil, errors.New("pickle holds no dictionary")
	}
	out := &pickledBatch{lists: map[string][]int{}}
	for _, key := range d.Keys {
		switch v := d.Values[key].(type) {
		case *pickledArray:
			if key == "data" {
				out.data = v.data
			}
		case *pickle.List:
			if numbers, ok := ints(v.Items); ok {
				out.lists[key] = numbers
			}
		}
	}
	return out, nil
}

func ints(items []any) ([]int, bool) {
	out := make([]int, 0, len(items))
	for _, item := range items {
		n, ok := item.(int64)
		if !ok {
			return nil, false
		}
		out = append(out, int(n))
	}
	return out, true
}

// allowedInBatch holds the names of NumPy that a batch uses; numpy._core is that
// of NumPy 2. None is called: they are the recipe of an array.
func allowedInBatch(name string) bool {
	switch name {
	case "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype":
		return true
	}
	return false
}

// callInBatch takes the recipe of an empty array, or of a type of values.
func callInBatch(f pickle.Global, args pickle.Tuple) (any, error) {
	switch {
	case f == "numpy.dtype" && len(args) > 0:
		name, _ := args[0].(string)
		return &pickledType{name}, nil
	case f != "numpy.dtype" && f != "numpy.ndarray" && len(args) == 3 && args[0] == any(pickle.Global("numpy.ndarray")):
		return &pickledArray{}, nil
	}
	return nil, errPickle
}

// buildInBatch fills the array: version, shape, type, order, bytes.
func buildInBatch(object, state any) error {
	switch into := object.(type) {
	case *pickledType: // Byte order and the like: of bytes there is one only.
		return nil
	case *pickledArray:
		t, _ := state.(pickle.Tuple)
		if len(t) != 5 {
			return errors.New("fills an array with something else than shape, type, order and bytes")
		}
		shape, _ := t[1].(pickle.Tuple)
		kind, _ := t[2].(*pickledType)
		data, isBytes := t[4].(pickle.Bytes)
		if kind == nil || kind.name != "u1" || t[3] != any(false) || !isBytes || len(shape) != 2 {
			return errors.New("the array is not one of bytes, two dimensions, row by row")
		}
		rows, ok1 := shape[0].(int64)
		columns, ok2 := shape[1].(int64)
		if !ok1 || !ok2 || columns != cifarImage || rows < 0 || rows > int64(len(data)) || rows*columns != int64(len(data)) {
			return fmt.Errorf("the array has not %d bytes for each image", cifarImage)
		}
		into.data = data
		return nil
	}
	return errPickle
}
