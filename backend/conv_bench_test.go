package backend_test

import (
	"fmt"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/internal/backendtest"
)

func shapesOf(x *node, dimensions ...int) shapes.Shape { return shapes.Make(x.DType(), dimensions...) }
func intShape(dimensions ...int) shapes.Shape          { return shapes.Make(dtypes.Int32, dimensions...) }

// padByConcatenate puts a border of one zero around the images, by copies of blocks.
func padByConcatenate(x *node) *node {
	d := x.Shape().Dimensions
	row := graph.Zeros(x.Graph(), shapesOf(x, d[0], 1, d[2], d[3]))
	x = graph.Concatenate([]*node{row, x, row}, 1)
	column := graph.Zeros(x.Graph(), shapesOf(x, d[0], d[1]+2, 1, d[3]))
	return graph.Concatenate([]*node{column, x, column}, 2)
}

func padByPad(x *node) *node {
	pad := graph.PadAxis{Start: 1, End: 1}
	return graph.Pad(x, graph.ScalarZero(x.Graph(), x.DType()), graph.PadAxis{}, pad, pad, graph.PadAxis{})
}

// window is the part of the padded images under one tap of the kernel.
func window(padded *node, u, v, h, w int) *node {
	return graph.Slice(padded, graph.AxisRange(), graph.AxisRange(u, u+h), graph.AxisRange(v, v+w), graph.AxisRange())
}

func tap(w *node, u, v int) *node {
	return graph.Reshape(graph.Slice(w, graph.AxisElem(u), graph.AxisElem(v)), w.Shape().Dimensions[2:]...)
}

// lowerings are ways to write a 3x3 convolution, stride 1, same size; x is [batch,
// height, width, in] and w is [3, 3, in, out].
var lowerings = []struct {
	name string
	conv func(x, w *node) *node
}{
	{"native", func(x, w *node) *node { return graph.Convolve(x, w).PadSame().Done() }},
	{"9 slices and pads, concat, 1 product", func(x, w *node) *node {
		d := x.Shape().Dimensions
		zero := graph.ScalarZero(x.Graph(), x.DType())
		var parts []*node
		for u := -1; u <= 1; u++ {
			for v := -1; v <= 1; v++ {
				part := graph.Slice(x, graph.AxisRange(), graph.AxisRange(max(0, u), d[1]+min(0, u)), graph.AxisRange(max(0, v), d[2]+min(0, v)), graph.AxisRange())
				parts = append(parts, graph.Pad(part, zero, graph.PadAxis{}, graph.PadAxis{Start: max(0, -u), End: max(0, u)}, graph.PadAxis{Start: max(0, -v), End: max(0, v)}, graph.PadAxis{}))
			}
		}
		return dense(graph.Concatenate(parts, -1), graph.Reshape(w, 9*d[3], -1))
	}},
	{"pad, 9 slices, concat, 1 product", func(x, w *node) *node {
		d, p := x.Shape().Dimensions, padByPad(x)
		var parts []*node
		for i := range 9 {
			parts = append(parts, window(p, i/3, i%3, d[1], d[2]))
		}
		return dense(graph.Concatenate(parts, -1), graph.Reshape(w, 9*d[3], -1))
	}},
	{"pad, 9 slices, 9 products", func(x, w *node) *node {
		d, p := x.Shape().Dimensions, padByPad(x)
		var sum *node
		for i := range 9 {
			sum = plus(sum, dense(window(p, i/3, i%3, d[1], d[2]), tap(w, i/3, i%3)))
		}
		return sum
	}},
	{"pad, 3 column slices, concat, 3 row slices and products", func(x, w *node) *node {
		d, p := x.Shape().Dimensions, padByConcatenate(x)
		var columns []*node
		for v := range 3 {
			columns = append(columns, window(p, 0, v, d[1]+2, d[2]))
		}
		wide := graph.Concatenate(columns, -1) // [batch, height+2, width, 3*in]
		var sum *node
		for u := range 3 {
			sum = plus(sum, dense(window(wide, u, 0, d[1], d[2]), graph.Reshape(graph.Slice(w, graph.AxisElem(u)), 3*d[3], -1)))
		}
		return sum
	}},
	{"flat: border kept, 9 first-axis slices, concat, 1 product", func(x, w *node) *node {
		d := x.Shape().Dimensions
		flat, width := flatten(x)
		n := d[0] * (d[1] + 2) * width
		var parts []*node
		for i := range 9 {
			start := i/3*width + i%3
			parts = append(parts, graph.Slice(flat, graph.AxisRange(start, start+n)))
		}
		return unflatten(dense(graph.Concatenate(parts, -1), graph.Reshape(w, 9*d[3], -1)), d)
	}},
	{"flat: border kept, 9 first-axis slices, 9 products", func(x, w *node) *node {
		d := x.Shape().Dimensions
		flat, width := flatten(x)
		n := d[0] * (d[1] + 2) * width
		var sum *node
		for i := range 9 {
			start := i/3*width + i%3
			sum = plus(sum, dense(graph.Slice(flat, graph.AxisRange(start, start+n)), tap(w, i/3, i%3)))
		}
		return unflatten(sum, d)
	}},
	{"flat: 1 product with all taps, 9 shifted sums", func(x, w *node) *node {
		d := x.Shape().Dimensions
		flat, width := flatten(x)
		n := d[0] * (d[1] + 2) * width
		taps := graph.Reshape(w, 9, d[3], -1)
		var sum *node
		for i := range 9 {
			start := i/3*width + i%3
			all := dense(flat, graph.Reshape(graph.Slice(taps, graph.AxisElem(i)), d[3], -1))
			sum = plus(sum, graph.Slice(all, graph.AxisRange(start, start+n)))
		}
		return unflatten(sum, d)
	}},
	{"gather of pixels, 1 product", func(x, w *node) *node {
		d := x.Shape().Dimensions
		p := padByConcatenate(x)
		g := x.Graph()
		b, r, c, t := iota(g, d[0], 0, d), iota(g, d[1], 1, d), iota(g, d[2], 2, d), iota(g, 9, 3, d)
		three := graph.Scalar(g, dtypes.Int32, 3)
		row, column := graph.Add(r, graph.Div(t, three)), graph.Add(c, graph.Mod(t, three))
		at := graph.Add(graph.MulScalar(graph.Add(graph.MulScalar(b, d[1]+2), row), d[2]+2), column)
		patches := graph.Gather(graph.Reshape(p, -1, d[3]), graph.Reshape(at, -1, 1))
		y := graph.Dot(graph.Reshape(patches, -1, 9*d[3]), graph.Reshape(w, 9*d[3], -1)).Product()
		return graph.Reshape(y, d[0], d[1], d[2], -1)
	}},
}

func iota(g *graph.Graph, n, axis int, d []int) *node {
	return graph.Iota(g, intShape(d[0], d[1], d[2], 9), axis)
}

func plus(sum, x *node) *node {
	if sum == nil {
		return x
	}
	return graph.Add(sum, x)
}

// flatten lays padded images out as one row of pixels, with zeros after the last,
// so that the window of each tap is one block of memory. It also returns the
// padded width.
func flatten(x *node) (*node, int) {
	d := x.Shape().Dimensions
	width := d[2] + 2
	flat := graph.Reshape(padByConcatenate(x), -1, d[3])
	tail := graph.Zeros(x.Graph(), shapesOf(x, 2*width+2, d[3]))
	return graph.Concatenate([]*node{flat, tail}, 0), width
}

// unflatten drops the pixels whose window ran over a border.
func unflatten(y *node, d []int) *node {
	y = graph.Reshape(y, d[0], d[1]+2, d[2]+2, -1)
	return graph.Slice(y, graph.AxisRange(), graph.AxisRange(0, d[1]), graph.AxisRange(0, d[2]), graph.AxisRange())
}

// Every way is the same function, or the benchmark compares nothing.
func TestConvolutionLoweringsAgree(t *testing.T) {
	b := backendtest.Open(t, "go")
	var want [][]float32
	for _, l := range lowerings {
		outputs, err := graph.CallOnceN(b, func(x, w, r *node) []*node {
			y := l.conv(x, w)
			return append([]*node{y}, graph.Gradient(graph.ReduceAllSum(graph.Mul(y, r)), x, w)...)
		}, random(1, 2, 5, 4, 3), random(2, 3, 3, 3, 6), random(3, 2, 5, 4, 6))
		if err != nil {
			t.Fatalf("%s: %v", l.name, err)
		}
		got := values(t, outputs)
		if want == nil {
			want = got
		}
		if d := difference(got, want); !(d <= 2e-5) { // Sums of at most 60 products of size one.
			t.Errorf("%s differs from %s by %g", l.name, lowerings[0].name, d)
		}
	}
}

func BenchmarkConvolution(b *testing.B) {
	for _, s := range []struct{ size, in, out int }{{14, 32, 32}, {28, 32, 32}, {7, 64, 64}} {
		for _, l := range lowerings {
			for _, pass := range []string{"forward", "forward+gradients"} {
				b.Run(fmt.Sprintf("64x%dx%dx%d-%d/%s/%s", s.size, s.size, s.in, s.out, l.name, pass), func(b *testing.B) {
					backendtest.Benchmark(b, func(b *testing.B, be compute.Backend) {
						f := func(x, w *node) []*node { return []*node{l.conv(x, w)} }
						if pass != "forward" {
							f = func(x, w *node) []*node {
								return graph.Gradient(graph.ReduceAllSum(graph.Square(l.conv(x, w))), x, w)
							}
						}
						_, cpu := runGraph(b, be, 1, f, random(1, 64, s.size, s.size, s.in), random(2, 3, 3, s.in, s.out))
						b.ReportMetric(cpu/1e6/64, "cpu-ms/example")
					})
				})
			}
		}
	}
}
