package dpsgd

import (
	"fmt"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas

	"github.com/scumble-dp/scumble/nn"
)

// Rule is how a layer's per-example gradient norm is found.
type Rule string

const (
	// OneRow: one row per example, |a gᵀ| = |a|·|g|.
	OneRow Rule = "one-row"
	// Ghost: |Σ_t a_t g_tᵀ|² = Σ_ts (a_t·a_s)(g_t·g_s), never forming the
	// gradient (Li et al. 2022, https://arxiv.org/abs/2110.05679).
	Ghost Rule = "ghost"
	// Explicit: the gradient of each example is formed, [examples, in, out].
	Explicit Rule = "explicit"
	// Direct: scale and shift of a norm, [examples, channels].
	Direct Rule = "direct"
)

// ChooseRule picks the cheaper rule from the shapes alone: rows is the number
// of positions times draws of one example, in and out the width of the layer.
// Both rules share the contraction of rows·in·out; ghost adds two Gram matrices
// of rows²·(in+out), explicit the gradients themselves, in·out, which the pure
// Go backend (lowering Patches) moves at the price of many products.
func ChooseRule(lowering nn.Lowering, kind nn.LayerKind, rows, in, out int) Rule {
	move := 30 // Multiplications worth one value that is written and read several times.
	if lowering == nn.Patches {
		move = 10 + rows/3
	}
	switch {
	case kind == nn.ScaleShift:
		return Direct
	case rows == 1:
		return OneRow
	case rows*rows*(in+out) < move*in*out:
		return Ghost
	}
	return Explicit
}

// layerGrad holds one layer's part of the computation: the squared norm of
// each example's gradient, and how to get the weighted sum once the clip
// factors are known.
type layerGrad struct {
	normSq *Node                                   // [examples]
	sum    func(factor *Node) (weight, bias *Node) // Σ_i factor_i·g_i; nil where frozen.
}

// gradRule builds a layer's rule. g is the gradient of the summed loss with
// respect to the layer's output; both reshape to [examples, rows, channels].
func gradRule(lowering nn.Lowering, l *nn.Layer, g *Node, examples int, force Rule) layerGrad {
	out := g.Shape().Dimensions[g.Rank()-1]
	g = Reshape(g, examples, -1, out)
	rows := g.Shape().Dimensions[1]

	var parts []*Node
	var weightSum, biasSum func(factor *Node) *Node
	// direct is for parameters whose per-example gradients are small.
	direct := func(each *Node) func(factor *Node) *Node {
		parts = append(parts, lowering.RowDot(each, each))
		return func(factor *Node) *Node { return weighted(factor, each) }
	}
	if l.Weight != "" && l.Kind == nn.ScaleShift { // y = x∘w + b: Σ_t g_t∘x_t.
		weightSum = direct(lowering.SumPositions(Mul(g, Reshape(l.Input(), examples, rows, out))))
	}
	if l.Weight != "" && l.Kind == nn.Linear {
		in := 1
		for _, d := range l.WeightShape[:len(l.WeightShape)-1] {
			in *= d
		}
		a := Reshape(l.Input(), examples, rows, in)
		rule := ChooseRule(lowering, l.Kind, rows, in, out)
		if force != "" && rows > 1 {
			rule = force
		}
		weightSum = func(factor *Node) *Node {
			scaled := Mul(g, Reshape(factor, examples, 1, 1))
			return lowering.TransposeDot(Reshape(a, -1, in), Reshape(scaled, -1, out))
		}
		switch rule {
		case OneRow:
			parts = append(parts, Mul(lowering.RowDot(a, a), lowering.RowDot(g, g)))
		case Ghost:
			gramA, gramG := Einsum("btd,bsd->bts", a, a), Einsum("btd,bsd->bts", g, g)
			parts = append(parts, ghostNormSq(lowering, gramA, gramG))
		case Explicit:
			if lowering == nn.Patches && in > out { // The smaller operand is transposed: [examples, out, in].
				sum := direct(lowering.BatchTransposeDot(g, a))
				weightSum = func(factor *Node) *Node { return Transpose(Reshape(sum(factor), out, in), 0, 1) }
			} else {
				weightSum = direct(lowering.BatchTransposeDot(a, g))
			}
		default:
			panic(fmt.Errorf("dpsgd: layer %q has no rule %q", l.Path, rule))
		}
	}
	if l.Bias != "" {
		biasSum = direct(lowering.SumPositions(g))
	}
	return layerGrad{normSq: addAll(parts), sum: sums(weightSum, biasSum)}
}

// ghostAllowance bounds the rounding of a ghost norm, relative to the product of
// the Gram matrices' own norms: float32 sums of some thousand products of either
// sign stay far below it.
const ghostAllowance = 2e-6

// ghostNormSq returns Σ_ts A_ts·G_ts, plus an allowance for its rounding.
// Unlike the norm of an explicit gradient, which is that of the very numbers
// that are summed, a ghost norm can come out too small when the positions'
// contributions cancel; without the allowance an example whose positions nearly
// cancel would be clipped too little.
func ghostNormSq(lowering nn.Lowering, gramA, gramG *Node) *Node {
	sizes := Mul(lowering.RowDot(gramA, gramA), lowering.RowDot(gramG, gramG))
	return Add(lowering.RowDot(gramA, gramG), MulScalar(Sqrt(sizes), ghostAllowance))
}

func sums(weight, bias func(*Node) *Node) func(*Node) (*Node, *Node) {
	return func(factor *Node) (w, b *Node) {
		if weight != nil {
			w = weight(factor)
		}
		if bias != nil {
			b = bias(factor)
		}
		return w, b
	}
}

// weighted returns Σ_i factor_i·each_i as a flat vector.
func weighted(factor, each *Node) *Node {
	examples := factor.Shape().Dimensions[0]
	return Reshape(Dot(Reshape(factor, 1, examples), Reshape(each, examples, -1)).Product(), -1)
}

func addAll(nodes []*Node) *Node {
	total := nodes[0]
	for _, n := range nodes[1:] {
		total = Add(total, n)
	}
	return total
}
