package eval

import (
	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas

	"github.com/scumble-dp/scumble/nn"
)

// inceptionForward is Inception v3 (Szegedy et al. 2015,
// https://arxiv.org/abs/1512.00567) as the TensorFlow graph of December 2015 has
// it: average pools do not count the padding, and the last block takes a maximum
// where the paper takes an average. x is [batch, 299, 299, 3], (pixel - 128)/128;
// features are [batch, 2048], logits [batch, 1008].
func inceptionForward(s *nn.Scope, x *Node) (features, logits *Node) {
	x = unit(s.In("Conv2d_1a_3x3"), x, 32, window{3, 3, 2, 0, 0})
	x = unit(s.In("Conv2d_2a_3x3"), x, 32, window{3, 3, 1, 0, 0})
	x = unit(s.In("Conv2d_2b_3x3"), x, 64, window{3, 3, 1, 1, 1})
	x = maxPool(x, window{3, 3, 2, 0, 0})
	x = unit(s.In("Conv2d_3b_1x1"), x, 80, point)
	x = unit(s.In("Conv2d_4a_3x3"), x, 192, window{3, 3, 1, 0, 0})
	x = maxPool(x, window{3, 3, 2, 0, 0})
	x = inceptionA(s.In("Mixed_5b"), x, 32)
	x = inceptionA(s.In("Mixed_5c"), x, 64)
	x = inceptionA(s.In("Mixed_5d"), x, 64)
	x = inceptionB(s.In("Mixed_6a"), x)
	x = inceptionC(s.In("Mixed_6b"), x, 128)
	x = inceptionC(s.In("Mixed_6c"), x, 160)
	x = inceptionC(s.In("Mixed_6d"), x, 160)
	x = inceptionC(s.In("Mixed_6e"), x, 192)
	x = inceptionD(s.In("Mixed_7a"), x)
	x = inceptionE(s.In("Mixed_7b"), x, averagePool)
	x = inceptionE(s.In("Mixed_7c"), x, func(x *Node) *Node { return maxPool(x, window{3, 3, 1, 1, 1}) })
	features = ReduceMean(x, 1, 2)
	return features, nn.Dense(s.In("fc"), features, inceptionClasses, nn.DenseOptions{NoBias: true})
}

func inceptionA(s *nn.Scope, x *Node, pooled int) *Node {
	five := unit(s.In("branch5x5_1"), x, 48, point)
	three := unit(s.In("branch3x3dbl_1"), x, 64, point)
	three = unit(s.In("branch3x3dbl_2"), three, 96, window{3, 3, 1, 1, 1})
	return Concatenate([]*Node{
		unit(s.In("branch1x1"), x, 64, point),
		unit(s.In("branch5x5_2"), five, 64, window{5, 5, 1, 2, 2}),
		unit(s.In("branch3x3dbl_3"), three, 96, window{3, 3, 1, 1, 1}),
		unit(s.In("branch_pool"), averagePool(x), pooled, point),
	}, -1)
}

func inceptionB(s *nn.Scope, x *Node) *Node {
	double := unit(s.In("branch3x3dbl_1"), x, 64, point)
	double = unit(s.In("branch3x3dbl_2"), double, 96, window{3, 3, 1, 1, 1})
	return Concatenate([]*Node{
		unit(s.In("branch3x3"), x, 384, window{3, 3, 2, 0, 0}),
		unit(s.In("branch3x3dbl_3"), double, 96, window{3, 3, 2, 0, 0}),
		maxPool(x, window{3, 3, 2, 0, 0}),
	}, -1)
}

func inceptionC(s *nn.Scope, x *Node, inner int) *Node {
	row, column := window{1, 7, 1, 0, 3}, window{7, 1, 1, 3, 0}
	seven := unit(s.In("branch7x7_1"), x, inner, point)
	seven = unit(s.In("branch7x7_2"), seven, inner, row)
	double := unit(s.In("branch7x7dbl_1"), x, inner, point)
	double = unit(s.In("branch7x7dbl_2"), double, inner, column)
	double = unit(s.In("branch7x7dbl_3"), double, inner, row)
	double = unit(s.In("branch7x7dbl_4"), double, inner, column)
	return Concatenate([]*Node{
		unit(s.In("branch1x1"), x, 192, point),
		unit(s.In("branch7x7_3"), seven, 192, column),
		unit(s.In("branch7x7dbl_5"), double, 192, row),
		unit(s.In("branch_pool"), averagePool(x), 192, point),
	}, -1)
}

func inceptionD(s *nn.Scope, x *Node) *Node {
	seven := unit(s.In("branch7x7x3_1"), x, 192, point)
	seven = unit(s.In("branch7x7x3_2"), seven, 192, window{1, 7, 1, 0, 3})
	seven = unit(s.In("branch7x7x3_3"), seven, 192, window{7, 1, 1, 3, 0})
	return Concatenate([]*Node{
		unit(s.In("branch3x3_2"), unit(s.In("branch3x3_1"), x, 192, point), 320, window{3, 3, 2, 0, 0}),
		unit(s.In("branch7x7x3_4"), seven, 192, window{3, 3, 2, 0, 0}),
		maxPool(x, window{3, 3, 2, 0, 0}),
	}, -1)
}

func inceptionE(s *nn.Scope, x *Node, pool func(*Node) *Node) *Node {
	row, column := window{1, 3, 1, 0, 1}, window{3, 1, 1, 1, 0}
	three := unit(s.In("branch3x3_1"), x, 384, point)
	double := unit(s.In("branch3x3dbl_1"), x, 448, point)
	double = unit(s.In("branch3x3dbl_2"), double, 384, window{3, 3, 1, 1, 1})
	return Concatenate([]*Node{
		unit(s.In("branch1x1"), x, 320, point),
		unit(s.In("branch3x3_2a"), three, 384, row),
		unit(s.In("branch3x3_2b"), three, 384, column),
		unit(s.In("branch3x3dbl_3a"), double, 384, row),
		unit(s.In("branch3x3dbl_3b"), double, 384, column),
		unit(s.In("branch_pool"), pool(x), 192, point),
	}, -1)
}

// window is the geometry of a convolution or pool.
type window struct{ height, width, stride, padY, padX int }

var point = window{1, 1, 1, 0, 0}

// unit is a convolution, its batch norm folded in, and a ReLU. It is a product
// with the rows of windows: it needs no gradient, and no backend is slow at it.
func unit(s *nn.Scope, x *Node, out int, w window) *Node {
	if w != point {
		x = Concatenate(w.slices(x, 0), -1)
	}
	y := nn.Dense(s, x, out, nn.DenseOptions{})
	return Max(y, ScalarZero(y.Graph(), y.DType()))
}

// slices returns, for each place of the window in order, the pixels that it
// sees: [batch, height', width', channels] each.
func (w window) slices(x *Node, padding float64) []*Node {
	if w.padY+w.padX > 0 {
		y, x0 := compute.PadAxis{Start: w.padY, End: w.padY}, compute.PadAxis{Start: w.padX, End: w.padX}
		x = Pad(x, Scalar(x.Graph(), x.DType(), padding), compute.PadAxis{}, y, x0, compute.PadAxis{})
	}
	d := x.Shape().Dimensions
	height, width := (d[1]-w.height)/w.stride+1, (d[2]-w.width)/w.stride+1
	var parts []*Node
	for i := range w.height {
		for j := range w.width {
			parts = append(parts, Slice(x, AxisRange(),
				AxisRange(i, i+(height-1)*w.stride+1).Stride(w.stride),
				AxisRange(j, j+(width-1)*w.stride+1).Stride(w.stride), AxisRange()))
		}
	}
	return parts
}

// maxPool pads with a number below any activation after a ReLU.
func maxPool(x *Node, w window) *Node {
	parts := w.slices(x, -1)
	y := parts[0]
	for _, p := range parts[1:] {
		y = Max(y, p)
	}
	return y
}

// averagePool is 3×3 with stride 1 and keeps the size; each mean is over the
// pixels that are there.
func averagePool(x *Node) *Node {
	w := window{3, 3, 1, 1, 1}
	parts := w.slices(x, 0)
	y := parts[0]
	for _, p := range parts[1:] {
		y = Add(y, p)
	}
	d := x.Shape().Dimensions
	inverse := make([]float32, d[1]*d[2])
	for i := range d[1] {
		for j := range d[2] {
			rows, columns := min(i+2, d[1])-max(i-1, 0), min(j+2, d[2])-max(j-1, 0)
			inverse[i*d[2]+j] = 1 / float32(rows*columns)
		}
	}
	return Mul(y, Reshape(Const(x.Graph(), inverse), 1, d[1], d[2], 1))
}
