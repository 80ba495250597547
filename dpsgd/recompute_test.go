package dpsgd

import (
	"context"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// TestRecompute: blocks that the backward pass computes again clip as blocks that
// are kept do, with either engine, with adapters, and with frozen weights in
// either precision.
func TestRecompute(t *testing.T) {
	for _, c := range []struct{ model, set, lora string }{
		{model: "unet2d", set: "unet2d_full"},
		{model: "unet2d", set: "unet2d_attention"},
		{model: "unet2d", set: "unet2d_lora_conv", lora: "lora_conv_unet2d"},
		{model: "unet2d_condition", set: "unet2d_condition_attention"},
	} {
		t.Run(c.set, func(t *testing.T) {
			backendtest.Each(t, func(t *testing.T, b compute.Backend) {
				l := nn.Patches
				if b != backendtest.Open(t, "go") {
					slow(t) // XLA compiles for many seconds.
					l = nn.LoweringFor("xla")
				}
				f := readFixture(t, c.model, c.set, c.lora, false)
				sum := func(method Method, precision nn.Precision, recompute bool) []float64 {
					e, err := NewEngine(b, EngineOptions{Method: method, ClippingNorm: f.clip, NN: nn.Options{Lowering: l, Adapter: f.adapter, Recompute: recompute},
						Weights: f.weights, Trainable: f.trainable, Loss: f.loss, PhysicalBatchSize: 4, Base: nn.BaseOptions{Precision: precision}})
					if err != nil {
						t.Fatal(err)
					}
					defer e.Close()
					fetch := func(positions []int, size int) ([]*tensors.Tensor, error) { return f.inputs(positions, size), nil }
					s, _, err := e.Sum(context.Background(), f.weights.Flatten(f.trainable), len(f.norms), fetch)
					if err != nil {
						t.Fatal(err)
					}
					return slices.Clone(s.values)
				}
				for _, method := range []Method{BookKeeping, PerExampleLoop} {
					if err := checkNear(string(method), sum(method, "", true), f.sum, 1e-4, 0); err != nil {
						t.Error(err)
					}
				}
				if c.set == "unet2d_full" {
					return // Nothing is frozen.
				}
				half := sum(PerExampleLoop, nn.BFloat16, true) // Rounds the weights for all that follow.
				for _, method := range []Method{BookKeeping, PerExampleLoop} {
					if err := checkNear(string(method)+", frozen in bfloat16", sum(method, nn.BFloat16, false), half, 1e-4, 0); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestRecomputeFootprint: the loop holds less of each draw when blocks are computed
// again, and book-keeping no more than before.
func TestRecomputeFootprint(t *testing.T) {
	f := readFixture(t, "unet2d", "unet2d_full", "", false)
	f.draws = 16
	bytes := func(method Method, recompute bool) int64 {
		o := EngineOptions{Method: method, ClippingNorm: 1, NN: nn.Options{Lowering: nn.Small, Recompute: recompute}, Weights: f.weights,
			Trainable: f.trainable, Loss: f.loss}
		n, err := Footprint(backendtest.Open(t, "go"), o, 1, func(g *graph.Graph, examples int) []*graph.Node {
			var nodes []*graph.Node
			for i, name := range []string{"noise", "noised", "timesteps", "classes"} {
				shape := shapes.Make(dtypes.Int32, examples*f.draws)
				if i < 2 {
					d := f.batch["x0"].shape
					shape = shapes.Make(dtypes.Float32, examples*f.draws, d[2], d[3], d[1])
				}
				nodes = append(nodes, graph.Parameter(g, name, shape))
			}
			return nodes
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	vector := int64(4 * f.weights.Size())
	kept, again := bytes(PerExampleLoop, false)-vector, bytes(PerExampleLoop, true)-vector
	t.Logf("loop: %d bytes beside the sum, %d with recomputation; book-keeping: %d, %d", kept, again, bytes(BookKeeping, false)-vector, bytes(BookKeeping, true)-vector)
	if again > kept*2/3 {
		t.Errorf("the loop holds %d bytes beside the sum, with recomputation %d, want two thirds at most", kept, again)
	}
	if kept, again := bytes(BookKeeping, false), bytes(BookKeeping, true); again > kept+kept/20 {
		t.Errorf("book-keeping holds %d bytes, with recomputation %d", kept, again)
	}
}
