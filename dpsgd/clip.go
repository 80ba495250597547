package dpsgd

import (
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas

	"github.com/scumble-dp/scumble/nn"
)

// clipSlack makes up for float32 rounding of norms and factors: contributions
// are clipped to ClippingNorm·(1-clipSlack), so that none exceeds the norm.
const clipSlack = 1e-5

// bookKeeping returns Σ_i mask_i·g_i·min(1, C/|g_i|), a node for each of names, in
// order, and last the norms [examples].
//
//   - losses: [examples], the loss of each example, averaged over its draws.
//   - mask: [examples], 1 for an example of the batch, 0 for padding.
//
// Guarantee: each example's contribution has L2 norm at most clippingNorm, as
// long as every layer treats examples independently. An example whose norm is
// not finite contributes zero; if its activations are not finite either, the
// whole sum is NaN, and the caller takes the batch apart.
func bookKeeping(s *nn.Scope, names []string, losses, mask *Node, clippingNorm float64, force Rule, wrong mistake) []*Node {
	tape, examples := s.Tape(), losses.Shape().Dimensions[0]
	outputs := make([]*Node, len(tape))
	for i, l := range tape {
		outputs[i] = l.Output
	}
	gradients := Gradient(ReduceAllSum(losses), outputs...)
	grads := make([]layerGrad, len(tape))
	squares := make([]*Node, len(tape))
	for i, l := range tape {
		grads[i] = gradRule(s.Lowering(), l, gradients[i], examples, force)
		squares[i] = grads[i].normSq
	}
	factor, norms := clipFactor(totalNormSq(squares, mask), mask, clippingNorm, wrong)
	parts := map[string]*Node{}
	for i, l := range tape {
		weight, bias := grads[i].sum(factor)
		if weight != nil {
			parts[l.Weight] = Reshape(weight, l.WeightShape...)
		}
		if bias != nil {
			parts[l.Bias] = Reshape(bias, -1)
		}
	}
	var out []*Node
	for _, name := range names {
		out = append(out, parts[name])
	}
	return append(out, norms)
}

// oneExample adds the plain gradient of a batch of one, clipped, to the sums of the
// examples before it: the oracle of bookKeeping and the body of the per-example
// loop. It needs no tape.
//
//   - keep: [], false for the first of a chain: before is then anything of the
//     trainable parameters' shapes.
//
// Guarantee: that of bookKeeping, and an example whose gradient is not finite
// adds zero, whatever it is.
func oneExample(s *nn.Scope, trainable, before []*Node, keep, losses, mask *Node, clippingNorm float64, wrong mistake) []*Node {
	losses.AssertDims(1)
	gradients := Gradient(ReduceAllSum(losses), trainable...)
	squares := make([]*Node, len(gradients))
	for i, g := range gradients {
		row := Reshape(g, 1, -1)
		squares[i] = s.Lowering().RowDot(row, row)
	}
	normSq := totalNormSq(squares, mask)
	factor, norms := clipFactor(normSq, mask, clippingNorm, wrong)
	counts := Reshape(IsFinite(normSq))
	for i, g := range gradients {
		clipped := Mul(g, Reshape(factor))
		if wrong != keepNonFinite { // Zero times what is not finite is not a number.
			clipped = Where(counts, clipped, ZerosLike(clipped))
		}
		gradients[i] = Add(Where(keep, before[i], ZerosLike(before[i])), clipped)
	}
	return append(gradients, norms)
}

// totalNormSq returns the sum of the squared norms of a model's parameters, [examples].
// other is any node: go-xla leaves out a barrier of one.
//
// XLA fuses cheap operations into whatever reads their result, once for each reader: the
// additions were compiled, and computed, again for every parameter that the clip factor
// scales, 90,000 instructions of them in a UNet of 300 tensors. Past the barrier it
// fuses nothing.
func totalNormSq(squares []*Node, other *Node) *Node {
	return OptimizationBarriers(addAll(squares), other)[0]
}

// clipFactor returns mask·min(1, C/norm), 0 where the norm is not finite, and
// the norms.
func clipFactor(normSq, mask *Node, clippingNorm float64, wrong mistake) (factor, norms *Node) {
	norms = Sqrt(MaxScalar(normSq, 0)) // Gram products can fall below zero by rounding.
	if wrong == noSquareRoot {
		norms = MaxScalar(normSq, 0)
	}
	bound := clippingNorm * (1 - clipSlack)
	limit := Scalar(normSq.Graph(), normSq.DType(), bound)
	factor = Div(limit, Max(norms, limit))
	if wrong == keepNonFinite {
		return Mul(factor, mask), norms
	}
	zero := ZerosLike(factor)
	return Where(IsFinite(normSq), Mul(factor, mask), zero), norms
}
