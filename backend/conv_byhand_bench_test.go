package backend_test

import (
	"fmt"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/internal/backendtest"
)

// patches returns [batch, height, width, 9*channels]. With paired, two float32 move
// as one uint64, which halves the steps of the Go backend's slices: it copies
// element by element, whatever the element.
func patches(x *node, paired bool) *node {
	d := x.Shape().Dimensions
	p := padByConcatenate(x)
	if paired {
		p = graph.Bitcast(graph.Reshape(p, d[0], d[1]+2, d[2]+2, d[3]/2, 2), dtypes.Uint64)
	}
	var parts []*node
	for i := range 9 {
		parts = append(parts, window(p, i/3, i%3, d[1], d[2]))
	}
	p = graph.Concatenate(parts, -1)
	if paired {
		p = graph.Reshape(graph.Bitcast(p, dtypes.Float32), d[0], d[1], d[2], 9*d[3])
	}
	return p
}

// byHand returns y = conv(x, w) and the gradients of sum(r(y) * y) by x and w, with
// r(y) held fixed. By x it is the convolution of r with the kernel turned round; by w
// the product of the patches, kept from the way forward, with r.
func byHand(x, w *node, r func(y *node) *node, paired bool) []*node {
	d, out := x.Shape().Dimensions, w.Shape().Dimensions[3]
	p := graph.Reshape(patches(x, paired), -1, 9*d[3])
	y := graph.Reshape(graph.Dot(p, graph.Reshape(w, 9*d[3], out)).Product(), d[0], d[1], d[2], out)
	g := r(y)
	turned := graph.Reshape(graph.TransposeAllAxes(graph.Reverse(w, 0, 1), 0, 1, 3, 2), 9*out, d[3])
	dx := dense(patches(g, paired), turned)
	// The Go backend would transpose both operands of a product over both first axes,
	// which for the patches costs more than the product; so the small one is, first.
	dw := graph.Dot(graph.Transpose(graph.Reshape(g, -1, out), 0, 1), p).Product()
	return []*node{y, dx, graph.Reshape(graph.Transpose(dw, 0, 1), 3, 3, d[3], out)}
}

func TestConvolutionByHandAgrees(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, paired := range []bool{false, true} {
			outputs, err := graph.CallOnceN(b, func(x, w, r *node) []*node {
				y := graph.Convolve(x, w).PadSame().Done()
				want := append([]*node{y}, graph.Gradient(graph.ReduceAllSum(graph.Mul(y, r)), x, w)...)
				return append(want, byHand(x, w, func(*node) *node { return r }, paired)...)
			}, random(1, 2, 5, 4, 4), random(2, 3, 3, 4, 6), random(3, 2, 5, 4, 6))
			if err != nil {
				t.Fatal(err)
			}
			v := values(t, outputs)
			if d := difference(v[3:], v[:3]); !(d <= 2e-5) {
				t.Errorf("paired %v: off by %g", paired, d)
			}
		}
	})
}

func BenchmarkConvolutionByHand(b *testing.B) {
	for _, s := range []struct{ batch, size, in, out int }{{64, 14, 32, 32}, {4, 14, 32, 32}, {64, 28, 32, 32}, {4, 28, 32, 32}, {64, 7, 64, 64}, {4, 7, 64, 64}} {
		for _, paired := range []bool{false, true} {
			for _, outputs := range []int{1, 3} {
				b.Run(fmt.Sprintf("%dx%dx%dx%d-%d/paired=%v/outputs=%d", s.batch, s.size, s.size, s.in, s.out, paired, outputs), func(b *testing.B) {
					backendtest.Benchmark(b, func(b *testing.B, be compute.Backend) {
						_, cpu := runGraph(b, be, 1, func(x, w *node) []*node {
							return byHand(x, w, func(y *node) *node { return graph.MulScalar(y, 2) }, paired)[:outputs]
						}, random(1, s.batch, s.size, s.size, s.in), random(2, 3, 3, s.in, s.out))
						b.ReportMetric(cpu/1e6/float64(s.batch), "cpu-ms/example")
					})
				})
			}
		}
	}
}
