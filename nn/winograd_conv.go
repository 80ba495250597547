package nn

import (
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

const (
	// winogradChannels is the least number of channels, in and out, of a convolution
	// in Winograd's basis: below, the changes of basis cost more than the products
	// they save. winogradTiles is the least number of tiles: with fewer, the kernel's
	// is most of the work, unless it comes in the basis (see ProgramOptions.ManyCalls).
	winogradChannels, winogradTiles, winogradTilesOfGiven = 32, 32, 8
	// winogradMap is the smallest map, in pixels, whose kernel gradients are formed
	// example by example in this basis.
	winogradMap = 256
)

// suits reports whether a basis of Winograd's computes what a convolution does, on
// backends that gain by it.
func (l Lowering) suits(c Conv) bool {
	return l == Small && c.Kernel == 3 && c.stride() == 1 && c.Pad == [2]int{1, 1}
}

// winograd reports whether the convolution of a map of d [rows, height, width, in]
// to out channels is computed in Winograd's basis; given says that its kernel comes in it.
func (l Lowering) winograd(c Conv, d []int, out int, given bool) bool {
	if !l.suits(c) || min(d[3], out) < winogradChannels {
		return false
	}
	least := winogradTiles
	if given {
		least = winogradTilesOfGiven
	}
	h, w := tiles4.tiles(d[1]), tiles4.tiles(d[2])
	return d[0]*h*w >= least && 9*d[1]*d[2] >= 2*tiles4.side*tiles4.side*h*w
}

// stored returns x, which XLA then computes once and keeps. It would fuse what gives x, an
// activation and a norm for instance, into every sum of values that a change of basis
// makes of x, dozens of times: workload pixel took 1.24 times as long to sample, and training
// gained nothing.
func stored(x *Node) *Node {
	// go-xla leaves out a barrier of one node.
	return OptimizationBarriers(x, ScalarZero(x.Graph(), x.DType()))[0]
}

// convolve returns the convolution, stride 1 and padding 1, of a map x of d [rows, height,
// width, in] with a kernel, from v, which is input(x), and the kernel in the basis, u.
func (t basis) convolve(v, u *Node, d []int) *Node {
	m := DotGeneral(v, []int{3}, []int{0, 1}, u, []int{2}, []int{0, 1})
	return stored(t.output(m, []int{d[0], d[1], d[2], u.Shape().Dimensions[3]}))
}

// weightGrad returns the gradient by the kernel of convolve, [3, 3, in, out], from v and
// from z, which is outputGradient(g) for the gradient g by the result.
func (t basis) weightGrad(v, z *Node) *Node {
	return t.kernelGradient(DotGeneral(v, []int{2}, []int{0, 1}, z, []int{2}, []int{0, 1}))
}

// pixelGrad returns the gradient by x of convolve, of d, from that z and from u. It is each step
// transposed, not the convolution with the turned kernel, so that z and u serve for both gradients
// and forward.
func (t basis) pixelGrad(z, u *Node, d []int) *Node {
	m := DotGeneral(z, []int{3}, []int{0, 1}, u, []int{3}, []int{0, 1})
	return stored(t.inputGradient(m, d))
}

// convolved returns the convolution of x with w, and b [out] added unless it is nil, with its
// gradient in the same basis. u is the kernel in the basis, made here where it is nil.
//
//   - direct returns the gradient by w from that by the result, for a map of few tiles: to
//     bring what they give out of the basis would be most of the work.
func (t basis) convolved(x, w, u, b *Node, plain func(in []*Node) *Node, direct func(g *Node) *Node) *Node {
	d := x.Shape().Dimensions
	few := d[0]*t.tiles(d[1])*t.tiles(d[2]) < winogradTiles
	var v *Node
	fast := func() *Node {
		v = t.input(stored(x))
		if u != nil {
			return addBias(t.convolve(v, u, d), present(b))
		}
		return addBias(t.convolve(v, t.kernel(w), d), present(b))
	}
	return byHand(present(x, w, b), plain, fast, func(g *Node) []*Node {
		z, kernel := t.outputGradient(stored(g)), u
		if kernel == nil {
			// Made again: what is kept from the forward pass is four times the weights.
			kernel = t.kernel(OptimizationBarriers(w, g)[0])
		}
		dw := direct
		if !few {
			dw = func(*Node) *Node { return t.weightGrad(v, z) }
		}
		return []*Node{t.pixelGrad(z, kernel, d), dw(g), sumRows(Reshape(g, -1, g.Shape().Dimensions[3]))}
	})
}

// exampleGrads returns the gradient by the kernel of a 3x3 convolution of x, stride
// 1 and padding 1, from that by its output, g, of each example:
// [examples, 9·in, out]. x and g hold the draws of an example one after the other.
func (t basis) exampleGrads(x, g *Node, examples int) *Node {
	in, out := x.Shape().Dimensions[3], g.Shape().Dimensions[3]
	x, g = stored(x), stored(g)
	v := Reshape(t.input(x), t.side, t.side, examples, -1, in)
	z := Reshape(t.outputGradient(g), t.side, t.side, examples, -1, out)
	p := DotGeneral(v, []int{3}, []int{0, 1, 2}, z, []int{3}, []int{0, 1, 2})
	taps := TransposeAllAxes(Reshape(t.kernelGradient(p), 9, examples, in, out), 1, 0, 2, 3)
	return Reshape(taps, examples, 9*in, out)
}

// formsExampleGrads reports whether the kernel gradients of the examples are
// cheaper in Winograd's basis than from windows. XLA computes a product per example
// slowly where its operands, the windows, are nine times as large as the map.
func (l Lowering) formsExampleGrads(x *Node, c Conv) bool {
	d := x.Shape().Dimensions
	return l.suits(c) && d[1]%tiles4.size == 0 && d[2]%tiles4.size == 0 && d[1]*d[2] >= winogradMap
}
