package checkpoint

import (
	"fmt"
	"strings"

	"github.com/scumble-dp/scumble/nn"
)

// fileAxes lists, for each axis of a tensor in a file, the axis of ours that it
// is. Nil: the same.
func fileAxes(kind nn.Kind) []int {
	switch kind {
	case nn.KindDense: // [out, in] of [in, out].
		return []int{1, 0}
	case nn.KindKernel: // [out, in, height, width] of [height, width, in, out].
		return []int{3, 2, 0, 1}
	}
	return nil
}

// ToDiffusers brings a tensor of ours into the layout of diffusers and PyTorch.
// Vectors and tables are returned as they are, not copied.
func ToDiffusers(kind nn.Kind, shape []int, data []float32) ([]int, []float32) {
	axes := fileAxes(kind)
	if axes == nil {
		return shape, data
	}
	return permute(shape, data, axes)
}

// FromDiffusers undoes ToDiffusers.
func FromDiffusers(kind nn.Kind, shape []int, data []float32) ([]int, []float32) {
	axes := fileAxes(kind)
	if axes == nil {
		return shape, data
	}
	inverse := make([]int, len(axes))
	for i, axis := range axes {
		inverse[axis] = i
	}
	return permute(shape, data, inverse)
}

// fileShape returns the shape that a parameter has in a file.
func fileShape(spec nn.Spec) []int {
	axes := fileAxes(spec.Kind)
	if axes == nil {
		return spec.Shape
	}
	shape := make([]int, len(axes))
	for i, axis := range axes {
		shape[i] = spec.Shape[axis]
	}
	return shape
}

// permute returns a tensor with axis i of the result being axis axes[i] of the
// argument.
func permute(shape []int, data []float32, axes []int) ([]int, []float32) {
	if len(shape) != len(axes) {
		panic(fmt.Errorf("checkpoint: shape %v, want %d axes", shape, len(axes)))
	}
	strides := make([]int, len(shape))
	size := 1
	for i := len(shape) - 1; i >= 0; i-- {
		strides[i], size = size, size*shape[i]
	}
	outShape, step := make([]int, len(axes)), make([]int, len(axes))
	for i, axis := range axes {
		outShape[i], step[i] = shape[axis], strides[axis]
	}
	out := make([]float32, 0, size)
	var walk func(axis, at int)
	walk = func(axis, at int) {
		last := axis == len(axes)-1
		for range outShape[axis] {
			if last {
				out = append(out, data[at])
			} else {
				walk(axis+1, at)
			}
			at += step[axis]
		}
	}
	walk(0, 0)
	return outShape, out
}

// Parts of attention modules before diffusers 0.18.
var oldParts = map[string]string{"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

// currentName returns today's name of a tensor of diffusers.
func currentName(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		if now, ok := oldParts[part]; ok && i > 1 && parts[i-2] == "attentions" {
			parts[i] = now
		}
	}
	return strings.Join(parts, ".")
}
