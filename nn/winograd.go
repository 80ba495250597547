package nn

import (
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// A basis of Winograd's: one product for each of side·side places in a tile does
// the work of 9 for each of size·size pixels of a 3x3 convolution, 36 for 144 with
// tiles of 4x4 pixels (Lavin & Gray 2016, https://arxiv.org/abs/1509.09308). An
// output tile Y of the input tile d, two pixels larger, with the kernel w is
//
//	Y = Aᵀ[(G w Gᵀ) ∘ (Bᵀ d B)]A
//
// so that for a gradient g of Y the gradient by w is Gᵀ[(Bᵀ d B) ∘ (A g Aᵀ)]G.
type basis struct {
	size, side int         // Pixels of a tile of the output, and of the input, along an axis.
	b          [][]float64 // Bᵀ [side, side].
	a          [][]float64 // A [side, size].
	g          [][]float64 // G [side, 3].
}

// F(4x4, 3x3), of the points 0, 1, -1, 2, -2. Larger tiles lose digits.
var tiles4 = basis{4, 6,
	[][]float64{{4, 0, -5, 0, 1, 0}, {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0}, {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}},
	[][]float64{{1, 0, 0, 0}, {1, 1, 1, 1}, {1, -1, 1, -1}, {1, 2, 4, 8}, {1, -2, 4, -8}, {0, 0, 0, 1}},
	[][]float64{{1. / 4, 0, 0}, {-1. / 6, -1. / 6, -1. / 6}, {-1. / 6, 1. / 6, -1. / 6}, {1. / 24, 1. / 12, 1. / 6}, {1. / 24, -1. / 12, 1. / 6}, {0, 0, 1}},
}

// tiles returns the number of tiles that cover n pixels.
func (t basis) tiles(n int) int { return (n + t.size - 1) / t.size }

// A span of values is an axis of blocks·size values, with what comes before and
// after it: [lead, outer, blocks, size, inner].
type span struct{ lead, outer, blocks, size, inner int }

// along returns, for each row of m, the sum over k of m[row][k] times the value k
// of each tile along the span, stacked as a new first axis:
// [len(m), lead, outer, tiles, inner]. A tile begins every size values.
func (a span) along(x *Node, m [][]float64, tiles int) *Node {
	x = Reshape(x, a.lead, a.outer, a.blocks, a.size, a.inner)
	rows := make([]*Node, len(m))
	for i := range m {
		y := weighted(m[i], func(k int) *Node {
			first := k / a.size
			return Slice(x, AxisRange(), AxisRange(), AxisRange(first, first+tiles), AxisElem(k%a.size))
		})
		rows[i] = Reshape(y, 1, a.lead, a.outer, tiles, a.inner)
	}
	return Concatenate(rows, 0)
}

// input returns Bᵀ d B of the tiles d of x [rows, height, width, channels] for a
// padding of one pixel: [side, side, tiles, channels], the place in a row of the
// tile before the row.
func (t basis) input(x *Node) *Node {
	d := x.Shape().Dimensions
	n, c, h, w := d[0], d[3], t.tiles(d[1]), t.tiles(d[2])
	// A tile starts a row and a column early, and shares two of each with the next.
	pad := func(pixels, tiles int) PadAxis { return PadAxis{Start: 1, End: t.size*(tiles+1) - pixels - 1} }
	x = Pad(x, ScalarZero(x.Graph(), x.DType()), PadAxis{}, pad(d[1], h), pad(d[2], w), PadAxis{})
	x = span{1, n, h + 1, t.size, (w + 1) * t.size * c}.along(x, t.b, h)
	x = span{t.side, n * h, w + 1, t.size, c}.along(x, t.b, w)
	return Reshape(x, t.side, t.side, n*h*w, c)
}

// outputGradient returns A g Aᵀ of the tiles of g [rows, height, width, channels],
// laid out as input's: [side, side, tiles, channels].
func (t basis) outputGradient(g *Node) *Node {
	d := g.Shape().Dimensions
	n, c, h, w := d[0], d[3], t.tiles(d[1]), t.tiles(d[2])
	if d[1] != h*t.size || d[2] != w*t.size {
		g = Pad(g, ScalarZero(g.Graph(), g.DType()), PadAxis{}, PadAxis{End: h*t.size - d[1]}, PadAxis{End: w*t.size - d[2]}, PadAxis{})
	}
	g = span{1, n, h, t.size, w * t.size * c}.along(g, t.a, h)
	g = span{t.side, n * h, w, t.size, c}.along(g, t.a, w)
	return Reshape(g, t.side, t.side, n*h*w, c)
}

// output returns Aᵀ m A of products m [side, side, tiles, channels], laid out as
// input's, as a map of d [rows, height, width, channels].
func (t basis) output(m *Node, d []int) *Node {
	h, w, c := t.tiles(d[1]), t.tiles(d[2]), d[3]
	back, tiles := transposed(t.a), d[0]*h*w
	m = span{1, 1, 1, t.side, t.side * tiles * c}.along(m, back, 1)
	m = span{t.size, 1, 1, t.side, tiles * c}.along(Reshape(m, t.size, t.side, tiles, c), back, 1)
	y := TransposeAllAxes(Reshape(m, t.size, t.size, d[0], h, w, c), 2, 3, 0, 4, 1, 5)
	return crop(Reshape(y, d[0], h*t.size, w*t.size, c), d)
}

// inputGradient is input transposed: B v Bᵀ of the tiles v, laid out as input's, each
// added to the pixels that input takes it from, in a map of d [rows, height, width, channels].
func (t basis) inputGradient(v *Node, d []int) *Node {
	h, w, c := t.tiles(d[1]), t.tiles(d[2]), d[3]
	v = t.overlap(Reshape(v, 1, t.side, t.side*d[0]*h, w, c))
	v = t.overlap(Reshape(v, t.size, t.side, d[0], h, w*c))
	y := TransposeAllAxes(Reshape(v, t.size, t.size, d[0], h, w, c), 2, 3, 0, 4, 1, 5)
	return crop(Reshape(y, d[0], h*t.size, w*t.size, c), d)
}

// overlap returns, for each of the size pixels of each tile of v [lead, side, outer, tiles,
// inner], the sum of what B makes of the tile and of its two neighbours, which share
// a pixel with it at either end: [size, lead, outer, tiles, inner].
func (t basis) overlap(v *Node) *Node {
	d, back := v.Shape().Dimensions, transposed(t.b)
	part := func(place int) *Node {
		return weighted(back[place], func(k int) *Node { return Slice(v, AxisRange(), AxisElem(k)) })
	}
	// from returns x of the tile before, or after, where there is one.
	from := func(x *Node, before int) *Node {
		keep, pad := AxisRange(0, d[3]-1), PadAxis{Start: 1}
		if before < 0 {
			keep, pad = AxisRange(1), PadAxis{End: 1}
		}
		x = Slice(x, AxisRange(), AxisRange(), AxisRange(), keep)
		return Pad(x, ScalarZero(x.Graph(), x.DType()), PadAxis{}, PadAxis{}, PadAxis{}, pad, PadAxis{})
	}
	rows := make([]*Node, t.size)
	for i := range rows {
		y := part(i + 1)
		if i == 0 && d[3] > 1 {
			y = Add(y, from(part(t.side-1), 1))
		}
		if i == t.size-1 && d[3] > 1 {
			y = Add(y, from(part(0), -1))
		}
		rows[i] = Reshape(y, 1, d[0], d[2], d[3], d[4])
	}
	return Concatenate(rows, 0)
}

// crop returns the first d[1] rows and d[2] columns of maps.
func crop(y *Node, d []int) *Node {
	if y.Shape().Dimensions[1] == d[1] && y.Shape().Dimensions[2] == d[2] {
		return y
	}
	return Slice(y, AxisRange(), AxisRange(0, d[1]), AxisRange(0, d[2]))
}

// kernel returns G w Gᵀ of w [3, 3, in, out], laid out as input's:
// [side, side, in, out].
func (t basis) kernel(w *Node) *Node {
	d := w.Shape().Dimensions
	w = span{1, 1, 1, 3, 3 * d[2] * d[3]}.along(w, t.g, 1)
	w = span{t.side, 1, 1, 3, d[2] * d[3]}.along(w, t.g, 1)
	return Reshape(w, t.side, t.side, d[2], d[3])
}

// kernelShape returns the shape of kernel.
func (t basis) kernelShape(w shapes.Shape) shapes.Shape {
	return shapes.Make(w.DType, t.side, t.side, w.Dimensions[2], w.Dimensions[3])
}

// kernelGradient returns Gᵀ p G of products p [side, side, dims...], laid out as
// input's: [3, 3, dims...], row by row.
func (t basis) kernelGradient(p *Node) *Node {
	back, dims := transposed(t.g), p.Shape().Dimensions[2:]
	size := p.Shape().Size() / (t.side * t.side)
	p = span{1, 1, 1, t.side, t.side * size}.along(p, back, 1)
	p = span{3, 1, 1, t.side, size}.along(p, back, 1)
	return Reshape(p, append([]int{3, 3}, dims...)...)
}

// weighted returns Σ_k by_k·x(k), leaving out what is zero.
func weighted(by []float64, x func(k int) *Node) *Node {
	var sum *Node
	for k, c := range by {
		switch {
		case c == 0:
		case sum == nil && c == 1:
			sum = x(k)
		case sum == nil:
			sum = MulScalar(x(k), c)
		case c == 1:
			sum = Add(sum, x(k))
		case c == -1:
			sum = Sub(sum, x(k))
		default:
			sum = Add(sum, MulScalar(x(k), c))
		}
	}
	return sum
}

func transposed(m [][]float64) [][]float64 {
	t := make([][]float64, len(m[0]))
	for j := range t {
		for i := range m {
			t[j] = append(t[j], m[i][j])
		}
	}
	return t
}
