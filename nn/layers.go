package nn

import (
	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

func float32Shape(dims ...int) shapes.Shape { return shapes.Make(dtypes.Float32, dims...) }

// DenseOptions of a dense layer.
type DenseOptions struct {
	NoBias   bool
	ZeroInit bool // Start as the zero map: last layers of residual branches.
}

// Dense returns x·W + b on the last axis: x [rows, ..., in] → [rows, ..., out].
func Dense(s *Scope, x *Node, out int, o DenseOptions) *Node {
	in := x.Shape().Dimensions[x.Rank()-1]
	w, wName := s.param("weight", KindDense, initFor(o.ZeroInit), in, out)
	bName := ""
	var b *Node
	if !o.NoBias {
		b, bName = s.param("bias", KindVector, InitZeros, out)
	}
	y := linear(x, w, b)
	s.record(&Layer{Kind: Linear, Input: func() *Node { return x }, Output: y,
		Weight: wName, Bias: bName, WeightShape: []int{in, out}})
	return s.adapt(Target{Path: s.path, In: in, Out: out}, x, y)
}

// Embed returns rows of a learned table: indices [rows] int32 → [rows, channels].
// The look-up is a product with a one-hot matrix, so the table has the
// gradient rule of a dense layer, also when draws of one example look up
// different entries (label dropout).
func Embed(s *Scope, indices *Node, entries, channels int) *Node {
	table, name := s.param("weight", KindTable, InitNormal, entries, channels)
	hot := OneHot(indices, entries, dtypes.Float32)
	y := linear(hot, table, nil)
	s.record(&Layer{Kind: Linear, Input: func() *Node { return hot }, Output: y,
		Weight: name, WeightShape: []int{entries, channels}})
	return y
}

// SiLU returns x·sigmoid(x).
func SiLU(x *Node) *Node {
	plain := func(in []*Node) *Node { return Mul(in[0], Sigmoid(in[0])) }
	if lowering(x.Graph()) != Patches {
		return plain([]*Node{x})
	}
	sigmoid := Sigmoid(x)
	y := Mul(x, sigmoid)
	return byHand([]*Node{x}, plain, func() *Node { return Identity(y) }, func(g *Node) []*Node {
		return []*Node{Mul(g, Mul(sigmoid, OnePlus(Sub(x, y))))}
	})
}

// GELU returns the exact Gaussian error linear unit x·Φ(x).
func GELU(x *Node) *Node {
	return Mul(MulScalar(x, 0.5), OnePlus(Erf(MulScalar(x, 0.7071067811865476))))
}

// QuickGELU returns x·sigmoid(1.702x), CLIP's approximation of GELU.
func QuickGELU(x *Node) *Node { return Mul(x, Sigmoid(MulScalar(x, 1.702))) }

// linear multiplies the last axis of x by w [in, out] and adds b [out], unless
// it is nil.
func linear(x, w, b *Node) *Node {
	plain := func(in []*Node) *Node {
		dims := append([]int(nil), in[0].Shape().Dimensions...)
		width := in[1].Shape().Dimensions
		dims[len(dims)-1] = width[1]
		return addBias(Reshape(dot(Reshape(in[0], -1, width[0]), in[1]), dims...), in[2:])
	}
	l := lowering(x.Graph())
	if l != Patches {
		return plain(present(x, w, b))
	}
	in, out := w.Shape().Dimensions[0], w.Shape().Dimensions[1]
	return byHand(present(x, w, b), plain, func() *Node { return product(x, w, b) }, func(g *Node) []*Node {
		flat := Reshape(g, -1, out)
		dx := DotGeneral(flat, []int{1}, nil, w, []int{1}, nil)
		return []*Node{Reshape(dx, x.Shape().Dimensions...), l.TransposeDot(Reshape(x, -1, in), flat), sumRows(flat)}
	})
}

// product multiplies the last axis of x by w [in, out] and adds b [out], unless
// it is nil, in one operation where the backend has it. Its gradient is not
// used.
func product(x, w, b *Node) *Node {
	dims := append([]int(nil), x.Shape().Dimensions...)
	in, out := w.Shape().Dimensions[0], w.Shape().Dimensions[1]
	dims[len(dims)-1] = out
	x = Reshape(x, -1, in)
	y, _ := InternalFusedOpCaller(func() *Node {
		return BackendFusedDense(x, w, b, compute.DenseConfig{WeightLayout: compute.DenseLayoutInputOutputs})
	}, func() *Node { return addBias(Dot(x, w).Product(), present(b)) }, false)
	return Reshape(y, dims...)
}

// present returns the nodes that are not nil.
func present(nodes ...*Node) []*Node {
	var some []*Node
	for _, n := range nodes {
		if n != nil {
			some = append(some, n)
		}
	}
	return some
}

// addBias adds the bias [channels], if there is one, to the last axis of x.
func addBias(x *Node, bias []*Node) *Node {
	if len(bias) == 0 {
		return x
	}
	return Add(x, ExpandLeftToRank(bias[0], x.Rank()))
}

// sumRows returns Σ_n x_n: [n, channels] → [channels].
func sumRows(x *Node) *Node {
	d := x.Shape().Dimensions
	return Reshape(Dot(ones(x, 1, d[0]), x).Product(), d[1])
}

func initFor(zero bool) Init {
	if zero {
		return InitZeros
	}
	return InitFanIn
}
