package bench

import (
	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/nn"
)

// Flops returns the floating-point operations of one draw in the forward pass
// and in forward and backward pass of ordinary training of the set: see
// dpsgd.CountFlops. Clipping adds nothing to this count, so that GFLOP/s of
// private and ordinary steps compare.
func (w *Workload) Flops(backend compute.Backend) (forward, total float64) {
	trains := map[string]bool{}
	for _, name := range w.Trainable {
		trains[name] = true
	}
	g := graph.NewGraph(backend, "flops")
	defer g.Finalize()
	parameters := map[string]*graph.Node{}
	s := nn.NewScope(g, nn.Options{
		Adapter: w.adapter,
		Param: func(g *graph.Graph, spec nn.Spec) *graph.Node {
			node := graph.Parameter(g, spec.Name, shapes.Make(dtypes.Float32, spec.Shape...))
			parameters[spec.Name] = node
			return node
		},
		Trainable: func(string) bool { return true }, // All layers on the tape.
	})
	w.loss(s, w.shapes(g, 1, 1))
	f := dpsgd.CountFlops(s, parameters, func(name string) bool { return trains[name] })
	return f.Forward, f.Total
}
