package nn

import (
	"fmt"
	"testing"

	"github.com/gomlx/compute"
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
		{16, 20, Same(3)},
		{18, 20, Same(3)}, // Tiles do not cover it.
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

// tiles2 is F(2x2, 3x3), of the points 0, 1, -1.
var tiles2 = basis{2, 4,
	[][]float64{{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}},
	[][]float64{{1, 0}, {1, 1}, {1, -1}, {0, -1}},
	[][]float64{{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}},
}

// TestBases compares each part of a convolution in Winograd's bases with plain
// loops, over maps that tiles cover and maps that they do not.
func TestBases(t *testing.T) {
	const examples, draws, in, out = 3, 2, 3, 5
	b := backendtest.Open(t, "go")
	for _, size := range [][2]int{{4, 4}, {8, 12}, {5, 7}, {1, 3}} {
		for _, base := range []basis{tiles2, tiles4} {
			t.Run(fmt.Sprintf("%dx%d tiles of %d", size[0], size[1], base.size), func(t *testing.T) {
				h, w := size[0], size[1]
				x, g, kernel := values(1, examples*draws, h, w, in), values(2, examples*draws, h, w, out), values(3, 3, 3, in, out)
				e, err := graph.NewExec(b, func(x, g, w *graph.Node) []*graph.Node {
					d, z := x.Shape().Dimensions, base.outputGradient(g)
					v, u := base.input(x), base.kernel(w)
					return []*graph.Node{base.convolve(v, u, d), base.exampleGrads(x, g, examples), base.weightGrad(v, z), base.pixelGrad(z, u, d)}
				})
				if err != nil {
					t.Fatal(err)
				}
				defer e.Finalize()
				got, err := e.Exec(x.tensor(), g.tensor(), kernel.tensor())
				if err != nil {
					t.Fatal(err)
				}
				each := newHost(examples, 9*in, out)
				for at := range x.data {
					r, y, z, i := at/(h*w*in), at/(w*in)%h, at/in%w, at%in
					for u := range 3 {
						for v := range 3 {
							if gy, gz := y+1-u, z+1-v; gy >= 0 && gy < h && gz >= 0 && gz < w {
								for o := range out {
									*each.at(r/draws, (3*u+v)*in+i, o) += x.data[at] * *g.at(r, gy, gz, o)
								}
							}
						}
					}
				}
				checkClose(t, "convolution", got[0], conv(x, kernel, nil, Same(3)))
				checkClose(t, "gradients of the examples", got[1], each)
			})
		}
	}
}

// TestWideConvolutions compares layers wide enough for Winograd's basis with the
// backend's own convolution, and their gradients by input, weight and bias: those of ordinary
// training, and those that the tape offers.
func TestWideConvolutions(t *testing.T) {
	const rows, in, out = 8, 32, 40
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, size := range []int{4, 7, 8} {
			for _, trains := range []bool{false, true} {
				w := NewWeights()
				w.Add(&Tensor{Name: "bias", Kind: KindVector, Shape: []int{out}, Data: values(1, out).float32s()})
				w.Add(&Tensor{Name: "weight", Kind: KindKernel, Shape: []int{3, 3, in, out}, Data: values(2, 3, 3, in, out).float32s()})
				var trainable []string
				if trains {
					trainable = w.Names()
				}
				run := func(l Lowering, rows int, basis, many bool) []*tensors.Tensor {
					p, err := NewProgram(b, ProgramOptions{NN: Options{Lowering: l}, Weights: w, Trainable: trainable, ManyCalls: many,
						Build: func(s *Scope, trained, inputs []*graph.Node) []*graph.Node {
							u := s.build.opts.kernels["weight"]
							if many != (u != nil) {
								t.Errorf("kernel comes in Winograd's basis: %t, want %t", u != nil, many)
							}
							if got := l.winograd(Same(3), inputs[0].Shape().Dimensions, out, u != nil); got != basis {
								t.Errorf("lowering %d, %d maps of %d pixels: in Winograd's basis: %t, want %t", l, rows, size, got, basis)
							}
							y := Conv2D(s, inputs[0], out, Same(3), ConvOptions{})
							loss := graph.ReduceAllSum(graph.Mul(graph.Mul(y, y), inputs[1]))
							outputs := append([]*graph.Node{y}, graph.Gradient(loss, append([]*graph.Node{inputs[0]}, trained...)...)...)
							if trains {
								layer := s.Tape()[0]
								g := graph.Gradient(loss, layer.Output)[0]
								outputs = append(outputs, layer.WeightGrad(l, g), layer.ExampleGrads(l, g, 2))
							}
							return outputs
						}})
					if err != nil {
						t.Fatal(err)
					}
					defer p.Close()
					vector, err := p.Vector(w.Flatten(trainable))
					if err != nil {
						t.Fatal(err)
					}
					got, err := p.Run(vector, values(3, rows, size, size, in).tensor(), values(4, rows, size, size, out).tensor())
					if err != nil {
						t.Fatal(err)
					}
					return got
				}
				many := rows
				if size == 4 { // A tile each.
					many = winogradTiles
				}
				check := func(rows int, manyCalls bool) {
					want := run(Native, rows, false, false)
					for i, got := range run(Small, rows, true, manyCalls) {
						checkClose(t, fmt.Sprintf("%dx%d, trains %t, many calls %t: output %d in Winograd's basis", size, size, trains, manyCalls, i), got, hostOf(t, want[i]))
					}
				}
				check(many, false)
				check(many, true)
				check(winogradTilesOfGiven, true)
				run(Small, 2, false, false) // Too few tiles.
			}
		}
	})
}

// TestBlocksKeepNoTiles: a convolution of a block that is computed again is the backend's own,
// since a gradient written by hand would keep its tiles until the backward pass.
func TestBlocksKeepNoTiles(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, recompute := range []bool{false, true} {
		w := NewWeights()
		w.Add(&Tensor{Name: "weight", Kind: KindKernel, Shape: []int{3, 3, 32, 32}, Data: values(2, 3, 3, 32, 32).float32s()})
		products := 0
		p, err := NewProgram(b, ProgramOptions{NN: Options{Lowering: Small, Recompute: recompute}, Weights: w, Trainable: w.Names(),
			Build: func(s *Scope, trained, inputs []*graph.Node) []*graph.Node {
				y := s.Block(inputs[0], func(x *graph.Node) *graph.Node { return Conv2D(s, x, 32, Same(3), ConvOptions{NoBias: true}) })
				for _, n := range s.Graph().Nodes() {
					if n.Type() == graph.NodeTypeDotGeneral {
						products++
					}
				}
				return []*graph.Node{y}
			}})
		if err != nil {
			t.Fatal(err)
		}
		vector, err := p.Vector(w.Flatten(w.Names()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(vector, values(3, 8, 8, 8, 32).tensor()); err != nil {
			t.Fatal(err)
		}
		p.Close()
		if got := products > 0; got == recompute {
			t.Errorf("recompute %t: in Winograd's basis: %t", recompute, got)
		}
	}
}

func hostOf(t *testing.T, x *tensors.Tensor) host {
	t.Helper()
	v, err := tensors.CopyFlatData[float32](x)
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(x.Shape().Dimensions...)
	for i := range v {
		h.data[i] = float64(v[i])
	}
	return h
}
