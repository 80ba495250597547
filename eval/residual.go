package eval

import (
	"fmt"

	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/nn"
)

// Geometry is the size of a residual classifier. Zero fields mean those of the
// small default, which two cores can train.
type Geometry struct {
	Depth       int `json:"depth"`                 // Weighted layers, as the papers count.
	Width       int `json:"width"`                 // Factor on the channels.
	Cardinality int `json:"cardinality,omitempty"` // Groups of a ResNeXt.
}

// Geometries of DPImageBench for images other than CIFAR's
// (https://arxiv.org/abs/2503.14681), and our small ones.
var (
	fullGeometry = map[Classifier]Geometry{
		ResNet:  {Depth: 110, Width: 1},
		WRN:     {Depth: 40, Width: 4},
		ResNeXt: {Depth: 29, Width: 4, Cardinality: 8},
	}
	smallGeometry = map[Classifier]Geometry{
		ResNet:  {Depth: 8, Width: 1},
		WRN:     {Depth: 10, Width: 1},
		ResNeXt: {Depth: 11, Width: 1, Cardinality: 2},
	}
)

// Residual reports whether the classifier is a residual network, which has a
// geometry.
func (c Classifier) Residual() bool { return c == ResNet || c == WRN || c == ResNeXt }

// geometry fills in what is zero, and refuses a depth that makes no whole
// blocks: 6n+2 layers of a ResNet, 6n+4 of a WideResNet, 9n+2 of a ResNeXt.
func (c Classifier) geometry(g Geometry) (Geometry, error) {
	if !c.Residual() {
		return Geometry{}, nil
	}
	small := smallGeometry[c]
	g.Depth, g.Width, g.Cardinality = orInt(g.Depth, small.Depth), orInt(g.Width, small.Width), orInt(g.Cardinality, small.Cardinality)
	if c != ResNeXt {
		g.Cardinality = 0
	}
	layers, rest := 6, map[Classifier]int{ResNet: 2, WRN: 4, ResNeXt: 2}[c]
	if c == ResNeXt {
		layers = 9
	}
	if n := (g.Depth - rest) / layers; n < 1 || n > 100 || n*layers+rest != g.Depth {
		return g, fmt.Errorf("depth of %s is %d, want %dn+%d, such as %d: %w", c, g.Depth, layers, rest, fullGeometry[c].Depth, ErrInvalid)
	}
	if g.Width < 1 || g.Width > 16 || c == ResNeXt && (g.Cardinality < 1 || g.Cardinality > 64) {
		return g, fmt.Errorf("width of %s is %d and its cardinality %d, want 1 to 16 and 1 to 64: %w", c, g.Width, g.Cardinality, ErrInvalid)
	}
	return g, nil
}

// residual builds one of the three networks. x is [batch, height, width,
// channels]; the result is [batch, classes]. Where the papers normalise over the
// batch, we do over groups of channels (Wu & He 2018): an example's logits then do
// not depend on its neighbours, and nothing has to be tracked. There is no dropout.
func (c Classifier) residual(s *nn.Scope, x *graph.Node, classes int, g Geometry) *graph.Node {
	switch c {
	case WRN:
		return wideResNet(s, x, classes, (g.Depth-4)/6, g.Width)
	case ResNeXt:
		return resNeXt(s, x, classes, (g.Depth-2)/9, g.Width, g.Cardinality)
	}
	return resNet(s, x, classes, (g.Depth-2)/6, g.Width)
}

func relu(x *graph.Node) *graph.Node { return graph.MaxScalar(x, 0) }

// groupNorm normalises in eight groups: every channel count here is a multiple.
func groupNorm(s *nn.Scope, x *graph.Node) *graph.Node { return nn.GroupNorm(s, x, 8, 1e-5) }

// conv is a convolution without bias: a norm follows.
func conv(s *nn.Scope, x *graph.Node, out, kernel, stride int) *graph.Node {
	return nn.Conv2D(s, x, out, nn.Conv{Kernel: kernel, Stride: stride, Pad: [2]int{kernel / 2, kernel / 2}}, nn.ConvOptions{NoBias: true})
}

// head pools over positions and classifies.
func head(s *nn.Scope, x *graph.Node, classes int) *graph.Node {
	d := x.Shape().Dimensions
	flat := graph.Reshape(x, d[0], d[1]*d[2], d[3])
	mean := graph.MulScalar(graph.Reshape(s.Lowering().SumPositions(flat), d[0], d[3]), 1/float64(d[1]*d[2]))
	return nn.Dense(s.In("classifier"), mean, classes, nn.DenseOptions{})
}

// stageStride halves the maps at the start of all stages but the first.
func stageStride(stage, block int) int {
	if stage > 0 && block == 0 {
		return 2
	}
	return 1
}

// wideResNet is WRN-(6n+4)-k (Zagoruyko & Komodakis 2016,
// https://arxiv.org/abs/1605.07146): three stages of n blocks, norm and
// activation before each convolution.
func wideResNet(s *nn.Scope, x *graph.Node, classes, blocks, width int) *graph.Node {
	x = conv(s.In("stem"), x, 16, 3, 1)
	for stage := range 3 {
		out := (16 << stage) * width
		for block := range blocks {
			b, stride := s.In("stage%d.block%d", stage, block), stageStride(stage, block)
			y := relu(groupNorm(b.In("norm1"), x))
			if in := x.Shape().Dimensions[3]; in != out || stride != 1 {
				x = conv(b.In("shortcut"), y, out, 1, stride)
			}
			y = conv(b.In("conv1"), y, out, 3, stride)
			x = graph.Add(x, conv(b.In("conv2"), relu(groupNorm(b.In("norm2"), y)), out, 3, 1))
		}
	}
	return head(s, relu(groupNorm(s.In("norm"), x)), classes)
}

// resNet is ResNet-(6n+2) for small images (He et al. 2016, section 4.2,
// https://arxiv.org/abs/1512.03385), with basic blocks.
func resNet(s *nn.Scope, x *graph.Node, classes, blocks, width int) *graph.Node {
	x = relu(groupNorm(s.In("norm"), conv(s.In("stem"), x, 16, 3, 1)))
	for stage := range 3 {
		out := (16 << stage) * width
		for block := range blocks {
			b, stride := s.In("stage%d.block%d", stage, block), stageStride(stage, block)
			y := relu(groupNorm(b.In("norm1"), conv(b.In("conv1"), x, out, 3, stride)))
			y = groupNorm(b.In("norm2"), conv(b.In("conv2"), y, out, 3, 1))
			if in := x.Shape().Dimensions[3]; in != out || stride != 1 {
				x = groupNorm(b.In("norm3"), conv(b.In("shortcut"), x, out, 1, stride))
			}
			x = relu(graph.Add(x, y))
		}
	}
	return head(s, x, classes)
}

// resNeXt is ResNeXt-(9n+2) (Xie et al. 2017, https://arxiv.org/abs/1611.05431):
// bottlenecks whose middle convolution is cut into groups of 64 channels at the
// first stage, 128 and 256 after it.
func resNeXt(s *nn.Scope, x *graph.Node, classes, blocks, width, cardinality int) *graph.Node {
	x = relu(groupNorm(s.In("norm"), conv(s.In("stem"), x, 64, 3, 1)))
	for stage := range 3 {
		out, inner := (64<<stage)*width, (64<<stage)*cardinality
		if width == 1 { // The small one: narrow groups.
			inner = (16 << stage) * cardinality
		}
		for block := range blocks {
			b, stride := s.In("stage%d.block%d", stage, block), stageStride(stage, block)
			y := relu(groupNorm(b.In("norm1"), conv(b.In("reduce"), x, inner, 1, 1)))
			y = relu(groupNorm(b.In("norm2"), grouped(b.In("conv"), y, cardinality, stride)))
			y = groupNorm(b.In("norm3"), conv(b.In("expand"), y, out, 1, 1))
			if in := x.Shape().Dimensions[3]; in != out || stride != 1 {
				x = groupNorm(b.In("norm4"), conv(b.In("shortcut"), x, out, 1, stride))
			}
			x = relu(graph.Add(x, y))
		}
	}
	return head(s, x, classes)
}

// grouped is a 3×3 convolution of each group of channels by itself.
func grouped(s *nn.Scope, x *graph.Node, groups, stride int) *graph.Node {
	size := x.Shape().Dimensions[3] / groups
	parts := make([]*graph.Node, groups)
	for i := range parts {
		part := graph.SliceAxis(x, 3, graph.AxisRange(i*size, (i+1)*size))
		parts[i] = conv(s.In("group%d", i), part, size, 3, stride)
	}
	return graph.Concatenate(parts, 3)
}
