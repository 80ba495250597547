package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
)

// host is an array in float64, the oracle's side.
type host struct {
	dims []int
	data []float64
}

func (h host) at(i ...int) *float64 {
	k := 0
	for axis, v := range i {
		k = k*h.dims[axis] + v
	}
	return &h.data[k]
}

func newHost(dims ...int) host { return host{dims, make([]float64, Spec{Shape: dims}.Size())} }

// layerCase is a layer with a plain loop over float64 that says what it is.
type layerCase struct {
	name   string
	inputs [][]int
	build  func(s *Scope, in []*graph.Node) *graph.Node
	// oracle gets the inputs, then the parameters in the order of their names.
	oracle func(in []host, param map[string]host) host
}

func conv(x, w host, b *host, c Conv) host {
	h, wd := c.Size(x.dims[1]), c.Size(x.dims[2])
	y := newHost(x.dims[0], h, wd, w.dims[3])
	st := max(1, c.Stride)
	for n := range x.dims[0] {
		for i := range h {
			for j := range wd {
				for o := range w.dims[3] {
					sum := 0.0
					if b != nil {
						sum = b.data[o]
					}
					for u := range c.Kernel {
						for v := range c.Kernel {
							yy, xx := i*st+u-c.Pad[0], j*st+v-c.Pad[0]
							if yy < 0 || yy >= x.dims[1] || xx < 0 || xx >= x.dims[2] {
								continue
							}
							for k := range w.dims[2] {
								sum += *x.at(n, yy, xx, k) * *w.at(u, v, k, o)
							}
						}
					}
					*y.at(n, i, j, o) = sum
				}
			}
		}
	}
	return y
}

// linearOracle: x [n, t, in], or any rank with the last axis in.
func linearOracle(x, w host, b *host) host {
	in, out := w.dims[0], w.dims[1]
	y := newHost(append(slices.Clone(x.dims[:len(x.dims)-1]), out)...)
	for r := range len(x.data) / in {
		for o := range out {
			if b != nil {
				y.data[r*out+o] = b.data[o]
			}
			for k := range in {
				y.data[r*out+o] += x.data[r*in+k] * w.data[k*out+o]
			}
		}
	}
	return y
}

// normOracle normalises sets of entries: set(i) numbers entry i's set.
func normOracle(x, scale, shift host, sets int, epsilon float64, set func(i int) int) host {
	n, mean, square := make([]float64, sets), make([]float64, sets), make([]float64, sets)
	for i, v := range x.data {
		n[set(i)]++
		mean[set(i)] += v
	}
	for i, v := range x.data {
		d := v - mean[set(i)]/n[set(i)]
		square[set(i)] += d * d
	}
	y, channels := newHost(x.dims...), len(scale.data)
	for i, v := range x.data {
		k := set(i)
		y.data[i] = (v-mean[k]/n[k])/math.Sqrt(square[k]/n[k]+epsilon)*scale.data[i%channels] + shift.data[i%channels]
	}
	return y
}

func attentionOracle(q, k, v host, heads int) host {
	y := newHost(q.dims...)
	width := q.dims[2] / heads
	for r := range q.dims[0] {
		for h := range heads {
			for i := range q.dims[1] {
				p, total := make([]float64, k.dims[1]), 0.0
				for j := range p {
					dot := 0.0
					for c := h * width; c < (h+1)*width; c++ {
						dot += *q.at(r, i, c) * *k.at(r, j, c)
					}
					p[j] = math.Exp(dot / math.Sqrt(float64(width)))
					total += p[j]
				}
				for j := range p {
					for c := h * width; c < (h+1)*width; c++ {
						*y.at(r, i, c) += p[j] / total * *v.at(r, j, c)
					}
				}
			}
		}
	}
	return y
}

func pointwise(f func(x float64) float64) func(in []host, _ map[string]host) host {
	return func(in []host, _ map[string]host) host {
		y := newHost(in[0].dims...)
		for i, v := range in[0].data {
			y.data[i] = f(v)
		}
		return y
	}
}

func layerCases() []layerCase {
	var cases []layerCase
	for _, k := range []int{1, 3, 5} {
		for _, stride := range []int{1, 2} {
			for _, pad := range [][2]int{{0, 0}, {1, 1}, {0, 1}, {1, 0}, {2, 2}, {2, 1}, {0, 4}} {
				if pad[0] >= k || pad[1] >= k {
					continue
				}
				c, channels := Conv{Kernel: k, Stride: stride, Pad: pad}, [2]int{2, 3}
				if k == 3 {
					channels = [2]int{3, 2} // The odd number on the other side.
				}
				cases = append(cases, layerCase{fmt.Sprintf("conv %d stride %d pad %v", k, stride, pad), [][]int{{2, 5, 6, channels[0]}},
					func(s *Scope, in []*graph.Node) *graph.Node {
						return Conv2D(s, in[0], channels[1], c, ConvOptions{NoBias: stride == 2})
					},
					func(in []host, p map[string]host) host {
						if stride == 2 {
							return conv(in[0], p["weight"], nil, c)
						}
						b := p["bias"]
						return conv(in[0], p["weight"], &b, c)
					}})
			}
		}
	}
	group := func(rows, positions, channels, groups int) layerCase {
		return layerCase{fmt.Sprintf("group norm %d of %dx%d", groups, positions, channels), [][]int{{rows, positions, channels}},
			func(s *Scope, in []*graph.Node) *graph.Node { return GroupNorm(s, in[0], groups, 1e-2) },
			func(in []host, p map[string]host) host {
				return normOracle(in[0], p["weight"], p["bias"], rows*groups, 1e-2, func(i int) int {
					return i/(positions*channels)*groups + i%channels/(channels/groups)
				})
			}}
	}
	heads := func(n, m, channels, heads int) layerCase {
		return layerCase{fmt.Sprintf("attention %d to %d, %d heads of %d", n, m, heads, channels/heads), [][]int{{2, n, channels}, {2, m, channels}, {2, m, channels}},
			func(_ *Scope, in []*graph.Node) *graph.Node { return Attention(in[0], in[1], in[2], heads) },
			func(in []host, _ map[string]host) host { return attentionOracle(in[0], in[1], in[2], heads) }}
	}
	cases = append(cases,
		layerCase{"conv 3 on a map of 11x9", [][]int{{1, 11, 9, 2}}, // Too large for selection matrices.
			func(s *Scope, in []*graph.Node) *graph.Node { return Conv2D(s, in[0], 2, Same(3), ConvOptions{}) },
			func(in []host, p map[string]host) host { b := p["bias"]; return conv(in[0], p["weight"], &b, Same(3)) }},
		layerCase{"conv 3 stride 2 on a map of 10x9", [][]int{{1, 10, 9, 1}},
			func(s *Scope, in []*graph.Node) *graph.Node {
				return Conv2D(s, in[0], 2, Conv{3, 2, [2]int{0, 1}}, ConvOptions{NoBias: true})
			},
			func(in []host, p map[string]host) host {
				return conv(in[0], p["weight"], nil, Conv{3, 2, [2]int{0, 1}})
			}},
		layerCase{"dense", [][]int{{2, 3, 4}},
			func(s *Scope, in []*graph.Node) *graph.Node { return Dense(s, in[0], 5, DenseOptions{}) },
			func(in []host, p map[string]host) host { b := p["bias"]; return linearOracle(in[0], p["weight"], &b) }},
		layerCase{"dense, narrow, no bias", [][]int{{3, 7}},
			func(s *Scope, in []*graph.Node) *graph.Node { return Dense(s, in[0], 2, DenseOptions{NoBias: true}) },
			func(in []host, p map[string]host) host { return linearOracle(in[0], p["weight"], nil) }},
		group(2, 4, 6, 3), group(2, 5, 4, 1), group(3, 1, 6, 2), group(1, 3, 4, 4),
		layerCase{"group norm of maps", [][]int{{2, 2, 3, 4}},
			func(s *Scope, in []*graph.Node) *graph.Node { return GroupNorm(s, in[0], 2, 1e-2) },
			func(in []host, p map[string]host) host {
				return normOracle(in[0], p["weight"], p["bias"], 4, 1e-2, func(i int) int { return i/24*2 + i%4/2 })
			}},
		layerCase{"layer norm", [][]int{{2, 3, 5}},
			func(s *Scope, in []*graph.Node) *graph.Node { return LayerNorm(s, in[0], 1e-2) },
			func(in []host, p map[string]host) host {
				return normOracle(in[0], p["weight"], p["bias"], 6, 1e-2, func(i int) int { return i / 5 })
			}},
		heads(3, 4, 4, 2), heads(4, 3, 6, 2), heads(3, 3, 4, 1), heads(1, 3, 6, 3), heads(5, 1, 4, 2), heads(2, 5, 3, 3),
		layerCase{"upsample", [][]int{{2, 2, 3, 2}},
			func(_ *Scope, in []*graph.Node) *graph.Node { return Upsample2(in[0]) },
			func(in []host, _ map[string]host) host {
				y := newHost(2, 4, 6, 2)
				for k := range y.data {
					n, i, j, c := k/48, k/12%4, k/2%6, k%2
					y.data[k] = *in[0].at(n, i/2, j/2, c)
				}
				return y
			}},
		layerCase{"silu", [][]int{{3, 7}}, func(_ *Scope, in []*graph.Node) *graph.Node { return SiLU(graph.MulScalar(in[0], 3)) },
			pointwise(func(x float64) float64 { return 3 * x / (1 + math.Exp(-3*x)) })},
		layerCase{"gelu", [][]int{{3, 7}}, func(_ *Scope, in []*graph.Node) *graph.Node { return GELU(in[0]) },
			pointwise(func(x float64) float64 { return x * math.Erfc(-x/math.Sqrt2) / 2 })},
	)
	return cases
}

// variants are the backends and lowerings to test; XLA, which compiles for
// seconds, only with SCUMBLE_SLOW=1.
func variants(t *testing.T, f func(t *testing.T, b compute.Backend, l Lowering)) {
	t.Helper()
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		if b != backendtest.Open(t, "go") {
			if os.Getenv("SCUMBLE_SLOW") == "" {
				t.Skip("left out, since it compiles for long; SCUMBLE_SLOW=1 runs it")
			}
			f(t, b, Native)
			return
		}
		t.Run("native", func(t *testing.T) { f(t, b, Native) })
		t.Run("patches", func(t *testing.T) { f(t, b, Patches) })
	})
}

// values are random numbers of order one, spread by seed.
func values(seed uint64, dims ...int) host {
	rng, h := rand.New(rand.NewPCG(seed, 0)), newHost(dims...)
	for i := range h.data {
		h.data[i] = float64(float32(rng.NormFloat64()))
	}
	return h
}

func (h host) float32s() []float32 {
	v := make([]float32, len(h.data))
	for i := range v {
		v[i] = float32(h.data[i])
	}
	return v
}

func (h host) tensor() *tensors.Tensor {
	return tensors.FromFlatDataAndDimensions(h.float32s(), h.dims...)
}

// TestLayersAgainstLoops compares values with plain loops in float64, and
// gradients by inputs and parameters with central differences of those.
func TestLayersAgainstLoops(t *testing.T) {
	variants(t, func(t *testing.T, b compute.Backend, l Lowering) {
		for _, c := range layerCases() {
			t.Run(c.name, func(t *testing.T) { c.check(t, b, l) })
		}
	})
}

// run executes the layer on random inputs and weights; extra builds more outputs
// from the layer's value, the trainable nodes and the inputs.
func (c *layerCase) run(t *testing.T, b compute.Backend, l Lowering, in []host,
	extra func(y *graph.Node, trainable, in []*graph.Node) []*graph.Node) (w *Weights, outputs []*tensors.Tensor) {
	t.Helper()
	specs, err := Collect(b, Options{}, func(s *Scope) {
		var nodes []*graph.Node
		for _, d := range c.inputs {
			nodes = append(nodes, graph.Zeros(s.Graph(), float32Shape(d...)))
		}
		c.build(s, nodes)
	})
	if err != nil {
		t.Fatal(err)
	}
	w = NewWeights()
	for i, spec := range specs {
		w.Add(&Tensor{Name: spec.Name, Kind: spec.Kind, Shape: spec.Shape, Data: values(uint64(100+i), spec.Shape...).float32s()})
	}
	p, err := NewProgram(b, ProgramOptions{NN: Options{Lowering: l}, Weights: w, Trainable: w.Names(),
		Build: func(s *Scope, trainable, in []*graph.Node) []*graph.Node {
			y := c.build(s, in)
			if len(w.All()) == 0 {
				trainable = nil
			}
			return append([]*graph.Node{y}, extra(y, trainable, in)...)
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	vector, err := p.Vector(w.Flatten(w.Names()))
	if err != nil {
		t.Fatal(err)
	}
	var args []*tensors.Tensor
	for _, h := range in {
		args = append(args, h.tensor())
	}
	if outputs, err = p.Run(vector, args...); err != nil {
		t.Fatal(err)
	}
	return w, outputs
}

func (c *layerCase) check(t *testing.T, b compute.Backend, l Lowering) {
	var in []host
	for i, d := range c.inputs {
		in = append(in, values(uint64(i), d...))
	}
	var tilt host
	w, out := c.run(t, b, l, in, func(y *graph.Node, trainable, in []*graph.Node) []*graph.Node {
		tilt = values(9, y.Shape().Dimensions...)
		functional := graph.ReduceAllSum(graph.Mul(y, graph.ConstTensor(y.Graph(), tilt.tensor())))
		return graph.Gradient(functional, append(slices.Clone(in), trainable...)...)
	})
	params := map[string]host{}
	all := slices.Clone(in)
	names := []string{}
	for i := range in {
		names = append(names, fmt.Sprintf("input %d", i))
	}
	for _, p := range w.All() {
		h := newHost(p.Shape...)
		for i, v := range p.Data {
			h.data[i] = float64(v)
		}
		params[p.Name] = h
		all, names = append(all, h), append(names, p.Name)
	}
	checkClose(t, "value", out[0], c.oracle(in, params))
	functional := func() float64 {
		sum := 0.0
		for i, v := range c.oracle(in, params).data {
			sum += v * tilt.data[i]
		}
		return sum
	}
	for k, h := range all {
		want := newHost(h.dims...)
		for i := range h.data {
			const step = 1e-5
			old := h.data[i]
			h.data[i] = old + step
			up := functional()
			h.data[i] = old - step
			want.data[i] = (up - functional()) / (2 * step)
			h.data[i] = old
		}
		checkClose(t, "gradient by "+names[k], out[1+k], want)
	}
}

// checkClose allows float32 rounding of sums of some hundred terms of order one.
func checkClose(t *testing.T, what string, got *tensors.Tensor, want host) {
	t.Helper()
	if g, w := fmt.Sprint(got.Shape().Dimensions), fmt.Sprint(want.dims); g != w {
		t.Errorf("%s has shape %s, want %s", what, g, w)
		return
	}
	size := 1.0
	for _, v := range want.data {
		size = max(size, math.Abs(v))
	}
	for i, v := range tensors.MustCopyFlatData[float32](got) {
		if !(math.Abs(float64(v)-want.data[i]) <= 2e-5*size) {
			t.Errorf("%s: entry %d is %g, want %g", what, i, v, want.data[i])
			return
		}
	}
}

// TestWithoutFusion: with GoMLX's fusion off the plain formulas run, with the
// same hand-written gradients.
func TestWithoutFusion(t *testing.T) {
	t.Setenv("GOMLX_FUSION", "0")
	for _, c := range layerCases() {
		if !strings.HasPrefix(c.name, "conv") || strings.Contains(c.name, "3 stride") {
			t.Run(c.name, func(t *testing.T) { c.check(t, backendtest.Open(t, "go"), Patches) })
		}
	}
}

// TestExamplesDoNotMix: the Jacobian of row 0 by row 1 is exactly zero, and what
// is in row 1, NaN included, changes not one bit of row 0.
func TestExamplesDoNotMix(t *testing.T) {
	variants(t, func(t *testing.T, b compute.Backend, l Lowering) {
		for _, c := range layerCases() {
			if c.inputs[0][0] < 2 {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				run := func(second float64) (y []float32, jacobian [][]float32) {
					var in []host
					for i, d := range c.inputs {
						h := values(uint64(i), d...)
						if row := len(h.data) / d[0]; second != 0 {
							for k := row; k < 2*row; k++ {
								h.data[k] = second
							}
						}
						in = append(in, h)
					}
					_, out := c.run(t, b, l, in, func(y *graph.Node, _, in []*graph.Node) []*graph.Node {
						first := graph.Slice(y, graph.AxisRange(0, 1))
						tilt := values(9, first.Shape().Dimensions...)
						functional := graph.ReduceAllSum(graph.Mul(first, graph.ConstTensor(y.Graph(), tilt.tensor())))
						return append([]*graph.Node{first}, graph.Gradient(functional, in...)...)
					})
					for i, g := range out[2:] {
						flat := tensors.MustCopyFlatData[float32](g)
						row := len(flat) / c.inputs[i][0]
						jacobian = append(jacobian, flat[row:2*row])
					}
					return tensors.MustCopyFlatData[float32](out[1]), jacobian
				}
				want, jacobian := run(0)
				for i, part := range jacobian {
					if k := slices.IndexFunc(part, func(v float32) bool { return v != 0 }); k >= 0 {
						t.Errorf("derivative of row 0 by entry %d of row 1 of input %d is %g, want 0", k, i, part[k])
					}
				}
				for _, second := range []float64{1e6, math.NaN(), math.Inf(1)} {
					if got, _ := run(second); !slices.Equal(got, want) {
						t.Errorf("%g in row 1 changes row 0", second)
					}
				}
			})
		}
	})
}
