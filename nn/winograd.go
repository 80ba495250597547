package nn

import (
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// winogradMap is the smallest map, in pixels, whose kernel gradients are formed
// example by example in Winograd's basis.
const winogradMap = 256

// winograd reports whether the kernel gradients of the examples are cheaper in
// Winograd's basis than from windows. XLA computes a product per example slowly
// where its operands, the windows, are nine times as large as the map.
func (l Lowering) winograd(x *Node, c Conv) bool {
	d := x.Shape().Dimensions
	return l == Small && c.Kernel == 3 && c.stride() == 1 && c.Pad == [2]int{1, 1} &&
		d[1]%2 == 0 && d[2]%2 == 0 && d[1]*d[2] >= winogradMap
}

// The matrices of F(2x2, 3x3), by which 4 products do the work of 9 (Lavin &
// Gray 2016, https://arxiv.org/abs/1509.09308): an output tile Y of 2x2 pixels of
// a convolution of the input tile d of 4x4 with the kernel w of 3x3 is
//
//	Y = Aᵀ[(G w Gᵀ) ∘ (Bᵀ d B)]A
//
// so that for a gradient g of Y the gradient by w is Gᵀ[(Bᵀ d B) ∘ (A g Aᵀ)]G.
var (
	winogradB = [4][4]float64{{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}} // Bᵀ
	winogradA = [4][2]float64{{1, 0}, {1, 1}, {1, -1}, {0, -1}}
	winogradG = [4][3]float64{{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}}
)

// winogradGrads returns the gradient by the kernel of a 3x3 convolution, of
// stride 1 and padding 1, of each example: [examples, 9·in, out].
//
//   - x: [examples·draws, height, width, in], height and width even.
//   - g: [examples·draws, height, width, out], the gradient by the output.
func winogradGrads(x, g *Node, examples int) *Node {
	d := x.Shape().Dimensions
	in, out := d[3], g.Shape().Dimensions[3]
	h, w := d[1]/2, d[2]/2 // Tiles.

	// Pixels by place in the tile: x starts a row and a column early, and a tile
	// shares two of each with its neighbours.
	padded := Reshape(Same(3).pad(x), d[0], h+1, 2, w+1, 2, in)
	pixel := func(i, j int) *Node {
		return Reshape(Slice(padded, AxisRange(), AxisRange(i/2, i/2+h), AxisElem(i%2), AxisRange(j/2, j/2+w), AxisElem(j%2)), examples, -1, in)
	}
	tiles := Reshape(g, d[0], h, 2, w, 2, out)
	gradient := func(i, j int) *Node {
		return Reshape(Slice(tiles, AxisRange(), AxisRange(), AxisElem(i), AxisRange(), AxisElem(j)), examples, -1, out)
	}
	var products [4][4]*Node
	for i := range 4 {
		for j := range 4 {
			v := combine(winogradB[i][:], winogradB[j][:], pixel)
			z := combine(winogradA[i][:], winogradA[j][:], gradient)
			products[i][j] = Einsum("ntp,ntq->npq", v, z)
		}
	}
	taps := make([]*Node, 0, 9)
	for p := range 3 {
		for q := range 3 {
			var column, row [4]float64
			for i := range 4 {
				column[i], row[i] = winogradG[i][p], winogradG[i][q]
			}
			taps = append(taps, combine(column[:], row[:], func(i, j int) *Node { return products[i][j] }))
		}
	}
	return Concatenate(taps, 1) // [examples, 9·in, out]
}

// combine returns Σ_ij column_i·row_j·x(i, j), leaving out what is zero.
func combine(column, row []float64, x func(i, j int) *Node) *Node {
	var sum *Node
	for i, a := range column {
		for j, b := range row {
			switch c := a * b; {
			case c == 0:
			case sum == nil && c == 1:
				sum = x(i, j)
			case sum == nil:
				sum = MulScalar(x(i, j), c)
			case c == 1:
				sum = Add(sum, x(i, j))
			case c == -1:
				sum = Sub(sum, x(i, j))
			default:
				sum = Add(sum, MulScalar(x(i, j), c))
			}
		}
	}
	return sum
}
