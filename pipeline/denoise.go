package pipeline

import (
	"fmt"
	"math"

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

	// Draws is K where Clean has a row for each draw, [rows, height, width,
	// channels]: images that differ from draw to draw. Zero: Clean has a row for
	// each example, as above.
	Draws int
	// Weights are of each timestep's squared error, at least 0: public, one for each
	// timestep of the schedule. Nil means 1.
	Weights []float64
}

// NewLossInputs names the inputs of a program in the order above.
func NewLossInputs(inputs []*Node) LossInputs {
	if len(inputs) != 4 {
		panic(fmt.Errorf("pipeline: loss has %d inputs, want 4", len(inputs)))
	}
	return LossInputs{Clean: inputs[0], Noise: inputs[1], T: inputs[2], Class: inputs[3]}
}

// ExampleLoss returns the loss of each example, [examples]: the squared error
// of the network's output against its target, times the timestep's weight, averaged
// over pixels, channels and the K draws, which are not repeated in host memory.
func ExampleLoss(m *checkpoint.Model, schedule *diffusion.Schedule, s *nn.Scope, in LossInputs) *Node {
	clean, draws := in.Clean, in.Draws
	if draws == 0 {
		draws = in.Noise.Shape().Dimensions[0] / in.Clean.Shape().Dimensions[0]
		clean = diffusion.Repeat(in.Clean, draws)
	}
	signal, noise := schedule.Rates(in.T)
	noisy := diffusion.AddNoise(clean, in.Noise, signal, noise)
	target := StopGradient(m.Scheduler.Prediction.Target(clean, in.Noise, signal, noise))
	output := Denoise(m, s, noisy, in.T, in.Class)
	if in.Weights != nil { // w·(o-x)² = (√w·o - √w·x)².
		root := rootWeights(in, schedule)
		output, target = Mul(root, output), Mul(root, target)
	}
	return diffusion.LossPerExample(output, target, draws)
}

// rootWeights returns the square root of each row's weight, [rows, 1, 1, 1].
func rootWeights(in LossInputs, schedule *diffusion.Schedule) *Node {
	if len(in.Weights) != schedule.Steps() {
		panic(fmt.Errorf("pipeline: loss has %d weights, want one for each of %d timesteps", len(in.Weights), schedule.Steps()))
	}
	table := make([][]float32, len(in.Weights))
	for t, w := range in.Weights {
		table[t] = []float32{float32(math.Sqrt(w))}
	}
	return Reshape(Gather(Const(in.T.Graph(), table), ExpandAxes(in.T, -1)), -1, 1, 1, 1)
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
