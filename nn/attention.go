package nn

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// Attention returns softmax(q·kᵀ/√d)·v per head.
// q: [rows, n, channels], k, v: [rows, m, channels]; channels split into heads.
func Attention(q, k, v *Node, heads int) *Node {
	rows, n, channels := q.Shape().Dimensions[0], q.Shape().Dimensions[1], q.Shape().Dimensions[2]
	if k.Shape().Dimensions[1] == 1 { // One key: the softmax is 1 and the output is its value.
		return spread(v, n)
	}
	q = MulScalar(q, 1/sqrt(float64(channels/heads)))
	if lowering(q.Graph()) != Patches {
		return plainAttention(q, k, v, heads)
	}
	qh, kh, vh := splitHeads(q, heads), splitHeads(k, heads), splitHeads(v, heads)
	p := Softmax(batchDotT(qh, kh), -1)
	join := func(x *Node) *Node { return joinHeads(x, rows, heads) }
	plain := func(in []*Node) *Node { return plainAttention(in[0], in[1], in[2], heads) }
	return byHand([]*Node{q, k, v}, plain, func() *Node { return join(batchDot(p, vh)) }, func(g *Node) []*Node {
		gh := splitHeads(g, heads)
		dp := batchDotT(gh, vh)
		ds := Mul(p, Sub(dp, Patches.SumLast(Mul(dp, p))))
		return []*Node{
			join(batchDot(ds, kh)),
			join(Patches.BatchTransposeDot(ds, qh)),
			join(Patches.BatchTransposeDot(p, gh)),
		}
	})
}

// CausalAttention is Attention in which position i sees positions up to i only:
// q, k, v [rows, n, channels].
func CausalAttention(q, k, v *Node, heads int) *Node {
	d := q.Shape().Dimensions
	n, width := d[1], d[2]/heads
	split := func(x *Node) *Node { return Reshape(x, d[0], n, heads, width) }
	scores := Einsum("bnhc,bmhc->bhnm", split(MulScalar(q, 1/sqrt(float64(width)))), split(k))
	seen := BroadcastToShape(Reshape(LowerTriangular(q.Graph(), n), 1, 1, n, n), shapes.Make(dtypes.Bool, scores.Shape().Dimensions...))
	// What is not seen is far below any score, and its share is exactly zero.
	scores = Where(seen, scores, MulScalar(OnesLike(scores), -1e30))
	return Reshape(Einsum("bhnm,bmhc->bnhc", Softmax(scores, -1), split(v)), d...)
}

// plainAttention expects q to be scaled.
func plainAttention(q, k, v *Node, heads int) *Node {
	d := q.Shape().Dimensions
	if heads == 1 {
		scores := Einsum("bnc,bmc->bnm", q, k)
		return Einsum("bnm,bmc->bnc", Softmax(scores, -1), v)
	}
	m, width := k.Shape().Dimensions[1], d[2]/heads
	q = Reshape(q, d[0], d[1], heads, width)
	k = Reshape(k, d[0], m, heads, width)
	v = Reshape(v, d[0], m, heads, width)
	scores := Einsum("bnhc,bmhc->bhnm", q, k)
	return Reshape(Einsum("bhnm,bmhc->bnhc", Softmax(scores, -1), v), d...)
}

// spread repeats the one position of v [rows, 1, channels] n times.
func spread(v *Node, n int) *Node {
	rows, channels := v.Shape().Dimensions[0], v.Shape().Dimensions[2]
	plain := func(in []*Node) *Node { return BroadcastToDims(in[0], rows, n, channels) }
	if lowering(v.Graph()) != Patches {
		return plain([]*Node{v})
	}
	fast := func() *Node { return batchDot(ones(v, rows, n, 1), v) }
	return byHand([]*Node{v}, plain, fast, func(g *Node) []*Node {
		return []*Node{Reshape(Patches.SumPositions(g), rows, 1, channels)}
	})
}

// splitHeads: [rows, n, channels] → [rows·heads, n, channels/heads].
func splitHeads(x *Node, heads int) *Node {
	d := x.Shape().Dimensions
	return swapMiddle(Reshape(x, d[0], d[1], heads, d[2]/heads), d[0]*heads, d[1], d[2]/heads)
}

// joinHeads is the way back.
func joinHeads(x *Node, rows, heads int) *Node {
	d := x.Shape().Dimensions
	return swapMiddle(Reshape(x, rows, heads, d[1], d[2]), rows, d[1], heads*d[2])
}

// swapMiddle exchanges the middle axes of x and gives it the dimensions dims.
func swapMiddle(x *Node, dims ...int) *Node {
	d := x.Shape().Dimensions
	switch {
	case d[1] == 1 || d[2] == 1:
	case d[3]%2 == 0:
		x = unpairs(TransposeAllAxes(pairs(x), 0, 2, 1, 3))
	default:
		x = TransposeAllAxes(x, 0, 2, 1, 3)
	}
	return Reshape(x, dims...)
}
