package dpsgd

import (
	"strings"

	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/nn"
)

// Flops of one draw, two per multiply-add.
type Flops struct {
	Forward float64 `json:"forward"`
	Total   float64 `json:"total"` // Forward and backward pass of ordinary training.
	Dense   float64 `json:"dense"` // The part of Total that is in dense products: what compute in bfloat16 speeds up.
}

// CountFlops counts floating-point operations of one draw from shapes: of its
// forward pass, and of forward and backward pass of ordinary training of the set.
//
//   - a dense layer or convolution: 2·positions·kernel²·in·out forward, once
//     more for the gradient by its input if anything trainable lies before it,
//     and once more for the gradient by its weight if that trains;
//   - attention of n positions over m of c channels: 4·n·m·c forward, and once
//     more for each pair of factors that needs gradients;
//   - a table look-up, norms, activations, sums and the optimizer: nothing.
//
// Clipping adds nothing to this count: see LayerCost.Added.
//
// s is a scope in which the loss of one example with one draw was built, all its
// layers on the tape (nn.Options.Trainable is true for any name). parameters are
// the nodes of its parameters, trains says which of them train.
func CountFlops(s *nn.Scope, parameters map[string]*graph.Node, trains func(name string) bool) Flops {
	needs := dependents{map[*graph.Node]bool{}}
	for name, node := range parameters {
		needs.met[node] = trains(name)
	}
	tables := map[string]bool{}
	for _, spec := range s.Specs() {
		tables[spec.Name] = spec.Kind == nn.KindTable
	}
	var f Flops
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
		total := once
		if needs.any(l.Input()) {
			total += once
		}
		if trains(l.Weight) {
			total += once
		}
		f.Forward, f.Total = f.Forward+once, f.Total+total
		if l.Conv == nil {
			f.Dense += total
		}
		projections[l.Path] = l
	}
	for path, q := range projections {
		var k, v *nn.Layer
		if at, ok := strings.CutSuffix(path, ".to_q"); ok { // A UNet.
			k, v = projections[at+".to_k"], projections[at+".to_v"]
		} else if at, ok := strings.CutSuffix(path, ".q_proj"); ok { // A text encoder.
			k, v = projections[at+".k_proj"], projections[at+".v_proj"]
		}
		if k == nil || v == nil {
			continue
		}
		grad := func(l *nn.Layer) bool {
			return needs.any(l.Output) || trains(l.Path+".lora_A.weight")
		}
		d := q.Output.Shape().Dimensions
		once := 2 * float64(d[1]) * float64(d[2]) * float64(k.Output.Shape().Dimensions[1])
		f.Forward, f.Total = f.Forward+2*once, f.Total+2*once
		scores := 0.0
		for _, l := range []*nn.Layer{q, k} {
			if grad(l) {
				scores = once // Also the gradient by the scores themselves.
				f.Total += once
			}
		}
		if grad(v) {
			f.Total += once
		}
		f.Total += scores
	}
	return f
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
