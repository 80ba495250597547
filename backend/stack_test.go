package backend_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/internal/backendtest"
)

// These tests hold what the rest of scumble takes for granted of GoMLX and its
// backends; each stands for a trap met once.

type node = graph.Node

// weights are random with a scale that keeps the size of activations: with larger
// ones the graph amplifies rounding, and no two backends agree.
func weights(seed uint64, in, out int) *tensors.Tensor {
	w := random(seed, in, out)
	tensors.MustMutableFlatData(w, func(v []float32) {
		for i := range v {
			v[i] /= float32(math.Sqrt(float64(in)))
		}
	})
	return w
}

func random(seed uint64, dimensions ...int) *tensors.Tensor {
	r := rand.New(rand.NewPCG(seed, 7))
	n := 1
	for _, d := range dimensions {
		n *= d
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return tensors.FromFlatDataAndDimensions(v, dimensions...)
}

// branches is shaped like a UNet: attention with many heads, whose matrix products
// do not wait for each other, and skip connections; with the gradients by all
// weights. It is small, and yet large enough that the Go backend spreads each
// product over its workers.
func branches(x, w1, w2 *node) []*node {
	const heads = 8
	h := x // [batch, positions, channels]
	var skips []*node
	for range 2 {
		skips = append(skips, h)
		sum := h
		for head := range heads {
			scale := 1 + 0.1*float64(head)
			q, k, v := dense(h, graph.MulScalar(w1, scale)), dense(h, graph.MulScalar(w2, scale)), dense(h, graph.Add(w1, graph.MulScalar(w2, scale)))
			a := graph.Softmax(graph.MulScalar(graph.Einsum("btc,bsc->bts", q, k), 0.1), -1)
			sum = graph.Add(sum, graph.MulScalar(graph.Einsum("bts,bsc->btc", a, v), 1.0/heads))
		}
		h = graph.Tanh(sum)
	}
	for i := len(skips) - 1; i >= 0; i-- {
		h = graph.Tanh(graph.Add(dense(h, w1), dense(skips[i], w2)))
	}
	loss := graph.ReduceAllMean(graph.Square(h))
	return append([]*node{loss}, graph.Gradient(loss, w1, w2)...)
}

// dense multiplies the last axis of x with w.
func dense(x, w *node) *node {
	d := x.Shape().Dimensions
	y := graph.Dot(graph.Reshape(x, -1, d[len(d)-1]), w).Product()
	return graph.Reshape(y, append(append([]int{}, d[:len(d)-1]...), w.Shape().Dimensions[1])...)
}

func values(t testing.TB, outputs []*tensors.Tensor) [][]float32 {
	t.Helper()
	v := make([][]float32, len(outputs))
	for i, o := range outputs {
		var err error
		if v[i], err = tensors.CopyFlatData[float32](o); err != nil {
			t.Fatal(err)
		}
		o.FinalizeAll()
	}
	return v
}

// difference returns the largest |a-b| / max(1, |b|): NaN if any value is.
func difference(a, b [][]float32) float64 {
	worst := 0.0
	for i := range b {
		for j := range b[i] {
			d := float64(a[i][j]) - float64(b[i][j])
			worst = max(worst, math.Abs(d)/max(1, math.Abs(float64(b[i][j]))))
		}
	}
	return worst
}

// The Go backend's default executor hangs within seconds on this graph; ours must
// not, with several goroutines on one Exec.
func TestConcurrentCallsOfOneGraph(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		exec, err := graph.NewExec(b, branches)
		if err != nil {
			t.Fatal(err)
		}
		defer exec.Finalize()
		const goroutines, calls = 4, 5
		inputs := func(i int) []any {
			return []any{random(uint64(i), 4, 49, 32), weights(100, 32, 32), weights(101, 32, 32)}
		}
		alone := make([][][]float32, goroutines)
		for i := range alone {
			outputs, err := exec.Exec(inputs(i)...)
			if err != nil {
				t.Fatal(err)
			}
			alone[i] = values(t, outputs)
		}
		errs := make(chan error, goroutines)
		var wg sync.WaitGroup
		for i := range goroutines {
			wg.Go(func() {
				for range calls {
					outputs, err := exec.Exec(inputs(i)...)
					if err != nil {
						errs <- err
						return
					}
					if d := difference(values(t, outputs), alone[i]); !(d <= 1e-6) {
						errs <- fmt.Errorf("goroutine %d: results differ by %g from those of a call alone", i, d)
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("deadlock: the calls did not end within a minute")
		}
		close(errs)
		for err := range errs {
			t.Error(err)
		}
	})
}

func TestBackendsAgree(t *testing.T) {
	want := [][]float32(nil)
	for _, name := range backendtest.Names {
		t.Run(name, func(t *testing.T) {
			b := backendtest.Open(t, name)
			outputs, err := graph.CallOnceN(b, branches, random(1, 4, 49, 32), weights(100, 32, 32), weights(101, 32, 32))
			if err != nil {
				t.Fatal(err)
			}
			got := values(t, outputs)
			if want == nil {
				want = got
			}
			if d := difference(got, want); !(d <= 1e-5) {
				t.Errorf("results differ by %g from those of %s, want at most 1e-5", d, backendtest.Names[0])
			}
		})
	}
}

// shifted is a convolution written as k² matrix products of strided slices, whose
// gradients rest on simpler rules than those of a convolution.
func shifted(x, w *node, stride, padding int) *node {
	k, d := w.Shape().Dimensions[0], x.Shape().Dimensions
	pad := graph.PadAxis{Start: padding, End: padding}
	x = graph.Pad(x, graph.ScalarZero(x.Graph(), x.DType()), graph.PadAxis{}, pad, pad, graph.PadAxis{})
	var sum *node
	for u := range k {
		for v := range k {
			rows := (d[1]+2*padding-k)/stride*stride + 1
			cols := (d[2]+2*padding-k)/stride*stride + 1
			part := graph.Slice(x, graph.AxisRange(), graph.AxisRange(u, u+rows).Stride(stride), graph.AxisRange(v, v+cols).Stride(stride), graph.AxisRange())
			tap := graph.Reshape(graph.Slice(w, graph.AxisElem(u), graph.AxisElem(v)), w.Shape().Dimensions[2:]...)
			product := dense(part, tap)
			if sum == nil {
				sum = product
			} else {
				sum = graph.Add(sum, product)
			}
		}
	}
	return sum
}

// GoMLX's gradient by the image is wrong for kernels of even size. This holds the
// odd ones, which nn builds on.
func TestConvolutionGradientsOfOddKernels(t *testing.T) {
	reference := backendtest.Open(t, backend.Go) // Compiles the long graphs at once, XLA in seconds.
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, c := range []struct{ k, stride, padding int }{{1, 1, 0}, {3, 1, 1}, {3, 1, 0}, {3, 2, 1}, {5, 1, 2}, {5, 2, 2}, {1, 2, 0}} {
			t.Run(fmt.Sprintf("kernel %d stride %d padding %d", c.k, c.stride, c.padding), func(t *testing.T) {
				inputs := func() []any { // Anew for each backend: a tensor stays with the first that it met.
					rows, cols := (7+2*c.padding-c.k)/c.stride+1, (6+2*c.padding-c.k)/c.stride+1
					return []any{random(3, 2, 7, 6, 3), random(4, c.k, c.k, 3, 4), random(5, 2, rows, cols, 4)}
				}
				gradients := func(y, x, w, weigh *node) []*node {
					return append([]*node{y}, graph.Gradient(graph.ReduceAllSum(graph.Mul(y, weigh)), x, w)...)
				}
				got, err := graph.CallOnceN(b, func(x, w, weigh *node) []*node {
					pads := [][2]int{{c.padding, c.padding}, {c.padding, c.padding}}
					return gradients(graph.Convolve(x, w).Strides(c.stride).PaddingPerDim(pads).Done(), x, w, weigh)
				}, inputs()...)
				if err != nil {
					t.Fatal(err)
				}
				want, err := graph.CallOnceN(reference, func(x, w, weigh *node) []*node {
					return gradients(shifted(x, w, c.stride, c.padding), x, w, weigh)
				}, inputs()...)
				if err != nil {
					t.Fatal(err)
				}
				v, ref := values(t, got), values(t, want)
				for i, what := range []string{"value", "gradient by image", "gradient by kernel"} {
					// At most 84 products per sum, of size about one.
					if d := difference(v[i:i+1], ref[i:i+1]); !(d <= 2e-5) {
						t.Errorf("%s is off by %g, want at most 2e-5", what, d)
					}
				}
			})
		}
	})
}

func TestProbe(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		start := time.Now()
		r, err := backend.Probe(b)
		if err != nil {
			t.Fatal(err)
		}
		if !(r.GFLOPS > 0.01) || r.MatMulError == 0 && r.ConvGradError == 0 {
			t.Errorf("Probe gave %+v, want a speed, and the rounding of float32", r)
		}
		t.Logf("%+v in %v", r, time.Since(start))
	})
}

func TestProbeOfNoBackendIsAnError(t *testing.T) {
	if _, err := backend.Probe(nil); err == nil {
		t.Error("a nil backend passed")
	}
}
