package pipeline

import (
	"fmt"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/unet"
)

// Denoise runs the UNet with its conditioning: a text, as the context that the
// text encoder makes of it; a class, as one context token for models with a class
// embedder, else through the UNet's own class table.
//
//   - x: [rows, height, width, channels], noisy.
//   - t: [rows] timesteps, int32, or float32 where they are not whole.
//   - class: [rows] int32 labels; len(Classes) is the null class. Of a model
//     with a text encoder, what Context takes.
func Denoise(m *checkpoint.Model, s *nn.Scope, x, t, class *Node) *Node {
	in := unet.Inputs{Sample: x, Timesteps: t}
	if m.TextEncoder != nil {
		in.Context = Context(m, s, class)
	} else if e := m.ClassEmbedder; e != nil {
		token := nn.Embed(s.In("class_embedder"), class, e.Entries, e.Channels)
		in.Context = Reshape(token, token.Shape().Dimensions[0], 1, e.Channels)
	} else {
		in.Classes = class
	}
	return m.UNet.Forward(s.In("unet"), in)
}

// LossInputs are the inputs of ExampleLoss, K draws per example. Rows are
// example-major: row = example·K + draw.
type LossInputs struct {
	Clean *Node // [examples, height, width, channels]: x_0.
	Noise *Node // [rows, height, width, channels]: standard normal.
	T     *Node // [rows] int32.
	Class *Node // [rows] int32, or what Context takes.
}

// NewLossInputs names the inputs of a program in the order above.
func NewLossInputs(inputs []*Node) LossInputs {
	if len(inputs) != 4 {
		panic(fmt.Errorf("pipeline: loss has %d inputs, want 4", len(inputs)))
	}
	return LossInputs{inputs[0], inputs[1], inputs[2], inputs[3]}
}

// ExampleLoss returns the loss of each example, [examples]: the squared error
// of the network's output against its target, averaged over pixels, channels
// and the K draws, which are not repeated in host memory.
func ExampleLoss(m *checkpoint.Model, schedule *diffusion.Schedule, s *nn.Scope, in LossInputs) *Node {
	draws := in.Noise.Shape().Dimensions[0] / in.Clean.Shape().Dimensions[0]
	clean := diffusion.Repeat(in.Clean, draws)
	signal, noise := schedule.Rates(in.T)
	noisy := diffusion.AddNoise(clean, in.Noise, signal, noise)
	target := m.Scheduler.Prediction.Target(clean, in.Noise, signal, noise)
	return diffusion.LossPerExample(Denoise(m, s, noisy, in.T, in.Class), StopGradient(target), draws)
}

// UNetInputs sorts graph inputs into those of a UNet: sample, timesteps, then
// classes and context where the network takes them.
func UNetInputs(c *unet.Config, nodes []*Node) unet.Inputs {
	in := unet.Inputs{Sample: nodes[0], Timesteps: nodes[1]}
	nodes = nodes[2:]
	if c.NumClassEmbeds > 0 {
		in.Classes, nodes = nodes[0], nodes[1:]
	}
	if c.ContextWidth() > 0 {
		in.Context = nodes[0]
	}
	return in
}
