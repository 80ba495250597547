package parity

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

// array is a recorded tensor, in the layout of PyTorch unless it says otherwise.
type array struct {
	shape []int
	data  []float64
}

// readArrays reads all tensors of a file.
func readArrays(path string) (map[string]array, error) {
	list, _, err := safetensors.Read(path)
	if err != nil {
		return nil, err
	}
	out := map[string]array{}
	for _, t := range list {
		a := array{shape: t.Shape}
		switch t.DType {
		case safetensors.F64:
			for at := 0; at < len(t.Data); at += 8 {
				a.data = append(a.data, math.Float64frombits(binary.LittleEndian.Uint64(t.Data[at:])))
			}
		case safetensors.I64, safetensors.I32, safetensors.U8, safetensors.Bool:
			ints, err := t.Int64s()
			if err != nil {
				return nil, err
			}
			for _, v := range ints {
				a.data = append(a.data, float64(v))
			}
		default:
			floats, err := t.Float32s()
			if err != nil {
				return nil, err
			}
			for _, v := range floats {
				a.data = append(a.data, float64(v))
			}
		}
		out[t.Name] = a
	}
	return out, nil
}

// want returns the named tensors, or an error that names the first one missing.
func want(arrays map[string]array, names ...string) ([]array, error) {
	var out []array
	for _, name := range names {
		a, ok := arrays[name]
		if !ok {
			return nil, fmt.Errorf("tensor %q is not recorded", name)
		}
		out = append(out, a)
	}
	return out, nil
}

// permuted returns the array with axis i being axis order[i] of a.
func (a array) permuted(order ...int) array {
	strides := make([]int, len(a.shape))
	for i, s := len(a.shape)-1, 1; i >= 0; i-- {
		strides[i] = s
		s *= a.shape[i]
	}
	b := array{shape: make([]int, len(order)), data: make([]float64, 0, len(a.data))}
	for i, axis := range order {
		b.shape[i] = a.shape[axis]
	}
	var walk func(axis, at int)
	walk = func(axis, at int) {
		if axis == len(order) {
			b.data = append(b.data, a.data[at])
			return
		}
		for i := range b.shape[axis] {
			walk(axis+1, at+i*strides[order[axis]])
		}
	}
	walk(0, 0)
	return b
}

// channelsLast takes images [rows, channels, height, width] to our layout.
func (a array) channelsLast() array {
	if len(a.shape) != 4 {
		return a
	}
	return a.permuted(0, 2, 3, 1)
}

// ours takes a parameter to our layout.
func (a array) ours(kind nn.Kind) array {
	switch {
	case kind == nn.KindDense && len(a.shape) == 2:
		return a.permuted(1, 0)
	case kind == nn.KindKernel && len(a.shape) == 4:
		return a.permuted(2, 3, 1, 0)
	}
	return a
}

// row returns a[i].
func (a array) row(i int) array {
	n := len(a.data) / a.shape[0]
	return array{a.shape[1:], a.data[i*n : (i+1)*n]}
}

func (a array) float32s() []float32 {
	out := make([]float32, len(a.data))
	for i, v := range a.data {
		out[i] = float32(v)
	}
	return out
}

func (a array) floats() *tensors.Tensor {
	return tensors.FromFlatDataAndDimensions(a.float32s(), a.shape...)
}

func (a array) ints() *tensors.Tensor {
	out := make([]int32, len(a.data))
	for i, v := range a.data {
		out[i] = int32(v)
	}
	return tensors.FromFlatDataAndDimensions(out, a.shape...)
}

// arrayOf brings a computed float32 or int32 tensor here.
func arrayOf(t *tensors.Tensor) (array, error) {
	a := array{shape: t.Shape().Dimensions}
	if ints, err := tensors.CopyFlatData[int32](t); err == nil {
		for _, v := range ints {
			a.data = append(a.data, float64(v))
		}
		return a, nil
	}
	floats, err := tensors.CopyFlatData[float32](t)
	if err != nil {
		return array{}, err
	}
	return fromFloat32s(a.shape, floats), nil
}

func fromFloat32s(shape []int, values []float32) array {
	a := array{shape: shape, data: make([]float64, len(values))}
	for i, v := range values {
		a.data[i] = float64(v)
	}
	return a
}

// mapped returns f of the entries of arrays of one shape.
func mapped(f func(v []float64) float64, arrays ...array) array {
	out := array{shape: arrays[0].shape, data: make([]float64, len(arrays[0].data))}
	v := make([]float64, len(arrays))
	for i := range out.data {
		for j, a := range arrays {
			v[j] = a.data[i]
		}
		out.data[i] = f(v)
	}
	return out
}
