package dpsgd

import (
	"fmt"

	"github.com/scumble-dp/scumble/nn"
)

// LayerCost says how one layer's per-example gradients are clipped and what
// that costs beyond ordinary training, per example, counted from shapes: two
// floating-point operations per multiply-add, four bytes per value.
//
// Ordinary training already contracts inputs with output gradients, 2·rows·in·out
// for the weight. A ghost norm adds two Gram matrices of rows×rows, of pixels in
// place of windows where that is cheaper; an explicit
// gradient is that same contraction per example, then read for its norm and for
// the clipped sum.
type LayerCost struct {
	Path       string `json:"path"`
	Kind       string `json:"kind"`  // "dense", "convolution 3x3", "embedding", "norm" or "bias".
	Shape      []int  `json:"shape"` // Of the weight.
	Rows       int    `json:"rows"`  // Positions times draws of one example.
	In         int    `json:"in"`    // Width of a row: kernel²·channels for a convolution.
	Out        int    `json:"out"`
	Parameters int    `json:"parameters"` // Trainable ones.
	Rule       Rule   `json:"rule"`       // Of the weight, or of the bias where only that trains.

	GradientFlops float64 `json:"gradient_flops"` // Of the ordinary gradient by the parameters.
	GhostFlops    float64 `json:"ghost_flops"`    // Added by a ghost norm; 0 where there is no choice.
	GhostBytes    float64 `json:"ghost_bytes"`
	ExplicitFlops float64 `json:"explicit_flops"` // Added by explicit gradients.
	ExplicitBytes float64 `json:"explicit_bytes"`
}

// Added returns the operations and bytes that the layer's rule adds.
func (c *LayerCost) Added() (flops, bytes float64) {
	switch c.Rule {
	case OneRow:
		return 2 * float64(c.In+c.Out), 0
	case Ghost, PixelGram:
		return c.GhostFlops, c.GhostBytes
	}
	return c.ExplicitFlops, c.ExplicitBytes
}

// Costs returns the cost of each layer on a scope's tape, in the order of the
// model, for the given number of examples in the graph.
func Costs(s *nn.Scope, examples int) []LayerCost {
	kinds, sizes := map[string]nn.Kind{}, map[string]int{}
	for _, spec := range s.Specs() {
		kinds[spec.Name], sizes[spec.Name] = spec.Kind, spec.Size()
	}
	costs := make([]LayerCost, len(s.Tape()))
	for i, l := range s.Tape() {
		costs[i] = costOf(s.Lowering(), l, examples)
		costs[i].Parameters = sizes[l.Weight] + sizes[l.Bias]
		if kinds[l.Weight] == nn.KindTable && l.Weight != "" {
			costs[i].Kind = "embedding"
		}
	}
	return costs
}

func costOf(lowering nn.Lowering, l *nn.Layer, examples int) LayerCost {
	d := l.Output.Shape().Dimensions
	c := LayerCost{Path: l.Path, Shape: l.WeightShape, Rows: 1, In: 1, Out: d[len(d)-1]}
	for _, n := range d[:len(d)-1] {
		c.Rows *= n
	}
	c.Rows /= examples
	rows, out := float64(c.Rows), float64(c.Out)
	if l.Bias != "" {
		c.GradientFlops = rows * out
	}
	if l.Kind == nn.ScaleShift || l.Weight == "" { // One value per channel and parameter.
		c.Kind, c.Rule = "norm", Direct
		if l.Kind != nn.ScaleShift {
			c.Kind = "bias"
		}
		parameters := 0.0
		for _, name := range []string{l.Weight, l.Bias} {
			if name != "" {
				parameters++
			}
		}
		if l.Weight != "" {
			c.GradientFlops += 2 * rows * out
		}
		c.ExplicitFlops, c.ExplicitBytes = 4*parameters*out, 4*parameters*out
		return c
	}
	c.Kind = "dense"
	if len(l.WeightShape) == 4 {
		c.Kind = fmt.Sprintf("convolution %dx%d", l.WeightShape[0], l.WeightShape[1])
	}
	for _, n := range l.WeightShape[:len(l.WeightShape)-1] {
		c.In *= n
	}
	in := float64(c.In)
	shape := shapeOf(l, examples)
	c.Rule = ChooseRule(lowering, shape)
	if l.Kind == nn.Table { // Entries are picked, not multiplied.
		c.GradientFlops += rows * out
		c.GhostFlops, c.GhostBytes = 2*rows*rows*(out+1), 8*rows*rows
		c.ExplicitFlops, c.ExplicitBytes = 4*in*out, 4*in*out
		return c
	}
	c.GradientFlops += 2 * rows * in * out
	c.GhostFlops, c.GhostBytes = 2*rows*rows*(in+out+1), 8*rows*rows
	if c.Rule == PixelGram { // Of pixels, then one addition per shift of either axis.
		c.GhostFlops = rows * rows * float64(2*(shape.Pixel+shape.Out+1)+2*l.Conv.Kernel)
	}
	c.ExplicitFlops, c.ExplicitBytes = 4*in*out, 4*in*out
	return c
}
