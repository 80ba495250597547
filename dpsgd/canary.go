package dpsgd

import (
	"fmt"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/nn"
)

// Canaries are examples of which an audit knows the gradient: canary i has norm
// Norm along a coordinate of its own, so that canaries are orthogonal to one
// another and to every real example. They are examples of the engine like any
// other: fetched, clipped by the rules of its layers, masked, summed and noised.
//
// Their coordinates are those of two tables that no real example uses. One
// stands before all trainable tensors and one after, so that noise that forgets
// either end of the vector shows.
type Canaries struct {
	Count int     // At least 2.
	Norm  float64 // L2 norm of a canary's gradient, before the clip.
}

const (
	firstTable = "audit_first"
	lastTable  = "audit_last"
)

// Extend returns the options of an engine that takes canaries beside the examples
// of o. Its physical batches have one more input, which Fetch adds.
func (c Canaries) Extend(o EngineOptions) (EngineOptions, error) {
	if c.Count < 2 || !(c.Norm > 0) {
		return o, fmt.Errorf("%d canaries of norm %g, want at least 2 of a positive norm", c.Count, c.Norm)
	}
	weights := nn.NewWeights()
	for _, t := range o.Weights.All() {
		weights.Add(t)
	}
	for _, name := range []string{firstTable, lastTable} {
		rows := c.rows(name)
		weights.Add(&nn.Tensor{Name: name + ".weight", Kind: nn.KindTable, Shape: []int{rows, 1}, Data: make([]float32, rows)})
	}
	o.Weights = weights
	o.Trainable = slices.Concat([]string{firstTable + ".weight"}, o.Trainable, []string{lastTable + ".weight"})
	loss := o.Loss
	o.Loss = func(s *nn.Scope, inputs []*graph.Node) *graph.Node {
		canary := inputs[len(inputs)-1]
		real := loss(s, inputs[:len(inputs)-1])
		isReal := graph.ConvertDType(graph.LessThan(canary, graph.ZerosLike(canary)), dtypes.Float32)
		return graph.Add(graph.Mul(real, isReal), graph.MulScalar(c.loss(s, canary), c.Norm))
	}
	return o, nil
}

// half is the number of canaries in the first table.
func (c Canaries) half() int { return (c.Count + 1) / 2 }

// rows of a table: its canaries, and one that none uses.
func (c Canaries) rows(name string) int {
	if name == firstTable {
		return c.half() + 1
	}
	return c.Count - c.half() + 1
}

// loss returns the coordinate of each canary, 0 for real examples: its gradient is
// 1 at the canary's own coordinate.
//
//   - canary: [examples] int32, negative for real examples.
func (c Canaries) loss(s *nn.Scope, canary *graph.Node) *graph.Node {
	var total *graph.Node
	for _, name := range []string{firstTable, lastTable} {
		from, rows := 0, c.rows(name)
		if name == lastTable {
			from = c.half()
		}
		at := graph.AddScalar(canary, float64(-from))
		none := graph.AddScalar(graph.ZerosLike(at), float64(rows-1))
		inside := graph.LogicalAnd(graph.GreaterOrEqual(at, graph.ZerosLike(at)), graph.LessThan(at, none))
		value := nn.Embed(s.In("%s", name), graph.Where(inside, at, none), rows, 1)
		value = graph.Mul(graph.Reshape(value, -1), graph.ConvertDType(inside, dtypes.Float32))
		if total == nil {
			total = value
		} else {
			total = graph.Add(total, value)
		}
	}
	return total
}

// Fetch returns the fetch function of a batch with canaries. canary says which
// canary a position is, or a negative number for a real example, which fetch is
// asked for. Real examples come first in a physical batch.
func (c Canaries) Fetch(fetch Fetch, canary func(position int) int) Fetch {
	return func(positions []int, size int) ([]*tensors.Tensor, error) {
		var real []int
		which := make([]int32, 0, size)
		for _, p := range positions {
			if k := canary(p); k >= 0 {
				which = append(which, int32(k))
			} else {
				real = append(real, p)
			}
		}
		inputs, err := fetch(real, size)
		if err != nil {
			return nil, err
		}
		all := make([]int32, size)
		for i := range all {
			all[i] = -1
		}
		copy(all[len(real):], which)
		return append(inputs, tensors.FromFlatDataAndDimensions(all, size)), nil
	}
}

// Coordinates returns the canaries' coordinates of a vector of the extended
// engine, in their order.
func (c Canaries) Coordinates(vector []float64) []float64 {
	last := len(vector) - c.rows(lastTable)
	return slices.Concat(vector[:c.half()], vector[last:last+c.Count-c.half()])
}
