package bench

import (
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/nn"
)

// Flops returns the floating-point operations of one draw in the forward pass
// and in forward and backward pass of ordinary training of the set, two per
// multiply-add, counted from shapes:
//
//   - a dense layer or convolution: 2·positions·kernel²·in·out forward, once
//     more for the gradient by its input if anything trainable lies before it,
//     and once more for the gradient by its weight if that trains;
//   - attention of n positions over m of c channels: 4·n·m·c forward, and once
//     more for each pair of factors that needs gradients;
//   - a table look-up, norms, activations, sums and the optimizer: nothing.
//
// Clipping adds nothing to this count, so that GFLOP/s of private and ordinary
// steps compare.
func (w *Workload) Flops(backend compute.Backend) (forward, total float64) {
	trains := map[string]bool{}
	for _, name := range w.Trainable {
		trains[name] = true
	}
	g := graph.NewGraph(backend, "flops")
	defer g.Finalize()
	sources := map[*graph.Node]bool{}
	tables := map[string]bool{}
	s := nn.NewScope(g, nn.Options{
		Adapter: w.adapter,
		Param: func(g *graph.Graph, spec nn.Spec) *graph.Node {
			node := graph.Parameter(g, spec.Name, shapes.Make(dtypes.Float32, spec.Shape...))
			sources[node] = trains[spec.Name]
			tables[spec.Name] = spec.Kind == nn.KindTable
			return node
		},
		Trainable: func(string) bool { return true }, // All layers on the tape.
	})
	w.loss(s, w.shapes(g, 1, 1))
	needs := dependents{sources}
	projections := map[string]*nn.Layer{}
	for _, l := range s.Tape() {
		if l.Kind != nn.Linear || l.Weight == "" || tables[l.Weight] {
			continue
		}
		d := l.Output.Shape().Dimensions
		once := 2.0
		for _, n := range append(d[1:len(d)-1:len(d)-1], l.WeightShape...) {
			once *= float64(n)
		}
		forward, total = forward+once, total+once
		if needs.any(l.Input()) {
			total += once
		}
		if trains[l.Weight] {
			total += once
		}
		projections[l.Path] = l
	}
	for path, q := range projections {
		at, ok := strings.CutSuffix(path, ".to_q")
		if !ok {
			continue
		}
		k, v := projections[at+".to_k"], projections[at+".to_v"]
		grad := func(l *nn.Layer) bool {
			return needs.any(l.Output) || trains[l.Path+".lora_A.weight"]
		}
		d := q.Output.Shape().Dimensions
		once := 2 * float64(d[1]) * float64(d[2]) * float64(k.Output.Shape().Dimensions[1])
		forward, total = forward+2*once, total+2*once
		scores := 0.0
		for _, l := range []*nn.Layer{q, k} {
			if grad(l) {
				scores = once // Also the gradient by the scores themselves.
				total += once
			}
		}
		if grad(v) {
			total += once
		}
		total += scores
	}
	return forward, total
}

// dependents knows which nodes depend on a trainable parameter.
type dependents struct{ met map[*graph.Node]bool }

func (d dependents) any(n *graph.Node) bool {
	if is, ok := d.met[n]; ok {
		return is
	}
	is := false
	for _, input := range n.Inputs() {
		is = d.any(input) || is
	}
	d.met[n] = is
	return is
}
