package dpsgd

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// bfloat16 has 8 bits: each of a handful of roundings one after another is off by
// at most 2^-9, relative to the largest terms.
const bfloat16Error = 0.03

// TestBFloat16: norms and clipped sums are those of float32 within the rounding
// of bfloat16, and no contribution exceeds the clipping norm by more than in
// float32: norms are of the very numbers that are summed.
func TestBFloat16(t *testing.T) {
	b := backendtest.Open(t, backend.XLA)
	p := convolutions(t)
	const examples = 4
	methods := []Method{BookKeeping}
	if os.Getenv("SCUMBLE_SLOW") != "" { // XLA compiles three graphs for each.
		methods = append(methods, PerExampleLoop)
	}
	for _, method := range methods {
		engine := func(compute nn.Precision, clip float64) *Engine {
			return p.engine(t, b, nn.Small, func(o *EngineOptions) {
				o.Method, o.ClippingNorm, o.NN.Compute, o.PhysicalBatchSize = method, clip, compute, 1
			})
		}
		single, half := engine(nn.Float32, p.clip), engine(nn.BFloat16, p.clip)
		want, got := p.norms(t, single, examples, p.fetch), p.norms(t, half, examples, p.fetch)
		rounded := false
		for i := range want {
			if d := math.Abs(got[i]/want[i] - 1); !(d <= bfloat16Error) {
				t.Errorf("%s: norm of example %d is %g, in float32 %g", method, i, got[i], want[i])
			}
			rounded = rounded || math.Abs(got[i]/want[i]-1) > 1e-5
		}
		if !rounded {
			t.Errorf("%s: norms %v are those of float32, so nothing was computed in bfloat16", method, got)
		}
		wantSum, _ := p.sum(t, single, examples, p.fetch)
		gotSum, _ := p.sum(t, half, examples, p.fetch)
		if err := checkNear(fmt.Sprintf("%s: clipped sum", method), gotSum, wantSum, bfloat16Error, p.clip); err != nil {
			t.Error(err)
		}
		// All examples are clipped.
		tight := engine(nn.BFloat16, 1e-4)
		for i := range examples {
			one, stats := p.sum(t, tight, 1, p.from(i))
			if n := norm(one); stats.Clipped != 1 || n > 1e-4*(1+roundingSlack) || n < 0.99e-4 {
				t.Errorf("%s: contribution of example %d is %g, want just below the clipping norm 1e-4", method, i, n)
			}
		}
	}
}

// A backend that gains nothing from bfloat16 refuses it by name.
func TestBFloat16Refused(t *testing.T) {
	p := convolutions(t)
	for _, c := range []struct {
		compute nn.Precision
		want    string
	}{{nn.BFloat16, `compute is "bfloat16"`}, {"float8", `compute is "float8", want "float32" or "bfloat16"`}} {
		o := EngineOptions{ClippingNorm: 1, Weights: p.weights, Trainable: p.trainable, Loss: p.loss, NN: nn.Options{Lowering: nn.Patches, Compute: c.compute}}
		if _, err := NewEngine(backendtest.Open(t, backend.Go), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v", c.compute, err)
		}
	}
}
