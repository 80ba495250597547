package nn

import (
	"fmt"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
)

// TestLayerGrads compares what the tape offers to gradient engines, the gradient
// by the weight of a batch and of each example, with GoMLX's own gradient of one
// example at a time.
func TestLayerGrads(t *testing.T) {
	const examples, draws, in, out = 3, 2, 3, 5
	b := backendtest.Open(t, "go")
	for _, c := range []struct {
		height, width int
		conv          Conv
	}{
		{16, 16, Same(3)}, // In Winograd's basis, where the lowering says so.
		{18, 20, Same(3)},
		{17, 16, Same(3)},
		{4, 4, Same(3)},
		{6, 6, Same(5)},
		{5, 6, Same(1)},
		{16, 16, Conv{3, 2, [2]int{0, 1}}},
	} {
		for _, l := range []Lowering{Native, Patches, Small} {
			t.Run(fmt.Sprintf("%dx%d kernel %d stride %d lowering %d", c.height, c.width, c.conv.Kernel, c.conv.Stride, l), func(t *testing.T) {
				weights := NewWeights()
				k := c.conv.Kernel
				weights.Add(&Tensor{Name: "weight", Kind: KindKernel, Shape: []int{k, k, in, out}, Data: values(1, k, k, in, out).float32s()})
				p, err := NewProgram(b, ProgramOptions{NN: Options{Lowering: l}, Weights: weights, Trainable: weights.Names(),
					Build: func(s *Scope, trainable, inputs []*graph.Node) []*graph.Node {
						y := Conv2D(s, inputs[0], out, c.conv, ConvOptions{NoBias: true})
						loss := graph.ReduceSum(graph.Reshape(graph.Mul(graph.Mul(y, y), inputs[1]), examples, -1), 1)
						layer := s.Tape()[0]
						g := graph.Gradient(graph.ReduceAllSum(loss), layer.Output)[0]
						outputs := []*graph.Node{layer.WeightGrad(l, g), layer.ExampleGrads(l, g, examples)}
						for i := range examples {
							one := graph.Slice(loss, graph.AxisElem(i))
							outputs = append(outputs, graph.Gradient(graph.ReduceAllSum(one), trainable[0])[0])
						}
						return outputs
					}})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				vector, err := p.Vector(weights.Flatten(weights.Names()))
				if err != nil {
					t.Fatal(err)
				}
				rows := examples * draws
				got, err := p.Run(vector, values(2, rows, c.height, c.width, in).tensor(),
					values(3, rows, c.conv.Size(c.height), c.conv.Size(c.width), out).tensor())
				if err != nil {
					t.Fatal(err)
				}
				size := k * k * in * out
				sum, each := newHost(k*k*in, out), newHost(examples, k*k*in, out)
				for i := range examples {
					one, err := tensors.CopyFlatData[float32](got[2+i])
					if err != nil {
						t.Fatal(err)
					}
					for j, v := range one {
						sum.data[j] += float64(v)
						each.data[i*size+j] = float64(v)
					}
				}
				checkClose(t, "gradient of the batch", got[0], sum)
				checkClose(t, "gradients of the examples", got[1], each)
			})
		}
	}
}
