package dpsgd

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
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
	// PixelGram: Ghost for a convolution of stride 1, whose windows' Gram matrix
	// is a sum of shifts of that of the pixels: 1/k² of the products.
	PixelGram Rule = "pixel-gram"
	// Explicit: the gradient of each example is formed, [examples, in, out].
	Explicit Rule = "explicit"
	// Direct: scale and shift of a norm, [examples, channels].
	Direct Rule = "direct"
)

// Shape is what a rule costs by.
type Shape struct {
	Kind    nn.LayerKind
	Rows    int // Positions times draws of one example.
	In, Out int // Width of the layer: kernel²·channels for a convolution.

	// Pixel is the channels of a pixel for a convolution of stride 1 that sees
	// more than one pixel, else 0.
	Pixel int
}

// ChooseRule picks the cheapest rule from the shapes alone. All rules share the
// contraction of rows·in·out; a ghost norm adds two Gram matrices, rows²·(in+out)
// or rows²·(pixel+out), explicit the gradients themselves, in·out, which the pure
// Go backend (lowering Patches) moves at the price of many products.
func ChooseRule(lowering nn.Lowering, s Shape) Rule {
	move := 30 // Multiplications worth one value that is written and read several times.
	if lowering == nn.Patches {
		move = 10 + s.Rows/3
	}
	square, explicit := s.Rows*s.Rows, move*s.In*s.Out
	// Shifting a Gram matrix moves each of its values, too.
	pixels := square * (s.Pixel + s.Out + 2*move)
	switch {
	case s.Kind == nn.ScaleShift:
		return Direct
	case s.Kind == nn.Table:
		return Ghost
	case s.Rows == 1:
		return OneRow
	case s.Pixel > 0 && lowering != nn.Patches && pixels < min(explicit, square*(s.In+s.Out)):
		return PixelGram
	case square*(s.In+s.Out) < explicit:
		return Ghost
	}
	return Explicit
}

// shapeOf returns the shape of a layer on the tape.
func shapeOf(l *nn.Layer, examples int) Shape {
	d := l.Output.Shape().Dimensions
	s := Shape{Kind: l.Kind, Rows: 1, In: 1, Out: d[len(d)-1]}
	for _, n := range d[:len(d)-1] {
		s.Rows *= n
	}
	s.Rows /= examples
	for _, n := range l.WeightShape[:max(0, len(l.WeightShape)-1)] {
		s.In *= n
	}
	if l.Conv != nil && l.Conv.Stride <= 1 {
		s.Pixel = l.WeightShape[len(l.WeightShape)-2]
	}
	return s
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
	if l.Weight != "" && l.Kind == nn.Table {
		square, sum := tableRule(lowering, l, g, force)
		parts, weightSum = append(parts, square), sum
	}
	if l.Weight != "" && l.Kind == nn.Linear {
		shape := shapeOf(l, examples)
		in := shape.In
		rule := ChooseRule(lowering, shape)
		if force != "" && rows > 1 && (force != PixelGram || shape.Pixel > 0) {
			rule = force
		}
		weightSum = func(factor *Node) *Node {
			return l.WeightGrad(lowering, Mul(g, Reshape(factor, examples, 1, 1)))
		}
		switch rule {
		case OneRow:
			a := Reshape(l.Input(), examples, in)
			parts = append(parts, Mul(lowering.RowDot(a, a), lowering.RowDot(g, g)))
		case Ghost:
			a := Reshape(l.Input(), examples, rows, in)
			parts = append(parts, ghostNormSq(lowering, gram(a), gram(g)))
		case PixelGram:
			parts = append(parts, ghostNormSq(lowering, windowGram(l.Pixels, *l.Conv, examples), gram(g)))
		case Explicit:
			if lowering == nn.Patches && in > out { // The smaller operand is transposed: [examples, out, in].
				sum := direct(lowering.BatchTransposeDot(g, Reshape(l.Input(), examples, rows, in)))
				weightSum = func(factor *Node) *Node { return Transpose(Reshape(sum(factor), out, in), 0, 1) }
			} else {
				weightSum = direct(l.ExampleGrads(lowering, g, examples))
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

// tableRule is the rule of a table whose entries are picked by index: the
// gradient of an entry is the sum of g over the positions that picked it, in all
// draws of the example. With A_ts = 1 where positions t and s picked the same
// entry, the squared norm is Σ_ts A_ts (g_t·g_s): the ghost norm on one-hot
// inputs, which are as wide as the vocabulary and are not formed.
// g: [examples, rows, out].
func tableRule(lowering nn.Lowering, l *nn.Layer, g *Node, force Rule) (normSq *Node, sum func(factor *Node) *Node) {
	d := g.Shape().Dimensions
	examples, rows, out := d[0], d[1], d[2]
	entries := l.WeightShape[0]
	index := Reshape(l.Input(), examples, rows)
	if force == Explicit {
		each := lowering.BatchTransposeDot(OneHot(index, entries, g.DType()), g)
		return lowering.RowDot(each, each), func(factor *Node) *Node { return weighted(factor, each) }
	}
	dims := []int{examples, rows, rows}
	same := Equal(BroadcastToDims(Reshape(index, examples, rows, 1), dims...), BroadcastToDims(Reshape(index, examples, 1, rows), dims...))
	gram := Einsum("btd,bsd->bts", g, g)
	return ghostNormSq(lowering, ConvertDType(same, g.DType()), gram), func(factor *Node) *Node {
		scaled := Mul(g, Reshape(factor, examples, 1, 1))
		return Scatter(Reshape(index, -1, 1), Reshape(scaled, -1, out), shapes.Make(g.DType(), entries, out), false, false)
	}
}

// gram returns the inner products of the rows of each example: [examples, rows,
// width] → [examples, rows, rows].
func gram(a *Node) *Node { return Einsum("btd,bsd->bts", a, a) }

// windowGram returns the inner products of the windows of each example that a
// convolution of stride 1 sees, [examples, rows, rows] with rows = draws·height·width,
// from those of the pixels R: A_ts = Σ_δ R_{t+δ, s+δ}, where δ runs over the kernel's
// taps and R is zero outside of the map.
// x: [examples·draws, height, width, channels].
func windowGram(x *Node, c nn.Conv, examples int) *Node {
	d := x.Shape().Dimensions
	draws, h, w := d[0]/examples, d[1], d[2]
	r := gram(Reshape(x, examples, draws*h*w, d[3]))
	r = Reshape(r, examples*draws, h, w, draws, h, w)
	around := compute.PadAxis{Start: c.Pad[0], End: c.Pad[1]}
	none := compute.PadAxis{}
	r = Pad(r, ScalarZero(x.Graph(), x.DType()), none, around, around, none, around, around)
	// One axis after the other: 2k shifts in place of k².
	for axis, size := range []int{c.Size(h), c.Size(w)} {
		var sum *Node
		for tap := range c.Kernel {
			ranges := make([]SliceAxisSpec, 6)
			for i := range ranges {
				ranges[i] = AxisRange()
			}
			ranges[1+axis], ranges[4+axis] = AxisRange(tap, tap+size), AxisRange(tap, tap+size)
			if part := Slice(r, ranges...); sum == nil {
				sum = part
			} else {
				sum = Add(sum, part)
			}
		}
		r = sum
	}
	rows := draws * c.Size(h) * c.Size(w)
	return Reshape(r, examples, rows, rows)
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
