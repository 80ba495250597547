package backend_test

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
)

// The benchmarks are facts for the design of graphs: what one operation costs on
// each backend. They report processor time next to wall time, since the wall time
// of a loaded machine says little.

// cpuTime returns the user time of this process.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano())
}

// runGraph times calls of f with the given inputs, from several goroutines at once,
// and reports cpu-µs/op. It returns the wall and processor nanoseconds of one call.
func runGraph[F graph.ExecGraphFn](b *testing.B, be compute.Backend, goroutines int, f F, inputs ...*tensors.Tensor) (wall, cpu float64) {
	b.Helper()
	exec, err := graph.NewExec(be, f)
	if err != nil {
		b.Fatal(err)
	}
	defer exec.Finalize()
	args := make([]any, len(inputs))
	for i, t := range inputs {
		args[i] = t
	}
	call := func() {
		outputs, err := exec.Exec(args...)
		if err != nil {
			b.Error(err)
			return
		}
		if be.HasSharedBuffers() {
			outputs[0].MustConstFlatData(func(any) {}) // Waits for the result.
		}
		for _, o := range outputs {
			o.FinalizeAll()
		}
	}
	for range 3 {
		call()
	}
	b.ResetTimer()
	start, used := time.Now(), cpuTime()
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			for range (b.N + i) / goroutines {
				call()
			}
		})
	}
	wg.Wait()
	wall, cpu = float64(time.Since(start).Nanoseconds())/float64(b.N), float64(cpuTime()-used)/float64(b.N)
	b.ReportMetric(cpu/1e3, "cpu-µs/op")
	return wall, cpu
}

// Nodes: the cost of a node that computes nearly nothing.
func BenchmarkTinyNodes(b *testing.B) {
	backendtest.Benchmark(b, func(b *testing.B, be compute.Backend) {
		const nodes = 1000
		_, cpu := runGraph(b, be, 1, func(x, y *node) *node {
			for i := range nodes {
				if i%2 == 0 {
					x = graph.Mul(x, y)
				} else {
					x = graph.Add(x, y)
				}
			}
			return x
		}, random(1, 8), random(2, 8))
		b.ReportMetric(cpu/nodes, "cpu-ns/node")
	})
}

// Calls: the cost of a call by the number of its inputs and outputs.
func BenchmarkCall(b *testing.B) {
	backendtest.Benchmark(b, func(b *testing.B, be compute.Backend) {
		for _, n := range []int{1, 50, 200} {
			inputs := make([]*tensors.Tensor, n)
			for i := range inputs {
				inputs[i] = random(uint64(i), 8)
			}
			b.Run(fmt.Sprintf("%d inputs, 1 output", n), func(b *testing.B) {
				runGraph(b, be, 1, func(xs []*node) *node {
					sum := xs[0]
					for _, x := range xs[1:] {
						sum = graph.Add(sum, x)
					}
					return sum
				}, inputs...)
			})
			b.Run(fmt.Sprintf("%d inputs, as many outputs", n), func(b *testing.B) {
				runGraph(b, be, 1, func(xs []*node) []*node {
					ys := make([]*node, len(xs))
					for i, x := range xs {
						ys[i] = graph.Neg(x)
					}
					return ys
				}, inputs...)
			})
		}
	})
}

func BenchmarkMatMul(b *testing.B) {
	backendtest.Benchmark(b, func(b *testing.B, be compute.Backend) {
		for _, c := range []struct{ batch, m, k, n int }{
			{1, 1024, 64, 64}, {1, 1024, 64, 256}, {1, 4096, 144, 16}, {1, 12544, 288, 32}, {1, 288, 12544, 32}, {64, 49, 32, 49},
		} {
			for _, goroutines := range []int{1, 2} {
				b.Run(fmt.Sprintf("%dx%dx%dx%d/goroutines=%d", c.batch, c.m, c.k, c.n, goroutines), func(b *testing.B) {
					f, x, y := func(x, y *node) *node { return graph.Dot(x, y).Product() }, random(1, c.m, c.k), random(2, c.k, c.n)
					if c.batch > 1 {
						f = func(x, y *node) *node { return graph.Einsum("bmk,bkn->bmn", x, y) }
						x, y = random(1, c.batch, c.m, c.k), random(2, c.batch, c.k, c.n)
					}
					wall, cpu := runGraph(b, be, goroutines, f, x, y)
					flop := 2 * float64(c.batch*c.m*c.k*c.n)
					b.ReportMetric(flop/wall, "GFLOP/s")
					b.ReportMetric(flop/cpu, "GFLOP/cpu-s")
				})
			}
		}
	})
}

// The operands of products and their gradients come in all four layouts.
func BenchmarkMatMulLayouts(b *testing.B) {
	backendtest.Benchmark(b, func(b *testing.B, be compute.Backend) {
		const m, k, n = 1024, 256, 64
		for equation, shapes := range map[string][2][]int{
			"mk,kn->mn": {{m, k}, {k, n}}, "mk,nk->mn": {{m, k}, {n, k}}, "km,kn->mn": {{k, m}, {k, n}}, "km,nk->mn": {{k, m}, {n, k}},
			"km,kn->mn, transposed before": {{k, m}, {k, n}},
			"bthd,bshd->bhts":              {{16, 49, 4, 32}, {16, 49, 4, 32}}, "bhtd,bhsd->bhts": {{16, 4, 49, 32}, {16, 4, 49, 32}},
		} {
			b.Run(equation, func(b *testing.B) {
				_, cpu := runGraph(b, be, 1, func(x, y *node) *node {
					if strings.HasSuffix(equation, "before") {
						return graph.Dot(graph.Transpose(x, 0, 1), y).Product()
					}
					return graph.Einsum(equation, x, y)
				}, random(1, shapes[0]...), random(2, shapes[1]...))
				flop := 2.0 * m * k * n
				if len(shapes[0]) == 4 {
					flop = 2.0 * 16 * 4 * 49 * 49 * 32
				}
				b.ReportMetric(flop/cpu, "GFLOP/cpu-s")
			})
		}
	})
}

// Elements: nanoseconds of processor time per element of the largest tensor.
func BenchmarkElements(b *testing.B) {
	big, row, image := []int{64, 64, 64}, []int{64, 1, 64}, []int{64, 14, 14, 32}
	pad := graph.PadAxis{Start: 1, End: 1}
	none := graph.PadAxis{}
	all := graph.AxisRange()
	for _, c := range []struct {
		name   string
		shapes [][]int
		f      func(x, y *node) *node
	}{
		{"add", [][]int{big, big}, func(x, y *node) *node { return graph.Add(x, y) }},
		{"mul", [][]int{big, big}, func(x, y *node) *node { return graph.Mul(x, y) }},
		{"div", [][]int{big, big}, func(x, y *node) *node { return graph.Div(x, y) }},
		{"max", [][]int{big, big}, func(x, y *node) *node { return graph.Max(x, y) }},
		{"mul scalar", [][]int{big}, func(x, _ *node) *node { return graph.MulScalar(x, 1.5) }},
		{"neg", [][]int{big}, func(x, _ *node) *node { return graph.Neg(x) }},
		{"exp", [][]int{big}, func(x, _ *node) *node { return graph.Exp(x) }},
		{"tanh", [][]int{big}, func(x, _ *node) *node { return graph.Tanh(x) }},
		{"sigmoid", [][]int{big}, func(x, _ *node) *node { return graph.Sigmoid(x) }},
		{"sqrt", [][]int{big}, func(x, _ *node) *node { return graph.Sqrt(x) }},
		{"square", [][]int{big}, func(x, _ *node) *node { return graph.Square(x) }},
		{"where", [][]int{big, big}, func(x, y *node) *node { return graph.Where(graph.GreaterThan(x, y), x, y) }},
		{"silu", [][]int{big}, func(x, _ *node) *node { return graph.Mul(x, graph.Sigmoid(x)) }},
		{"softmax last", [][]int{big}, func(x, _ *node) *node { return graph.Softmax(x, -1) }},
		{"add [b,t,c]+[b,1,c]", [][]int{big, row}, func(x, y *node) *node { return graph.Add(x, y) }},
		{"mul [b,t,c]*[b,1,c]", [][]int{big, row}, func(x, y *node) *node { return graph.Mul(x, y) }},
		{"add [b,t,c]+[1,1,c]", [][]int{big, {1, 1, 64}}, func(x, y *node) *node { return graph.Add(x, y) }},
		{"add [b,t,c]+[b,t,1]", [][]int{big, {64, 64, 1}}, func(x, y *node) *node { return graph.Add(x, y) }},
		{"broadcast [b,1,c] to [b,t,c]", [][]int{row}, func(x, _ *node) *node { return graph.BroadcastToDims(x, big...) }},
		{"reshape of an input", [][]int{big}, func(x, _ *node) *node { return graph.Reshape(x, -1, 64) }},
		{"neg, then reshape", [][]int{big}, func(x, _ *node) *node { return graph.Reshape(graph.Neg(x), -1, 64) }},
		{"transpose 021", [][]int{big}, func(x, _ *node) *node { return graph.TransposeAllAxes(x, 0, 2, 1) }},
		{"transpose 102", [][]int{big}, func(x, _ *node) *node { return graph.TransposeAllAxes(x, 1, 0, 2) }},
		{"slice last", [][]int{big}, func(x, _ *node) *node { return graph.Slice(x, all, all, graph.AxisRange(1, 63)) }},
		{"slice middle", [][]int{big}, func(x, _ *node) *node { return graph.Slice(x, all, graph.AxisRange(1, 63)) }},
		{"slice first", [][]int{big}, func(x, _ *node) *node { return graph.Slice(x, graph.AxisRange(1, 63)) }},
		{"concatenate last", [][]int{big, big}, func(x, y *node) *node { return graph.Concatenate([]*node{x, y}, -1) }},
		{"concatenate first", [][]int{big, big}, func(x, y *node) *node { return graph.Concatenate([]*node{x, y}, 0) }},
		{"sum over middle axis", [][]int{big}, func(x, _ *node) *node { return graph.ReduceSum(x, 1) }},
		{"sum over last axis", [][]int{big}, func(x, _ *node) *node { return graph.ReduceSum(x, 2) }},
		{"sum over first axis", [][]int{big}, func(x, _ *node) *node { return graph.ReduceSum(x, 0) }},
		{"sum over all", [][]int{big}, func(x, _ *node) *node { return graph.ReduceAllSum(x) }},
		{"sum over middle axis as matrix product", [][]int{big}, func(x, _ *node) *node {
			return graph.Einsum("bqt,btc->bqc", graph.Ones(x.Graph(), shapesOf(x, 64, 1, 64)), x)
		}},
		{"pad image by 1", [][]int{image}, func(x, _ *node) *node {
			return graph.Pad(x, graph.ScalarZero(x.Graph(), x.DType()), none, pad, pad, none)
		}},
		{"pad image by 1 with concatenate", [][]int{image}, func(x, _ *node) *node { return padByConcatenate(x) }},
		{"pad channels by 1", [][]int{image}, func(x, _ *node) *node {
			return graph.Pad(x, graph.ScalarZero(x.Graph(), x.DType()), none, none, none, pad)
		}},
		{"gather rows of 64", [][]int{{4096, 64}}, func(x, _ *node) *node {
			i := graph.Iota(x.Graph(), intShape(4096, 1), 0)
			return graph.Gather(x, graph.Sub(graph.Scalar(x.Graph(), i.DType(), 4095), i))
		}},
		{"upsample 2x by broadcast", [][]int{image}, func(x, _ *node) *node {
			return graph.Reshape(graph.BroadcastToDims(graph.Reshape(x, 64, 14, 1, 14, 1, 32), 64, 14, 2, 14, 2, 32), 64, 28, 28, 32)
		}},
		{"upsample 2x by concatenate", [][]int{image}, func(x, _ *node) *node {
			x = graph.Reshape(x, 64*14*14, 32)
			x = graph.Reshape(graph.Concatenate([]*node{x, x}, 1), 64*14, 28*32)
			return graph.Reshape(graph.Concatenate([]*node{x, x}, 1), 64, 28, 28, 32)
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			backendtest.Benchmark(b, func(b *testing.B, be compute.Backend) {
				inputs := make([]*tensors.Tensor, len(c.shapes))
				size := 0
				for i, s := range c.shapes {
					inputs[i] = random(uint64(i), s...)
					size = max(size, inputs[i].Shape().Size())
				}
				var cpu float64
				if len(inputs) == 1 {
					_, cpu = runGraph(b, be, 1, func(x *node) *node { y := c.f(x, nil); size = max(size, y.Shape().Size()); return y }, inputs...)
				} else {
					_, cpu = runGraph(b, be, 1, func(x, y *node) *node { z := c.f(x, y); size = max(size, z.Shape().Size()); return z }, inputs...)
				}
				b.ReportMetric(cpu/float64(size), "cpu-ns/element")
			})
		})
	}
}
