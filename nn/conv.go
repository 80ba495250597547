package nn

import (
	"fmt"

	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// Conv is the geometry of a two-dimensional convolution.
type Conv struct {
	Kernel int    // Height and width; odd.
	Stride int    // Zero means 1.
	Pad    [2]int // Rows and columns of zeros before and after.
}

// Same returns the geometry that keeps height and width: kernel odd, stride 1.
func Same(kernel int) Conv {
	return Conv{Kernel: kernel, Stride: 1, Pad: [2]int{kernel / 2, kernel / 2}}
}

// Size returns the output height for an input height, 0 if the kernel does not
// fit.
func (c Conv) Size(n int) int {
	room := n + c.Pad[0] + c.Pad[1] - c.Kernel
	if room < 0 {
		return 0
	}
	return room/c.stride() + 1
}

func (c Conv) stride() int {
	if c.Stride == 0 {
		return 1
	}
	return c.Stride
}

// ConvOptions of a convolution layer.
type ConvOptions struct {
	NoBias   bool
	ZeroInit bool
}

// Conv2D convolves x [rows, height, width, in] → [rows, height', width', out].
func Conv2D(s *Scope, x *Node, out int, c Conv, o ConvOptions) *Node {
	if c.Kernel%2 == 0 {
		// GoMLX 0.28 gives a wrong gradient for even kernels on every backend.
		panic(fmt.Errorf("nn: convolution %q has kernel %d, want an odd one", s.path, c.Kernel))
	}
	if c.Pad[0] >= c.Kernel || c.Pad[1] >= c.Kernel {
		panic(fmt.Errorf("nn: convolution %q has padding %v, want less than its kernel %d", s.path, c.Pad, c.Kernel))
	}
	x.AssertRank(4)
	if d := x.Shape().Dimensions; c.Size(d[1]) == 0 || c.Size(d[2]) == 0 {
		panic(fmt.Errorf("nn: convolution %q: kernel %d with padding %v does not fit maps of %dx%d", s.path, c.Kernel, c.Pad, d[1], d[2]))
	}
	in := x.Shape().Dimensions[3]
	w, wName := s.param("weight", KindKernel, initFor(o.ZeroInit), c.Kernel, c.Kernel, in, out)
	bName := ""
	var b *Node
	if !o.NoBias {
		b, bName = s.param("bias", KindVector, InitZeros, out)
	}
	l := &Layer{Kind: Linear, Weight: wName, Bias: bName, WeightShape: []int{c.Kernel, c.Kernel, in, out}}
	if c.Kernel == 1 && c.stride() == 1 {
		l.Input = func() *Node { return x }
		l.Output = linear(x, Reshape(w, in, out), b)
	} else {
		l.Input = func() *Node { return s.build.windows(x, c) }
		l.Output = s.convolve(x, w, s.build.opts.kernels[wName], b, c)
		l.Conv, l.Pixels = &c, x
	}
	s.record(l)
	return s.adapt(Target{Path: s.path, In: in, Out: out, Conv: &c}, x, l.Output)
}

// smallMap is the largest output map, in pixels, whose convolution XLA on a CPU
// computes faster as a product of windows than as it stands: by 2.5 for 4x4
// maps of 64 channels, by nothing for 7x7.
const smallMap = 16

// windowed reports whether a convolution of x becomes a product of windows.
func (l Lowering) windowed(x *Node, c Conv) bool {
	d := x.Shape().Dimensions
	return l == Patches || l == Small && c.Size(d[1])*c.Size(d[2]) <= smallMap && d[1]*d[2] <= 4*smallMap
}

// convolve is the backend's own convolution of x with w [kernel, kernel, in, out].
func (c Conv) convolve(x, w *Node) *Node {
	return Convolve(x, w).Strides(c.stride()).PaddingPerDim([][2]int{c.Pad, c.Pad}).Done()
}

// weightGrad is the gradient of convolve by w, of a shape, from that by its result, as the
// backend computes it.
func (c Conv) weightGrad(x, g *Node, shape []int) *Node {
	w := Zeros(g.Graph(), shapes.Make(g.DType(), shape...))
	y := c.convolve(x, w) // Its value is not used.
	return Gradient(ReduceAllSum(Mul(y, StopGradient(Reshape(g, y.Shape().Dimensions...)))), w)[0]
}

// convolve returns the convolution of x with w [kernel, kernel, in, out], plus b
// [out] unless it is nil. u is w in Winograd's basis, if it is given in it.
func (s *Scope) convolve(x, w, u, b *Node, c Conv) *Node {
	plain := func(in []*Node) *Node {
		return addBias(c.convolve(in[0], in[1]), in[2:])
	}
	d, kernel := x.Shape().Dimensions, w.Shape().Dimensions
	// A gradient written by hand keeps what it reads: not where the backward pass is to
	// compute a block again, or to widen a weight again.
	if !s.build.block && !s.build.wide && s.Lowering().winograd(c, d, kernel[3], u != nil) {
		return tiles4.convolved(x, w, u, b, plain, func(g *Node) *Node {
			if s.Lowering().windowed(x, c) {
				return s.windowsGrad(x, g, c, kernel)
			}
			return c.weightGrad(x, g, kernel)
		})
	}
	if !s.Lowering().windowed(x, c) {
		return plain(present(x, w, b))
	}
	in, out := kernel[2], kernel[3]
	fast := func() *Node {
		return product(s.build.windows(x, c), Reshape(w, -1, out), b)
	}
	return byHand(present(x, w, b), plain, fast, func(g *Node) []*Node {
		back := s.build.windowsBack(g, c, d[1], d[2])
		swapped := Reshape(TransposeAllAxes(w, 0, 1, 3, 2), -1, in)
		return []*Node{product(back, swapped, nil), s.windowsGrad(x, g, c, kernel), sumRows(Reshape(g, -1, out))}
	})
}

// windowsGrad is Conv.weightGrad as a product of windows.
func (s *Scope) windowsGrad(x, g *Node, c Conv, shape []int) *Node {
	flat := Reshape(g, -1, shape[3])
	dw := s.Lowering().TransposeDot(Reshape(s.build.windows(x, c), flat.Shape().Dimensions[0], -1), flat)
	return Reshape(dw, shape...)
}

// ExampleGrads returns the gradient by the weight of a Linear layer of each
// example, [examples, in, out], from the gradient g of the summed loss by its
// output.
func (l *Layer) ExampleGrads(lowering Lowering, g *Node, examples int) *Node {
	if l.Conv != nil && lowering.formsExampleGrads(l.Pixels, *l.Conv) {
		return tiles4.exampleGrads(l.Pixels, Reshape(g, l.Output.Shape().Dimensions...), examples)
	}
	a := l.Input()
	in, out := a.Shape().Dimensions[a.Rank()-1], g.Shape().Dimensions[g.Rank()-1]
	return lowering.BatchTransposeDot(Reshape(a, examples, -1, in), Reshape(g, examples, -1, out))
}

// WeightGrad returns the gradient by the weight of a Linear layer, [in, out],
// from the gradient g by its output, the way the backend computes it.
func (l *Layer) WeightGrad(lowering Lowering, g *Node) *Node {
	out := g.Shape().Dimensions[g.Rank()-1]
	if l.Conv == nil || lowering == Patches || lowering.windowed(l.Pixels, *l.Conv) {
		a := l.Input()
		return lowering.TransposeDot(Reshape(a, -1, a.Shape().Dimensions[a.Rank()-1]), Reshape(g, -1, out))
	}
	// Not in Winograd's basis: ghost norms say how large an example's part of this sum is, and its
	// rounding errors are larger than theirs.
	return Reshape(l.Conv.weightGrad(l.Pixels, g, l.WeightShape), -1, out)
}

// Upsample2 doubles height and width by repeating pixels.
func Upsample2(x *Node) *Node {
	d := x.Shape().Dimensions
	plain := func(in []*Node) *Node {
		y := BroadcastToDims(Reshape(in[0], d[0], d[1], 1, d[2], 1, d[3]), d[0], d[1], 2, d[2], 2, d[3])
		return Reshape(y, d[0], 2*d[1], 2*d[2], d[3])
	}
	l := lowering(x.Graph())
	if l != Patches {
		return plain([]*Node{x})
	}
	fast := func() *Node {
		columns := Reshape(x, -1, 1, d[3])
		rows := Reshape(Concatenate([]*Node{columns, columns}, 1), d[0]*d[1], 1, 2*d[2]*d[3])
		return Reshape(Concatenate([]*Node{rows, rows}, 1), d[0], 2*d[1], 2*d[2], d[3])
	}
	return byHand([]*Node{x}, plain, fast, func(g *Node) []*Node {
		rows := l.SumPositions(Reshape(g, d[0]*d[1], 2, 2*d[2]*d[3]))
		return []*Node{Reshape(ReduceSum(Reshape(rows, -1, 2, d[3]), 1), d...)}
	})
}
