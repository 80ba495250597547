package dpsgd

import (
	"context"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// These tests hold what docs/engine.md says of the stack: the clipping graphs
// stay clear of operations that a backend lacks, does slowly or gets wrong.

// recorded returns the nodes of the graph that an engine compiles for p, and
// those of them that its clipped sum rests on.
func (p *problem) recorded(t *testing.T, b compute.Backend, l nn.Lowering, method Method) (all, used []*graph.Node) {
	t.Helper()
	var g *graph.Graph
	e := p.engine(t, b, l, func(o *EngineOptions) {
		o.Method = method
		loss := o.Loss
		o.Loss = func(s *nn.Scope, in []*graph.Node) *graph.Node {
			g = s.Graph()
			return loss(s, in)
		}
	})
	if err := e.Prepare(p.weights.Flatten(p.trainable), p.fetch); err != nil {
		t.Fatal(err)
	}
	all = g.Nodes()
	var sums []*graph.Node
	for _, name := range p.trainable { // A parameter's sum is the last node of its shape.
		for i := len(all) - 1; i >= 0; i-- {
			if slices.Equal(all[i].Shape().Dimensions, p.weights.Get(name).Shape) {
				sums = append(sums, all[i])
				break
			}
		}
	}
	if len(sums) != len(p.trainable) {
		t.Fatal("the graph has no clipped sum")
	}
	return all, reached(sums)
}

// reached returns the nodes that list is computed from.
func reached(list []*graph.Node) []*graph.Node {
	seen := map[*graph.Node]bool{}
	for _, n := range list {
		seen[n] = true
	}
	for i := 0; i < len(list); i++ {
		for _, input := range list[i].Inputs() {
			if !seen[input] {
				seen[input] = true
				list = append(list, input)
			}
		}
	}
	return list
}

func count(nodes []*graph.Node, kinds ...graph.NodeType) int {
	n := 0
	for _, node := range nodes {
		if slices.Contains(kinds, node.Type()) {
			n++
		}
	}
	return n
}

// TestGraphsStayClearOfTraps: random numbers of a device can be infinite and
// differ by backend, so none is drawn there; slices whose place is computed are
// missing on the Go backend; a reciprocal root has no gradient; and the Go
// backend's own convolution runs at a hundredth of a product's speed.
func TestGraphsStayClearOfTraps(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, l := range []nn.Lowering{nn.Native, nn.Patches} {
		for _, method := range []Method{BookKeeping, PerExampleLoop} {
			all, used := convolutions(t).recorded(t, b, l, method)
			if n := count(all, graph.NodeTypeRNGBitGenerator, graph.NodeTypeDynamicSlice, graph.NodeTypeDynamicUpdateSlice, graph.NodeTypeRsqrt, graph.NodeTypeCall); n > 0 {
				t.Errorf("lowering %d, %s: %d operations that no clipping graph may have", l, method, n)
			}
			if n := count(used, graph.NodeTypeConvGeneral); (n > 0) != (l == nn.Native) {
				t.Errorf("lowering %d, %s: the sum rests on %d convolutions of the backend", l, method, n)
			}
		}
	}
}

// TestNothingRecompiles: XLA compiles for seconds to minutes per shape, so a
// program is built once, whatever the draw: no example, some, or many.
func TestNothingRecompiles(t *testing.T) {
	p := convolutions(t)
	for _, method := range []Method{BookKeeping, PerExampleLoop} {
		builds := 0
		e := p.engine(t, backendtest.Open(t, "go"), nn.Patches, func(o *EngineOptions) {
			o.Method = method
			loss := o.Loss
			o.Loss = func(s *nn.Scope, in []*graph.Node) *graph.Node {
				builds++
				return loss(s, in)
			}
		})
		vector := p.weights.Flatten(p.trainable)
		if err := e.Prepare(vector, p.fetch); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, 3, 4, 7} {
			if _, _, err := e.Sum(context.Background(), vector, n, p.fetch); err != nil {
				t.Fatal(err)
			}
		}
		if builds != 1 {
			t.Errorf("%s: the loss was built %d times, want once", method, builds)
		}
	}
}
