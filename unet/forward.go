package unet

import (
	"fmt"
	"math"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas

	"github.com/scumble-dp/scumble/nn"
)

// Inputs of a UNet. Rows are as in package nn.
type Inputs struct {
	Sample    *Node // [rows, height, width, InChannels]; any height and width.
	Timesteps *Node // [rows] int32, or float32 where noise levels are not whole steps.
	Classes   *Node // [rows] int32 in [0, NumClassEmbeds); nil without class table.
	Context   *Node // [rows, tokens, CrossAttentionDim]; nil without cross attention.
}

// network is the state of one graph build.
type network struct {
	*Config
	emb     *Node // SiLU of the embedding of time and class: [rows, channels].
	context *Node

	// watch, if not nil, is told what each module returns.
	watch func(path string, y *Node)
}

// Forward returns the network's prediction, [rows, height, width, OutChannels].
// s is the scope whose parameters carry diffusers' names. It panics if the
// configuration is not valid or the inputs do not fit it.
func (c *Config) Forward(s *nn.Scope, in Inputs) *Node { return c.forward(s, in, nil) }

func (c *Config) forward(s *nn.Scope, in Inputs, watch func(string, *Node)) *Node {
	if err := c.Validate(); err != nil {
		panic(fmt.Errorf("unet: %w", err))
	}
	c.checkInputs(in)
	n := &network{Config: c, context: in.Context, watch: watch}
	n.emb = nn.SiLU(n.embedding(s, in))

	x := in.Sample
	if c.CenterInputSample {
		x = AddScalar(MulScalar(x, 2), -1)
	}
	x = nn.Conv2D(s.In("conv_in"), x, c.BlockOutChannels[0], nn.Same(c.kernelIn()), nn.ConvOptions{})
	n.saw(s.In("conv_in"), x)

	down, mid, up := c.plan()
	skips := []*Node{x}
	for _, b := range down {
		var met []*Node
		x, met = n.down(s.In("%s", b.path), x, b)
		skips = append(skips, met...)
	}
	if mid != nil {
		x = n.middle(s.In("%s", mid.path), x, *mid)
	}
	for _, b := range up {
		k := len(skips) - len(b.resnets)
		x = n.up(s.In("%s", b.path), x, b, skips[:k], skips[k:])
		skips = skips[:k]
	}

	x = nn.GroupNorm(s.In("conv_norm_out"), x, c.NormNumGroups, c.NormEps)
	n.saw(s.In("conv_norm_out"), x)
	return nn.Conv2D(s.In("conv_out"), nn.SiLU(x), c.OutChannels, nn.Same(c.kernelOut()), nn.ConvOptions{ZeroInit: true})
}

// saw tells the watcher what the module at s returned.
func (n *network) saw(s *nn.Scope, y *Node) {
	if n.watch != nil {
		n.watch(s.Path(), y)
	}
}

// embedding returns the embedding of timesteps, plus that of classes:
// [rows, TimeEmbeddingDim].
func (n *network) embedding(s *nn.Scope, in Inputs) *Node {
	channels := n.TimeEmbeddingDim
	if channels == 0 {
		channels = 4 * n.BlockOutChannels[0]
	}
	t := s.In("time_embedding")
	emb := Sinusoid(in.Timesteps, n.BlockOutChannels[0], n.FlipSinToCos, n.FreqShift)
	emb = nn.Dense(t.In("linear_1"), emb, channels, nn.DenseOptions{})
	emb = nn.Dense(t.In("linear_2"), nn.SiLU(emb), channels, nn.DenseOptions{})
	n.saw(t, emb)
	if n.NumClassEmbeds > 0 {
		classes := s.In("class_embedding")
		y := nn.Embed(classes, in.Classes, n.NumClassEmbeds, channels)
		n.saw(classes, y)
		emb = Add(emb, y)
	}
	return emb
}

// Sinusoid returns sines and cosines of t at frequencies 10000^(-i/(half-shift)),
// i < half = channels/2 (Vaswani et al. 2017, section 3.5,
// https://arxiv.org/abs/1706.03762): [rows, channels] float32.
//
// t: [rows]. cosFirst puts the cosines before the sines. Angles are in float32,
// rounded where diffusers rounds them: at t near 1000 this shows.
func Sinusoid(t *Node, channels int, cosFirst bool, shift int) *Node {
	half := channels / 2
	frequencies := make([]float32, half)
	for i := range frequencies {
		exponent := float32(-math.Log(10000)) * float32(i) / float32(half-shift)
		frequencies[i] = float32(math.Exp(float64(exponent)))
	}
	t = Reshape(ConvertDType(t, dtypes.Float32), -1, 1)
	angles := Mul(t, Const(t.Graph(), [][]float32{frequencies}))
	first, second := Sin(angles), Cos(angles)
	if cosFirst {
		first, second = second, first
	}
	return Concatenate([]*Node{first, second}, -1)
}

// Specs returns the parameters in the order of the data.
func (c *Config) Specs(backend compute.Backend) ([]nn.Spec, error) {
	return c.SpecsWith(backend, nil)
}

// SpecsWith is Specs with an adapter beside the layers, nil for none: each
// branch's parameters follow those of its layer.
func (c *Config) SpecsWith(backend compute.Backend, adapter nn.Adapter) ([]nn.Spec, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("unet: %w", err)
	}
	return nn.Collect(backend, nn.Options{Adapter: adapter}, func(s *nn.Scope) {
		g := s.Graph()
		size := 1 << (len(c.BlockOutChannels) - 1) // No parameter depends on it.
		input := func(name string, dtype dtypes.DType, dims ...int) *Node {
			return Parameter(g, "input:"+name, shapes.Make(dtype, dims...))
		}
		in := Inputs{
			Sample:    input("sample", dtypes.Float32, 1, size, size, c.InChannels),
			Timesteps: input("timesteps", dtypes.Int32, 1),
		}
		if c.NumClassEmbeds > 0 {
			in.Classes = input("classes", dtypes.Int32, 1)
		}
		if width := c.contextWidth(); width > 0 {
			in.Context = input("context", dtypes.Float32, 1, 1, width)
		}
		c.Forward(s, in)
	})
}

// checkInputs panics unless the inputs fit the configuration.
func (c *Config) checkInputs(in Inputs) {
	in.Sample.AssertRank(4)
	rows := in.Sample.Shape().Dimensions[0]
	in.Sample.AssertDims(rows, -1, -1, c.InChannels)
	in.Timesteps.AssertDims(rows)
	if (in.Classes != nil) != (c.NumClassEmbeds > 0) {
		panic(fmt.Errorf("unet: classes given: %t, but \"num_class_embeds\" is %d", in.Classes != nil, c.NumClassEmbeds))
	}
	if in.Classes != nil {
		in.Classes.AssertDims(rows)
	}
	width := c.contextWidth()
	if (in.Context != nil) != (width > 0) {
		panic(fmt.Errorf("unet: context given: %t, but the width of the network's context is %d", in.Context != nil, width))
	}
	if in.Context != nil {
		in.Context.AssertRank(3)
		in.Context.AssertDims(rows, -1, width)
	}
}

// ContextWidth returns the channels of the context that the network takes, 0 if
// no block attends to one.
func (c *Config) ContextWidth() int { return c.contextWidth() }

// contextWidth returns the width of the context, 0 if no block attends to one.
func (c *Config) contextWidth() int {
	for _, b := range c.blocks() {
		if b.attention != nil && b.attention.context > 0 {
			return b.attention.context
		}
	}
	return 0
}

func (c *Config) kernelIn() int {
	if c.Class == Conditional {
		return c.ConvInKernel
	}
	return 3
}

func (c *Config) kernelOut() int {
	if c.Class == Conditional {
		return c.ConvOutKernel
	}
	return 3
}
