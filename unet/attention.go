package unet

import (
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas

	"github.com/scumble-dp/scumble/nn"
)

// Epsilons that diffusers does not take from the configuration.
const (
	transformerGroupEps = 1e-6
	transformerLayerEps = 1e-5
)

// attend runs the attention module of a block, x itself if the block has none.
// x: [rows, height, width, channels].
func (n *network) attend(s *nn.Scope, x *Node, b block) *Node {
	if b.attention == nil {
		return x
	}
	y := s.Block(x, func(x *Node) *Node {
		if b.attention.spatial {
			return n.transformer(s, x, *b.attention)
		}
		return n.selfAttention(s, x, *b.attention, b.scale)
	})
	n.saw(s, y)
	return y
}

// selfAttention lets the positions of one row see each other; its last layer
// starts at zero.
func (n *network) selfAttention(s *nn.Scope, x *Node, a attention, scale float64) *Node {
	dims := x.Shape().Dimensions
	channels := dims[3]
	h := Reshape(x, dims[0], -1, channels)
	if a.groups > 0 {
		h = nn.GroupNorm(s.In("group_norm"), h, a.groups, n.NormEps)
	}
	q := nn.Dense(s.In("to_q"), h, channels, nn.DenseOptions{})
	k := nn.Dense(s.In("to_k"), h, channels, nn.DenseOptions{})
	v := nn.Dense(s.In("to_v"), h, channels, nn.DenseOptions{})
	h = nn.Attention(q, k, v, a.heads)
	h = nn.Dense(s.In("to_out.0"), h, channels, nn.DenseOptions{ZeroInit: true})
	return divide(Add(x, Reshape(h, dims...)), scale)
}

// transformer runs layers of self-attention, attention to the context and a
// gated network; its last layer starts at zero (Rombach et al. 2022, section 3.3).
func (n *network) transformer(s *nn.Scope, x *Node, a attention) *Node {
	dims := x.Shape().Dimensions
	channels := dims[3]
	h := nn.GroupNorm(s.In("norm"), x, n.NormNumGroups, transformerGroupEps)
	if n.UseLinearProjection {
		h = nn.Dense(s.In("proj_in"), h, channels, nn.DenseOptions{})
	} else {
		h = nn.Conv2D(s.In("proj_in"), h, channels, nn.Same(1), nn.ConvOptions{})
	}
	h = Reshape(h, dims[0], -1, channels)
	for i := range a.depth {
		h = n.transformerLayer(s.In("transformer_blocks.%d", i), h, a)
	}
	h = Reshape(h, dims...)
	if n.UseLinearProjection {
		h = nn.Dense(s.In("proj_out"), h, channels, nn.DenseOptions{ZeroInit: true})
	} else {
		h = nn.Conv2D(s.In("proj_out"), h, channels, nn.Same(1), nn.ConvOptions{ZeroInit: true})
	}
	return Add(x, h)
}

// transformerLayer: x [rows, positions, channels].
func (n *network) transformerLayer(s *nn.Scope, x *Node, a attention) *Node {
	h := nn.LayerNorm(s.In("norm1"), x, transformerLayerEps)
	sees := h
	if a.crossOnly {
		sees = n.context
	}
	x = Add(x, n.attention(s.In("attn1"), h, sees, a.heads))
	if a.context > 0 {
		h = nn.LayerNorm(s.In("norm2"), x, transformerLayerEps)
		x = Add(x, n.attention(s.In("attn2"), h, n.context, a.heads))
	}
	h = nn.LayerNorm(s.In("norm3"), x, transformerLayerEps)
	return Add(x, n.gated(s.In("ff"), h))
}

// attention lets x [rows, positions, channels] see the tokens of sees
// [rows, tokens, width].
func (n *network) attention(s *nn.Scope, x, sees *Node, heads int) *Node {
	channels := x.Shape().Dimensions[2]
	q := nn.Dense(s.In("to_q"), x, channels, nn.DenseOptions{NoBias: true})
	k := nn.Dense(s.In("to_k"), sees, channels, nn.DenseOptions{NoBias: true})
	v := nn.Dense(s.In("to_v"), sees, channels, nn.DenseOptions{NoBias: true})
	y := nn.Dense(s.In("to_out.0"), nn.Attention(q, k, v, heads), channels, nn.DenseOptions{})
	n.saw(s, y)
	return y
}

// gated is the position-wise network value ∘ GELU(gate), four times as wide as x
// inside (Shazeer 2020, https://arxiv.org/abs/2002.05202); one product makes both
// halves.
func (n *network) gated(s *nn.Scope, x *Node) *Node {
	channels := x.Shape().Dimensions[2]
	wide := 4 * channels
	h := nn.Dense(s.In("net.0.proj"), x, 2*wide, nn.DenseOptions{})
	h = Mul(lastAxis(h, 0, wide), nn.GELU(lastAxis(h, wide, 2*wide)))
	y := nn.Dense(s.In("net.2"), h, channels, nn.DenseOptions{})
	n.saw(s, y)
	return y
}
