package backend

import (
	"fmt"
	"math"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// probeTolerance bounds the error of float32 sums of at most 64 products of values
// of size one: about 64 roundings of 2^-24 each, times ten to spare for other orders.
const probeTolerance = 4e-5

// ProbeResult is what Probe measured.
type ProbeResult struct {
	MatMulError   float64 `json:"matmul_error"`        // Largest absolute difference to host arithmetic.
	ConvGradError float64 `json:"conv_gradient_error"` // The same, gradients by image and kernel of a 3x3 convolution.
	GFLOPS        float64 `json:"gflops"`              // 10^9 float32 operations per second of a 512x512x512 matrix product.
	FirstRunMS    float64 `json:"first_run_ms"`        // Compiling and running the two small graphs.
}

// Probe runs two small graphs on b, a matrix product and the gradient of a
// convolution, compares them with the same sums in float64 on the host, and times a
// larger matrix product. It takes less than two seconds. The error names what is
// wrong; a backend that fails must not be used.
func Probe(b compute.Backend) (result ProbeResult, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("probe backend %s: panic: %v", b, p)
		}
	}()
	start := time.Now()
	if result.MatMulError, err = probeMatMul(b); err != nil {
		return result, fmt.Errorf("probe backend %s: matrix product: %w", b, err)
	}
	if result.ConvGradError, err = probeConvGrad(b); err != nil {
		return result, fmt.Errorf("probe backend %s: convolution gradient: %w", b, err)
	}
	result.FirstRunMS = float64(time.Since(start).Microseconds()) / 1e3
	if worst := max(result.MatMulError, result.ConvGradError); !(worst <= probeTolerance) { // Also catches NaN.
		return result, fmt.Errorf("probe backend %s: results are off by %.2g, want at most %.2g; do not use it", b, worst, probeTolerance)
	}
	if result.GFLOPS, err = probeSpeed(b, 512, 400*time.Millisecond); err != nil {
		return result, fmt.Errorf("probe backend %s: speed: %w", b, err)
	}
	return result, nil
}

// wave returns n values in [-1, 1] that are neither symmetric nor periodic.
func wave(n int, phase float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(math.Sin(1.7*float64(i) + phase + 0.01*float64(i*i%97)))
	}
	return v
}

func probeMatMul(b compute.Backend) (float64, error) {
	const m, k, n = 7, 33, 19
	x, y := wave(m*k, 0.3), wave(k*n, 1.1)
	got, err := run(b, func(x, y *graph.Node) *graph.Node { return graph.Dot(x, y).Product() }, shaped(x, m, k), shaped(y, k, n))
	if err != nil {
		return 0, err
	}
	want := make([]float64, m*n)
	for i := range m {
		for j := range n {
			for l := range k {
				want[i*n+j] += float64(x[i*k+l]) * float64(y[l*n+j])
			}
		}
	}
	return maxDifference(got[0], want), nil
}

// probeConvGrad checks dL/dx and dL/dw of L = sum(r * conv(x, w)), 3x3, stride 1,
// same size, against their definitions.
func probeConvGrad(b compute.Backend) (float64, error) {
	const h, w, in, out, k = 4, 5, 2, 3, 3
	x, kernel, r := wave(h*w*in, 0.2), wave(k*k*in*out, 0.7), wave(h*w*out, 2.3)
	got, err := run(b, func(x, kernel, r *graph.Node) []*graph.Node {
		y := graph.Convolve(x, kernel).PadSame().Done()
		return graph.Gradient(graph.ReduceAllSum(graph.Mul(y, r)), x, kernel)
	}, shaped(x, 1, h, w, in), shaped(kernel, k, k, in, out), shaped(r, 1, h, w, out))
	if err != nil {
		return 0, err
	}
	dx, dw := make([]float64, len(x)), make([]float64, len(kernel))
	for i := range h * w * k * k {
		row, col, u, v := i/(k*k)/w, i/(k*k)%w, i/k%k, i%k
		a, c := row+u-k/2, col+v-k/2
		if a < 0 || a >= h || c < 0 || c >= w {
			continue
		}
		for p := range in {
			for q := range out {
				at, tap := (a*w+c)*in+p, ((u*k+v)*in+p)*out+q
				g := float64(r[(row*w+col)*out+q])
				dx[at] += g * float64(kernel[tap])
				dw[tap] += g * float64(x[at])
			}
		}
	}
	return max(maxDifference(got[0], dx), maxDifference(got[1], dw)), nil
}

// probeSpeed repeats an n x n x n product for about the given time.
func probeSpeed(b compute.Backend, n int, budget time.Duration) (float64, error) {
	exec, err := graph.NewExec(b, func(x, y *graph.Node) *graph.Node { return graph.Dot(x, y).Product() })
	if err != nil {
		return 0, err
	}
	defer exec.Finalize()
	x, y := shaped(wave(n*n, 0.1), n, n), shaped(wave(n*n, 0.9), n, n)
	defer x.FinalizeAll()
	defer y.FinalizeAll()
	once := func() error {
		z, err := exec.Exec1(x, y)
		if err != nil {
			return err
		}
		var last float32
		err = z.ConstFlatData(func(flat any) { last = flat.([]float32)[n*n-1] }) // Wait for the result.
		if math.IsNaN(float64(last)) {
			err = fmt.Errorf("a product is NaN")
		}
		z.FinalizeAll()
		return err
	}
	if err := once(); err != nil { // Compiles.
		return 0, err
	}
	best := time.Duration(math.MaxInt64)
	for start := time.Now(); time.Since(start) < budget; {
		t := time.Now()
		if err := once(); err != nil {
			return 0, err
		}
		best = min(best, time.Since(t))
	}
	return 2 * float64(n) * float64(n) * float64(n) / float64(best.Nanoseconds()), nil
}

func shaped(v []float32, dimensions ...int) *tensors.Tensor {
	return tensors.FromFlatDataAndDimensions(v, dimensions...)
}

// run executes one graph once and returns its float32 outputs.
func run[F graph.ExecGraphFn](b compute.Backend, f F, args ...any) ([][]float32, error) {
	exec, err := graph.NewExec(b, f)
	if err != nil {
		return nil, err
	}
	defer exec.Finalize()
	outputs, err := exec.Exec(args...)
	if err != nil {
		return nil, err
	}
	values := make([][]float32, len(outputs))
	for i, t := range outputs {
		if values[i], err = tensors.CopyFlatData[float32](t); err != nil {
			return nil, err
		}
		t.FinalizeAll()
	}
	return values, nil
}

// maxDifference returns the largest |got-want|: NaN if any is NaN.
func maxDifference(got []float32, want []float64) float64 {
	if len(got) != len(want) {
		return math.NaN()
	}
	worst := 0.0
	for i, g := range got {
		worst = max(worst, math.Abs(float64(g)-want[i])) // The builtin max keeps NaN.
	}
	return worst
}
