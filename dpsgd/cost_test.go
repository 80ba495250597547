package dpsgd

import (
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/google/go-cmp/cmp"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// TestCosts: a network of each kind of layer, 5 examples of 2 draws, its shapes
// worked out by hand.
func TestCosts(t *testing.T) {
	const examples, draws = 5, 2
	g := graph.NewGraph(backendtest.Open(t, "go"), "costs")
	defer g.Finalize()
	frozen := map[string]bool{"frozen.weight": true, "only_bias.weight": true, "frozen.bias": true}
	s := nn.NewScope(g, nn.Options{
		Param: func(g *graph.Graph, spec nn.Spec) *graph.Node {
			return graph.Parameter(g, spec.Name, shapes.Make(dtypes.Float32, spec.Shape...))
		},
		Trainable: func(name string) bool { return !frozen[name] },
	})
	x := graph.Parameter(g, "x", shapes.Make(dtypes.Float32, examples*draws, 8, 8, 3))
	class := graph.Parameter(g, "class", shapes.Make(dtypes.Int32, examples*draws))
	token := nn.Embed(s.In("table"), class, 7, 16)
	x = nn.Conv2D(s.In("conv"), x, 16, nn.Conv{Kernel: 3, Stride: 2, Pad: [2]int{1, 1}}, nn.ConvOptions{})
	x = graph.Add(x, graph.Reshape(token, -1, 1, 1, 16))
	x = nn.GroupNorm(s.In("norm"), x, 4, 1e-5)
	x = nn.Dense(s.In("frozen"), x, 16, nn.DenseOptions{})
	x = nn.Dense(s.In("only_bias"), x, 16, nn.DenseOptions{})
	x = graph.ReduceMean(x, 1, 2)
	nn.Dense(s.In("head"), x, 9, nn.DenseOptions{NoBias: true})

	choose := func(rows, in, out int) Rule {
		return ChooseRule(nn.Native, Shape{Kind: nn.Linear, Rows: rows, In: in, Out: out})
	}
	want := []LayerCost{
		{Path: "table", Kind: "embedding", Shape: []int{7, 16}, Rows: 2, In: 7, Out: 16, Parameters: 112, Rule: choose(2, 7, 16),
			GradientFlops: 2 * 2 * 7 * 16, GhostFlops: 2 * 4 * (7 + 16 + 1), GhostBytes: 8 * 4, ExplicitFlops: 4 * 112, ExplicitBytes: 4 * 112},
		{Path: "conv", Kind: "convolution 3x3", Shape: []int{3, 3, 3, 16}, Rows: 32, In: 27, Out: 16, Parameters: 27*16 + 16, Rule: choose(32, 27, 16),
			GradientFlops: 2*32*27*16 + 32*16, GhostFlops: 2 * 32 * 32 * (27 + 16 + 1), GhostBytes: 8 * 32 * 32, ExplicitFlops: 4 * 27 * 16, ExplicitBytes: 4 * 27 * 16},
		{Path: "norm", Kind: "norm", Shape: []int{16}, Rows: 32, In: 1, Out: 16, Parameters: 32, Rule: Direct,
			GradientFlops: 3 * 32 * 16, ExplicitFlops: 4 * 32, ExplicitBytes: 4 * 32},
		{Path: "only_bias", Kind: "bias", Shape: []int{16, 16}, Rows: 32, In: 1, Out: 16, Parameters: 16, Rule: Direct,
			GradientFlops: 32 * 16, ExplicitFlops: 4 * 16, ExplicitBytes: 4 * 16},
		{Path: "head", Kind: "dense", Shape: []int{16, 9}, Rows: 2, In: 16, Out: 9, Parameters: 144, Rule: choose(2, 16, 9),
			GradientFlops: 2 * 2 * 144, GhostFlops: 2 * 4 * (16 + 9 + 1), GhostBytes: 8 * 4, ExplicitFlops: 4 * 144, ExplicitBytes: 4 * 144},
	}
	if diff := cmp.Diff(want, Costs(s, examples)); diff != "" {
		t.Errorf("costs differ (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		cost         LayerCost
		flops, bytes float64
	}{
		{LayerCost{Rule: OneRow, In: 3, Out: 4, GhostFlops: 1, ExplicitFlops: 2}, 14, 0},
		{LayerCost{Rule: Ghost, GhostFlops: 5, GhostBytes: 6, ExplicitFlops: 2}, 5, 6},
		{LayerCost{Rule: Explicit, GhostFlops: 5, ExplicitFlops: 7, ExplicitBytes: 8}, 7, 8},
		{LayerCost{Rule: Direct, ExplicitFlops: 7, ExplicitBytes: 8}, 7, 8},
	} {
		if flops, bytes := c.cost.Added(); flops != c.flops || bytes != c.bytes {
			t.Errorf("%+v adds %g and %g bytes, want %g and %g", c.cost, flops, bytes, c.flops, c.bytes)
		}
	}
}
