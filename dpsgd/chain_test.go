package dpsgd

import (
	"context"
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// TestChains: the loop adds examples up on the device, and the sum is that of each
// example alone, whatever a chain begins with and wherever it ends. One that is
// not finite leaves the others of its chain as they are.
func TestChains(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		l := nn.Patches
		if b != backendtest.Open(t, "go") {
			l = nn.LoweringFor("xla")
		}
		p := convolutions(t)
		p.change = map[int]func([]float32){17: func(x []float32) { x[3] = float32(math.NaN()) }}
		const most = chainLength + 7
		alone := p.engine(t, b, l, loop)
		var singles [][]float64
		for i := range most {
			g, stats := p.sum(t, alone, 1, p.from(i))
			if got := stats.NonFinite; got != 0 != (i == 17) || i == 17 && norm(g) != 0 {
				t.Fatalf("example %d alone: %+v, norm %g", i, stats, norm(g))
			}
			singles = append(singles, g)
		}
		for _, workers := range []int{1, 3} {
			e := p.engine(t, b, l, func(o *EngineOptions) { o.Method, o.Workers = PerExampleLoop, workers })
			for _, n := range []int{0, 1, 2, chainLength, chainLength + 1, most} {
				got, stats := p.sum(t, e, n, p.fetch)
				want, bad := make([]float64, len(got)), 0
				for _, g := range singles[:n] {
					for k, v := range g {
						want[k] += v
					}
				}
				if n > 17 {
					bad = 1
				}
				if err := checkNear("clipped sum", got, want, 1e-6, 0); err != nil {
					t.Errorf("%d workers, %d examples: %v", workers, n, err)
				}
				if stats.Examples != n || stats.NonFinite != bad {
					t.Errorf("%d workers, %d examples: %+v", workers, n, stats)
				}
			}
		}
		// The first of a chain does not read what it is on top of, which are the weights.
		vector := p.weights.Flatten(p.trainable)
		vector[0] = float32(math.NaN())
		s, stats, err := alone.Sum(context.Background(), vector, 3, p.fetch)
		if err != nil || norm(s.values) != 0 || stats.NonFinite != 3 {
			t.Errorf("weights that are not a number: %+v, error %v", stats, err)
		}
	})
}

// TestChainThatIsNonsense: where adding up gives what is not finite, though each
// example alone does not, the sum is that of each alone.
func TestChainThatIsNonsense(t *testing.T) {
	p := convolutions(t)
	want, _ := p.sum(t, p.engine(t, backendtest.Open(t, "go"), nn.Patches, loop), 9, p.fetch)
	e := p.engine(t, backendtest.Open(t, "go"), nn.Patches, loop)
	broken := &brokenSums{program: e.program}
	e.program = broken
	got, stats := p.sum(t, e, 9, p.fetch)
	if err := checkNear("clipped sum", got, want, 1e-6, 0); err != nil {
		t.Error(err)
	}
	if stats.NonFinite != 0 || stats.Examples != 9 || broken.times == 0 {
		t.Errorf("stats are %+v after %d sums that are not finite", stats, broken.times)
	}
}

// brokenSums is the loop's program with a sum that is not a number whenever it is on
// top of another.
type brokenSums struct {
	program
	times int
}

func (b *brokenSums) Run(vector *nn.Vector, inputs ...*tensors.Tensor) ([]*tensors.Tensor, error) {
	keep := tensors.ToScalar[bool](inputs[1])
	outputs, err := b.program.Run(vector, inputs...)
	if err == nil && keep {
		b.times++
		dims := outputs[0].Shape().Dimensions
		values := make([]float32, outputs[0].Size())
		values[0] = float32(math.NaN())
		_ = outputs[0].FinalizeAll()
		outputs[0] = tensors.FromFlatDataAndDimensions(values, dims...)
	}
	return outputs, err
}
