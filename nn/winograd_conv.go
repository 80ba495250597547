package nn

import (
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

const (
	// winogradChannels is the least number of channels, in and out, of a convolution
	// in Winograd's basis: below, the changes of basis cost more than the products
	// they save. winogradTiles is the least number of tiles: with fewer, the kernel's
	// is most of the work.
	winogradChannels, winogradTiles = 32, 32
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
// to out channels is computed in Winograd's basis. Models that train keep the
// backend's own, which moves less memory: that is what bounds them.
func (s *Scope) winograd(c Conv, d []int, out int) bool {
	if !s.Lowering().suits(c) || s.build.opts.Trainable != nil || min(d[3], out) < winogradChannels {
		return false
	}
	h, w := tiles4.tiles(d[1]), tiles4.tiles(d[2])
	return d[0]*h*w >= winogradTiles && 9*d[1]*d[2] >= 2*tiles4.side*tiles4.side*h*w
}

// convolve returns the convolution of x [rows, height, width, in] with w
// [3, 3, in, out], stride 1, padding 1.
func (t basis) convolve(x, w *Node) *Node {
	d := x.Shape().Dimensions
	m := DotGeneral(t.input(x), []int{3}, []int{0, 1}, t.kernel(w), []int{2}, []int{0, 1})
	return t.output(m, []int{d[0], d[1], d[2], w.Shape().Dimensions[3]})
}

// exampleGrads returns the gradient by the kernel of a 3x3 convolution of x, stride
// 1 and padding 1, from that by its output, g, of each example:
// [examples, 9·in, out]. x and g hold the draws of an example one after the other.
func (t basis) exampleGrads(x, g *Node, examples int) *Node {
	in, out := x.Shape().Dimensions[3], g.Shape().Dimensions[3]
	v := Reshape(t.input(x), t.side, t.side, examples, -1, in)
	z := Reshape(t.outputGradient(g), t.side, t.side, examples, -1, out)
	p := DotGeneral(v, []int{3}, []int{0, 1, 2}, z, []int{3}, []int{0, 1, 2})
	return Concatenate(t.kernelGradient(p), 1)
}

// formsExampleGrads reports whether the kernel gradients of the examples are
// cheaper in Winograd's basis than from windows. XLA computes a product per example
// slowly where its operands, the windows, are nine times as large as the map.
func (l Lowering) formsExampleGrads(x *Node, c Conv) bool {
	d := x.Shape().Dimensions
	return l.suits(c) && d[1]%2 == 0 && d[2]%2 == 0 && d[1]*d[2] >= winogradMap
}
