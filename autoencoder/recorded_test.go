package autoencoder

import (
	"testing"

	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

// array is a recorded tensor, row-major.
type array struct {
	shape []int
	data  []float32
}

// record reads the tensors of a safetensors file.
func record(t testing.TB, path string) map[string]array {
	t.Helper()
	list, _, err := safetensors.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]array{}
	for _, tensor := range list {
		data, err := tensor.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		out[tensor.Name] = array{tensor.Shape, data}
	}
	return out
}

// permuted returns a with its axes in the given order.
func (a array) permuted(axes ...int) array {
	strides := make([]int, len(a.shape))
	for i, n := len(a.shape)-1, 1; i >= 0; i-- {
		strides[i], n = n, n*a.shape[i]
	}
	out := array{}
	for _, axis := range axes {
		out.shape = append(out.shape, a.shape[axis])
	}
	var walk func(depth, offset int)
	walk = func(depth, offset int) {
		if depth == len(axes) {
			out.data = append(out.data, a.data[offset])
			return
		}
		for i := range out.shape[depth] {
			walk(depth+1, offset+i*strides[axes[depth]])
		}
	}
	walk(0, 0)
	return out
}

// channelsLast turns [rows, channels, height, width] into our order.
func (a array) channelsLast() array { return a.permuted(0, 2, 3, 1) }

// weights brings recorded parameters into our layout.
func weights(t testing.TB, path string, specs []nn.Spec) *nn.Weights {
	t.Helper()
	recorded := record(t, path)
	w := nn.NewWeights()
	for _, spec := range specs {
		a, ok := recorded[spec.Name]
		if !ok {
			t.Fatalf("the recorded model has no %q", spec.Name)
		}
		delete(recorded, spec.Name)
		switch spec.Kind {
		case nn.KindKernel:
			a = a.permuted(2, 3, 1, 0)
		case nn.KindDense:
			a = a.permuted(1, 0)
		}
		w.Add(&nn.Tensor{Name: spec.Name, Kind: spec.Kind, Shape: spec.Shape, Data: a.data})
	}
	for name := range recorded {
		t.Fatalf("the recorded model has %q, our architecture does not", name)
	}
	return w
}
