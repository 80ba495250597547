package finetune

import (
	"fmt"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

// Layers returns how the clipping engine will treat each trainable layer of a
// plan, and what that costs per example. It builds the loss of one example with
// its draws as a graph that is not run, and reads no image. It is an error if a
// trainable parameter has no per-example gradient rule.
func (t *target) Layers(backend compute.Backend, lowering nn.Lowering, plan *Plan) (costs []dpsgd.LayerCost, err error) {
	defer func() { // Graphs panic on bad shapes.
		if r := recover(); r != nil {
			err = fmt.Errorf("build the layers: %v", r)
		}
	}()
	canvas, err := pipeline.NewCanvas(t.model, plan.Size, plan.Channels)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	schedule, err := diffusion.NewSchedule(t.model.Scheduler)
	if err != nil {
		return nil, err
	}
	g := graph.NewGraph(backend, "layers")
	defer g.Finalize()
	s := nn.NewScope(g, nn.Options{Lowering: lowering, Adapter: t.adapter,
		Param: func(g *graph.Graph, spec nn.Spec) *graph.Node {
			return graph.Parameter(g, spec.Name, shapes.Make(dtypes.Float32, spec.Shape...))
		},
		Trainable: func(name string) bool { return slices.Contains(t.trainable, name) },
	})
	input := func(name string, dtype dtypes.DType, dims ...int) *graph.Node {
		return graph.Parameter(g, "input:"+name, shapes.Make(dtype, dims...))
	}
	grid, draws := []int{canvas.Grid, canvas.Grid, canvas.Depth}, plan.Multiplicity
	var told *graph.Node
	switch m := t.model; {
	case m.TextEncoder == nil:
		told = input("class", dtypes.Int32, draws)
	case t.trainsText():
		told = input("text", dtypes.Int32, draws, m.TextLength())
	default:
		told = input("text", dtypes.Float32, draws, m.TextLength(), m.TextEncoder.Width)
	}
	pipeline.ExampleLoss(t.model, schedule, s, pipeline.LossInputs{
		Clean: input("clean", dtypes.Float32, append([]int{1}, grid...)...), Noise: input("noise", dtypes.Float32, append([]int{draws}, grid...)...),
		T: input("t", dtypes.Int32, draws), Class: told,
	})
	if err := nn.CheckCovered(s.Tape(), t.trainable); err != nil {
		return nil, err
	}
	return dpsgd.Costs(s, 1), nil
}
