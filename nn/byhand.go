package nn

import (
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// byHand returns the value of fast with a gradient written by hand.
//
//   - plain computes the same from in, nodes equal to inputs. It says what the
//     layer is, and is what runs where GoMLX's fusion is switched off
//     (GOMLX_FUSION=0); else it is dead code that no backend executes.
//   - fast computes it from the inputs themselves.
//   - backward gets the gradient of the loss by the result, and returns that by
//     each input, in order; those that no one needs are dead code too.
//
// GoMLX 0.28 has custom gradients for functions that keep the shape only. Ours
// rests on its way to differentiate fused operations: the gradient that arrives
// at fast is handed to plain, where the first node notes it and the last ones,
// identities of the inputs, replace what arrives at them by the hand-written
// gradient.
func byHand(inputs []*Node, plain func(in []*Node) *Node, fast func() *Node, backward func(g *Node) []*Node) *Node {
	var gradients []*Node
	in := make([]*Node, len(inputs))
	for i, x := range inputs {
		in[i] = IdentityWithCustomGradient(x, func(_, _ *Node) *Node { return gradients[i] })
	}
	y, _ := InternalFusedOpCaller(fast, func() *Node {
		return IdentityWithCustomGradient(plain(in), func(_, g *Node) *Node {
			gradients = backward(g)
			return g
		})
	}, true)
	return y
}
