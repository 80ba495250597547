package nn

import (
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// The sums below are written in two ways. XLA fuses element-wise work into
// reductions. The pure Go backend walks every element of a reduction or a
// transpose through a general iterator, at 3 to 8 ns each, while its products
// take 0.5: there sums become products with ones, and of two operands that
// would both be transposed only the smaller one is.

// SumPositions returns Σ_t x_t: [n, t, channels] → [n, channels].
func (l Lowering) SumPositions(x *Node) *Node {
	if l != Patches {
		return ReduceSum(x, 1)
	}
	d := x.Shape().Dimensions
	return Reshape(batchDot(ones(x, d[0], 1, d[1]), x), d[0], d[2])
}

// SumLast returns the sums over the last axis, which stays with size 1.
func (l Lowering) SumLast(x *Node) *Node {
	if l != Patches {
		return ReduceAndKeep(x, ReduceSum, -1)
	}
	d := append([]int(nil), x.Shape().Dimensions...)
	last := len(d) - 1
	y := Dot(Reshape(x, -1, d[last]), ones(x, d[last], 1)).Product()
	d[last] = 1
	return Reshape(y, d...)
}

// RowDot returns the inner product of each row of x with that of y: [n, ...] → [n].
func (l Lowering) RowDot(x, y *Node) *Node {
	n := x.Shape().Dimensions[0]
	if l != Patches {
		return ReduceSum(Reshape(Mul(x, y), n, -1), -1)
	}
	return Reshape(batchDotT(Reshape(x, n, 1, -1), Reshape(y, n, 1, -1)), n)
}

// TransposeDot returns aᵀ·b: [n, p], [n, q] → [p, q].
func (l Lowering) TransposeDot(a, b *Node) *Node {
	p, q := a.Shape().Dimensions[1], b.Shape().Dimensions[1]
	switch {
	case l != Patches:
		return Einsum("np,nq->pq", a, b)
	case p <= q:
		return Dot(TransposeAllAxes(a, 1, 0), b).Product()
	}
	return TransposeAllAxes(Dot(TransposeAllAxes(b, 1, 0), a).Product(), 1, 0)
}

// BatchTransposeDot returns aᵀ·b of each batch entry: [n, t, p], [n, t, q] →
// [n, p, q]. a should be the smaller.
func (l Lowering) BatchTransposeDot(a, b *Node) *Node {
	if l != Patches {
		return Einsum("ntp,ntq->npq", a, b)
	}
	return batchDot(TransposeAllAxes(a, 0, 2, 1), b)
}

// batchDot returns a·b of each batch entry: [n, p, t], [n, t, q] → [n, p, q].
func batchDot(a, b *Node) *Node {
	return DotGeneral(a, []int{2}, []int{0}, b, []int{1}, []int{0})
}

// batchDotT returns a·bᵀ of each batch entry: [n, p, t], [n, q, t] → [n, p, q].
func batchDotT(a, b *Node) *Node {
	return DotGeneral(a, []int{2}, []int{0}, b, []int{2}, []int{0})
}

// ones returns a constant of ones.
func ones(x *Node, dims ...int) *Node {
	return StopGradient(Ones(x.Graph(), float32Shape(dims...)))
}

// pairs returns x as half as many elements of twice the width: the Go backend
// moves data element by element, whatever the element. The last axis is even.
func pairs(x *Node) *Node {
	d := append([]int(nil), x.Shape().Dimensions...)
	d[len(d)-1] /= 2
	return Bitcast(Reshape(x, append(d, 2)...), dtypes.Uint64)
}

// unpairs is the way back.
func unpairs(x *Node) *Node {
	d := append([]int(nil), x.Shape().Dimensions...)
	d[len(d)-1] *= 2
	return Reshape(Bitcast(x, dtypes.Float32), d...)
}
