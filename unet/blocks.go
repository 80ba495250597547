package unet

import (
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas

	"github.com/scumble-dp/scumble/nn"
)

// down runs an input block and returns its output and what it leaves for the
// output blocks.
func (n *network) down(s *nn.Scope, x *Node, b block) (y *Node, skips []*Node) {
	for j, r := range b.resnets {
		x = n.resnet(s.In("resnets.%d", j), x, r, b.scale)
		x = n.attend(s.In("attentions.%d", j), x, b)
		skips = append(skips, x)
	}
	if b.resize {
		pad := [2]int{1, 1}
		if n.DownsamplePadding == 0 {
			pad = [2]int{0, 1}
		}
		d := s.In("downsamplers.0")
		x = nn.Conv2D(d.In("conv"), x, x.Shape().Dimensions[3], nn.Conv{Kernel: 3, Stride: 2, Pad: pad}, nn.ConvOptions{})
		n.saw(d, x)
		skips = append(skips, x)
	}
	n.saw(s, x)
	return x, skips
}

// middle runs the block between input and output blocks.
func (n *network) middle(s *nn.Scope, x *Node, b block) *Node {
	for j, r := range b.resnets {
		if j > 0 {
			x = n.attend(s.In("attentions.%d", j-1), x, b)
		}
		x = n.resnet(s.In("resnets.%d", j), x, r, b.scale)
	}
	n.saw(s, x)
	return x
}

// up runs an output block, each resnet of which takes the last of skips. rest is
// what later blocks will take: it gives the size to upsample to.
func (n *network) up(s *nn.Scope, x *Node, b block, rest, skips []*Node) *Node {
	for j, r := range b.resnets {
		x = Concatenate([]*Node{x, skips[len(skips)-1-j]}, -1)
		x = n.resnet(s.In("resnets.%d", j), x, r, b.scale)
		x = n.attend(s.In("attentions.%d", j), x, b)
	}
	if b.resize {
		u := s.In("upsamplers.0")
		size := rest[len(rest)-1].Shape().Dimensions
		x = upsample(x, size[1], size[2])
		x = nn.Conv2D(u.In("conv"), x, x.Shape().Dimensions[3], nn.Same(3), nn.ConvOptions{})
		n.saw(u, x)
	}
	n.saw(s, x)
	return x
}

// upsample returns x at the given size by nearest neighbours: pixel i of n comes
// from pixel floor(i·m/n) of m.
func upsample(x *Node, height, width int) *Node {
	d := x.Shape().Dimensions
	if height == 2*d[1] && width == 2*d[2] {
		return nn.Upsample2(x)
	}
	// A product with a 0-1 matrix per axis: its gradient needs no scatter.
	x = Einsum("nm,bmwc->bnwc", nearest(x.Graph(), height, d[1]), x)
	return Einsum("nm,bhmc->bhnc", nearest(x.Graph(), width, d[2]), x)
}

// nearest returns the [n, m] matrix that picks floor(i·m/n) for i < n.
func nearest(g *Graph, n, m int) *Node {
	pick := make([][]float32, n)
	for i := range pick {
		pick[i] = make([]float32, m)
		pick[i][i*m/n] = 1
	}
	return Const(g, pick)
}

// resnet is a residual block of two convolutions that the embedding steers
// between them; the last starts at zero. x: [rows, height, width, channels].
func (n *network) resnet(s *nn.Scope, x *Node, r resnet, scale float64) *Node {
	y := s.Block(x, func(x *Node) *Node { return n.residual(s, x, r, scale) })
	n.saw(s, y)
	return y
}

func (n *network) residual(s *nn.Scope, x *Node, r resnet, scale float64) *Node {
	rows := x.Shape().Dimensions[0]
	h := nn.SiLU(nn.GroupNorm(s.In("norm1"), x, n.NormNumGroups, n.NormEps))
	h = nn.Conv2D(s.In("conv1"), h, r.out, nn.Same(3), nn.ConvOptions{})
	if n.ResnetTimeScaleShift == "scale_shift" {
		steer := nn.Dense(s.In("time_emb_proj"), n.emb, 2*r.out, nn.DenseOptions{})
		steer = Reshape(steer, rows, 1, 1, 2*r.out)
		h = nn.GroupNorm(s.In("norm2"), h, n.NormNumGroups, n.NormEps)
		h = Add(Mul(h, OnePlus(lastAxis(steer, 0, r.out))), lastAxis(steer, r.out, 2*r.out))
	} else {
		steer := nn.Dense(s.In("time_emb_proj"), n.emb, r.out, nn.DenseOptions{})
		h = Add(h, Reshape(steer, rows, 1, 1, r.out))
		h = nn.GroupNorm(s.In("norm2"), h, n.NormNumGroups, n.NormEps)
	}
	h = nn.Conv2D(s.In("conv2"), nn.SiLU(h), r.out, nn.Same(3), nn.ConvOptions{ZeroInit: true})
	if r.in != r.out {
		x = nn.Conv2D(s.In("conv_shortcut"), x, r.out, nn.Same(1), nn.ConvOptions{})
	}
	return divide(Add(x, h), scale)
}

// lastAxis returns channels from to (exclusive) of x.
func lastAxis(x *Node, from, to int) *Node {
	return Slice(x, AxisRange().Spacer(), AxisRange(from, to))
}

// divide returns x/by, adding no node for by = 1.
func divide(x *Node, by float64) *Node {
	if by == 1 {
		return x
	}
	return MulScalar(x, 1/by)
}
