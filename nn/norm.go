package nn

import (
	"math"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

func sqrt(x float64) float64 { return math.Sqrt(x) }

// GroupNorm normalises x [rows, positions..., channels] over positions and the
// channels of each group, then scales and shifts per channel (Wu & He 2018,
// https://arxiv.org/abs/1803.08494). Statistics are within one row: no example
// sees another.
func GroupNorm(s *Scope, x *Node, groups int, epsilon float64) *Node {
	dims := x.Shape().Dimensions
	rows, channels := dims[0], dims[len(dims)-1]
	flat := Reshape(x, rows, -1, channels)
	count := float64(flat.Shape().Dimensions[1] * channels / groups)
	l := s.Lowering()

	// mean returns the mean of x of each group, once per channel: [rows, 1,
	// channels]. Sums run over positions first, so that the wide axis stays
	// contiguous.
	mean := func(x *Node) *Node {
		sums := ReduceSum(Reshape(l.SumPositions(x), rows, groups, channels/groups), -1)
		means := BroadcastToDims(Reshape(MulScalar(sums, 1/count), rows, groups, 1), rows, groups, channels/groups)
		return Reshape(means, rows, 1, channels)
	}
	return s.norm(x, flat, epsilon, mean, nil)
}

// LayerNorm normalises the last axis, then scales and shifts per channel (Ba
// et al. 2016, https://arxiv.org/abs/1607.06450).
func LayerNorm(s *Scope, x *Node, epsilon float64) *Node {
	channels := x.Shape().Dimensions[x.Rank()-1]
	l := s.Lowering()
	mean := func(x *Node) *Node {
		return MulScalar(l.SumLast(x), 1/float64(channels))
	}
	fused := func(x, scale, shift *Node) *Node {
		return BackendFusedLayerNorm(x, []int{x.Rank() - 1}, epsilon, scale, shift)
	}
	return s.norm(x, x, epsilon, mean, fused)
}

// norm returns (x - mean(x))/√(mean((x - mean(x))²) + epsilon), scaled and
// shifted per channel, with the shape of x.
//
//   - flat is x in the shape that mean takes.
//   - mean returns means that broadcast against flat.
//   - fused, if not nil, does all of it at once on the Go backend.
func (s *Scope) norm(x, flat *Node, epsilon float64, mean func(x *Node) *Node, fused func(x, scale, shift *Node) *Node) *Node {
	dims := x.Shape().Dimensions
	channels := dims[len(dims)-1]
	scale, scaleName := s.param("weight", KindVector, InitOnes, channels)
	shift, shiftName := s.param("bias", KindVector, InitZeros, channels)
	wide := func(v *Node) *Node { return ExpandLeftToRank(v, flat.Rank()) }

	parts := func(x *Node) (centred, std *Node) {
		centred = Sub(x, mean(x))
		return centred, Sqrt(AddScalar(mean(Mul(centred, centred)), epsilon))
	}
	centred, std := parts(flat)
	l := &Layer{Kind: ScaleShift, Weight: scaleName, Bias: shiftName, WeightShape: []int{channels},
		Input: func() *Node { return Div(centred, std) }}
	plain := func(in []*Node) *Node {
		centred, std := parts(in[0])
		return Add(Mul(Div(centred, std), wide(in[1])), wide(in[2]))
	}
	factor := Div(wide(scale), std)
	fast := func() *Node { return Add(Mul(centred, factor), wide(shift)) }
	if fused != nil && s.Lowering() == Patches {
		slow := fast
		fast = func() *Node {
			y, _ := InternalFusedOpCaller(func() *Node { return fused(flat, scale, shift) }, slow, false)
			return y
		}
	}
	// By hand, as GoMLX's own gradient goes through each mean on its own and takes
	// XLA more than twice as long. With n = centred/std:
	// dx = (g∘scale - mean(g∘scale) - n∘mean(g∘scale∘n))/std.
	l.Output = byHand([]*Node{flat, scale, shift}, plain, fast, func(g *Node) []*Node {
		scaled := Mul(g, wide(scale))
		pull := Div(mean(Mul(scaled, centred)), Mul(std, std))
		dx := Div(Sub(Sub(scaled, Mul(centred, pull)), mean(scaled)), std)
		dScale := sumRows(Reshape(Mul(g, Div(centred, std)), -1, channels))
		return []*Node{dx, dScale, sumRows(Reshape(g, -1, channels))}
	})
	s.record(l)
	return Reshape(l.Output, dims...)
}
