package nn

import (
	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"
)

// selectionLimit is the largest selection matrix, in values, that windows are
// made with. Maps of 8x8 stay below it at physical batches up to 64 rows.
const selectionLimit = 4 << 20

// windowKey names the windows of one input, so that the convolutions that share
// an input and a geometry (a layer and its adapter) share its windows.
type windowKey struct {
	x    *Node
	conv Conv
}

// selectionKey names a selection matrix.
type selectionKey struct {
	conv                Conv
	rows, height, width int // Of the convolution's input.
	back                bool
}

// windows returns the kernel windows of x [rows, height, width, in] as rows of a
// matrix, [rows, height', width', kernel·kernel·in], in the order of the kernel's
// axes.
func (b *build) windows(x *Node, c Conv) *Node {
	c.Stride = c.stride()
	key := windowKey{x, c}
	if y, ok := b.met[key]; ok {
		return y
	}
	d := x.Shape().Dimensions
	y := b.pick(x, selectionKey{conv: c, rows: d[0], height: d[1], width: d[2]})
	if y == nil {
		y = c.patches(x)
	}
	b.met[key] = y
	return y
}

// windowsBack is the counterpart for the gradient by the input: g [rows,
// height', width', out] → [rows, height, width, kernel·kernel·out], where entry
// (i, j) of a pixel is the gradient of the output that saw this pixel through
// tap (i, j), zero where there is none.
func (b *build) windowsBack(g *Node, c Conv, height, width int) *Node {
	c.Stride = c.stride()
	d := g.Shape().Dimensions
	if y := b.pick(g, selectionKey{conv: c, rows: d[0], height: height, width: width, back: true}); y != nil {
		return y
	}
	// Spread by the stride, then padded so that tap k-1-i of the patches is tap i.
	grown := func(n, out int) compute.PadAxis {
		start := c.Kernel - 1 - c.Pad[0]
		return compute.PadAxis{Start: start, End: n + c.Kernel - 1 - start - ((out-1)*c.Stride + 1), Interior: c.Stride - 1}
	}
	g = Pad(g, ScalarZero(g.Graph(), g.DType()), compute.PadAxis{}, grown(height, d[1]), grown(width, d[2]), compute.PadAxis{})
	full := Conv{Kernel: c.Kernel, Stride: 1}
	return full.gather(g, height, width, true)
}

// pick multiplies each row's pixels by a 0-1 matrix that picks the windows. For
// small maps on the Go backend this costs a third of slices and concatenations.
// It returns nil where the matrix would be large.
func (b *build) pick(x *Node, key selectionKey) *Node {
	taps := key.conv.Kernel * key.conv.Kernel
	pixels, outputs := key.height*key.width, key.conv.Size(key.height)*key.conv.Size(key.width)
	if b.opts.Lowering != Patches || key.rows*taps*pixels*outputs > selectionLimit || pixels > 64 {
		return nil
	}
	from := pixels
	height, width := key.conv.Size(key.height), key.conv.Size(key.width)
	if key.back {
		from = outputs
		height, width = key.height, key.width
	}
	matrix, ok := b.selections[key]
	if !ok {
		matrix = ConstTensor(b.graph, key.matrix())
		b.selections[key] = matrix
	}
	channels := x.Shape().Dimensions[3]
	y := batchDot(matrix, Reshape(x, key.rows, from, channels)) // [rows, places·taps, channels]
	return Reshape(y, key.rows, height, width, taps*channels)
}

// matrix returns the selection, [rows, outputs·taps, pixels], or with back
// [rows, pixels·taps, outputs]: the same for each row.
func (k selectionKey) matrix() *tensors.Tensor {
	c := k.conv
	taps, oh, ow := c.Kernel*c.Kernel, c.Size(k.height), c.Size(k.width)
	pixels, outputs := k.height*k.width, oh*ow
	one := make([]float32, taps*pixels*outputs)
	for i := range oh {
		for j := range ow {
			for tap := range taps {
				y, x := i*c.Stride+tap/c.Kernel-c.Pad[0], j*c.Stride+tap%c.Kernel-c.Pad[0]
				if y < 0 || y >= k.height || x < 0 || x >= k.width {
					continue
				}
				output, pixel := i*ow+j, y*k.width+x
				if k.back {
					one[(pixel*taps+tap)*outputs+output] = 1
				} else {
					one[(output*taps+tap)*pixels+pixel] = 1
				}
			}
		}
	}
	all := make([]float32, 0, k.rows*len(one))
	for range k.rows {
		all = append(all, one...)
	}
	if k.back {
		return tensors.FromFlatDataAndDimensions(all, k.rows, pixels*taps, outputs)
	}
	return tensors.FromFlatDataAndDimensions(all, k.rows, outputs*taps, pixels)
}

// patches makes windows from slices.
func (c Conv) patches(x *Node) *Node {
	d := x.Shape().Dimensions
	height, width := c.Size(d[1]), c.Size(d[2])
	if c.Pad != [2]int{} {
		x = c.pad(x)
	}
	return c.gather(x, height, width, false)
}

// pad surrounds each map of x with the zeros that the convolution sees.
func (c Conv) pad(x *Node) *Node {
	pad := compute.PadAxis{Start: c.Pad[0], End: c.Pad[1]}
	// All four axes: the gradient of GoMLX 0.28's Pad is wrong for fewer.
	return Pad(x, ScalarZero(x.Graph(), x.DType()), compute.PadAxis{}, pad, pad, compute.PadAxis{})
}

// gather collects windows of a padded x, the taps in order or from the last to
// the first.
func (c Conv) gather(x *Node, height, width int, turned bool) *Node {
	st := c.stride()
	channels := x.Shape().Dimensions[3]
	paired := channels%2 == 0 && lowering(x.Graph()) == Patches
	if paired {
		x = pairs(x)
	}
	taps := c.Kernel * c.Kernel
	parts := make([]*Node, taps)
	for tap := range taps {
		at := tap
		if turned {
			at = taps - 1 - tap
		}
		i, j := at/c.Kernel, at%c.Kernel
		parts[tap] = Slice(x, AxisRange(),
			AxisRange(i, i+(height-1)*st+1).Stride(st),
			AxisRange(j, j+(width-1)*st+1).Stride(st), AxisRange())
	}
	y := parts[0]
	if taps > 1 {
		y = Concatenate(parts, -1)
	}
	if paired {
		y = unpairs(y)
	}
	return y
}
