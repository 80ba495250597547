package textencoder

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas

	"github.com/scumble-dp/scumble/nn"
)

// Output of a text encoder.
type Output struct {
	Last   *Node   // [rows, tokens, Width], after the last norm: the context of a UNet.
	Hidden []*Node // Input of the first block, then the output of each; without the last norm.
}

// Forward encodes tokens [rows, tokens] int32, each in [0, Vocabulary), with at
// most Positions of them. It panics if the configuration is not valid or the
// tokens do not fit it.
func (c *Config) Forward(s *nn.Scope, tokens *Node) Output {
	if err := c.Validate(); err != nil {
		panic(err)
	}
	tokens.AssertRank(2)
	if n := tokens.Shape().Dimensions[1]; n > c.Positions {
		panic(fmt.Errorf("textencoder: %d tokens, want at most %d", n, c.Positions))
	}
	n := c.names()
	x := nn.Lookup(s.In("%s", n.tokens), tokens, c.Vocabulary, c.Width)
	x = nn.Positions(s.In("%s", n.positions), x, c.Positions)
	out := Output{Hidden: []*Node{x}}
	for i := range c.Layers {
		layer := s.In("%s.%d", n.layers, i)
		x = layer.Block(x, func(x *Node) *Node { return c.block(layer, x, n) })
		out.Hidden = append(out.Hidden, x)
	}
	out.Last = nn.LayerNorm(s.In("%s", n.last), x, c.Epsilon)
	return out
}

// names of the parts of a class.
type names struct{ tokens, positions, layers, last, before, between, network string }

func (c *Config) names() names {
	if c.Class == LDMBert {
		return names{"model.embed_tokens", "model.embed_positions", "model.layers", "model.layer_norm", "self_attn_layer_norm", "final_layer_norm", ""}
	}
	return names{"embeddings.token_embedding", "embeddings.position_embedding", "encoder.layers", "final_layer_norm", "layer_norm1", "layer_norm2", "mlp"}
}

// block is attention, then a network of two layers, each beside the identity and
// behind a norm. x: [rows, tokens, Width].
func (c *Config) block(s *nn.Scope, x *Node, n names) *Node {
	h := nn.LayerNorm(s.In("%s", n.before), x, c.Epsilon)
	x = Add(x, c.attention(s.In("self_attn"), h))
	h = nn.LayerNorm(s.In("%s", n.between), x, c.Epsilon)
	inside := s
	if n.network != "" {
		inside = s.In("%s", n.network)
	}
	h = c.activate(nn.Dense(inside.In("fc1"), h, c.Hidden, nn.DenseOptions{}))
	return Add(x, nn.Dense(inside.In("fc2"), h, c.Width, nn.DenseOptions{}))
}

func (c *Config) attention(s *nn.Scope, x *Node) *Node {
	options := nn.DenseOptions{NoBias: c.Class == LDMBert}
	width := c.Heads * c.HeadWidth
	q := nn.Dense(s.In("q_proj"), x, width, options)
	k := nn.Dense(s.In("k_proj"), x, width, options)
	v := nn.Dense(s.In("v_proj"), x, width, options)
	attend := nn.Attention
	if c.Class == CLIP {
		attend = nn.CausalAttention
	}
	return nn.Dense(s.In("out_proj"), attend(q, k, v, c.Heads), c.Width, nn.DenseOptions{})
}

func (c *Config) activate(x *Node) *Node {
	if c.Activation == QuickGELU {
		return nn.QuickGELU(x)
	}
	return nn.GELU(x)
}

// Pool returns CLIP's vector of the whole text, [rows, Width]: last at the first
// end of text, or at the largest token where EndToken is 2.
//
//   - last: [rows, tokens, Width], of Output.
//   - tokens: [rows, tokens] int32.
func (c *Config) Pool(last, tokens *Node) *Node {
	at := tokens
	if c.EndToken != 2 {
		at = ConvertDType(Equal(tokens, Scalar(tokens.Graph(), dtypes.Int32, c.EndToken)), dtypes.Int32)
	}
	d := last.Shape().Dimensions
	pick := OneHot(ArgMax(at, -1, dtypes.Int32), d[1], dtypes.Float32)
	return Reshape(Einsum("bt,btc->bc", pick, last), d[0], d[2])
}

// Specs returns the parameters in the order of the data. LDMBert's list ends with
// the layer to_logits, which its files have and Forward does not use.
func (c *Config) Specs(backend compute.Backend) ([]nn.Spec, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	specs, err := nn.Collect(backend, nn.Options{}, func(s *nn.Scope) {
		c.Forward(s, Zeros(s.Graph(), shapes.Make(dtypes.Int32, 1, 1)))
	})
	if err != nil {
		return nil, fmt.Errorf("text encoder: %w", err)
	}
	if c.Class == LDMBert {
		specs = append(specs,
			nn.Spec{Name: "to_logits.weight", Kind: nn.KindDense, Shape: []int{c.Width, c.Vocabulary}, Init: nn.InitFanIn},
			nn.Spec{Name: "to_logits.bias", Kind: nn.KindVector, Shape: []int{c.Vocabulary}})
	}
	return specs, nil
}

// Unused reports whether Forward leaves the named parameter out.
func Unused(name string) bool {
	return name == "to_logits.weight" || name == "to_logits.bias"
}
