package dpsgd

import (
	"fmt"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/nn"
)

// Footprint estimates what one call of an engine holds on the device at its peak,
// in bytes, beside the weights: activations, the gradients that must wait for the
// clip factors, and the sums. It builds the graph of a call, compiles and runs
// nothing, and walks it in order: products, convolutions, sums, and what they
// read are arrays; element-wise work is done where it is used, and keeps alive
// what it reads. A compiler that fuses less needs more, one that reorders may
// need less.
//
//   - inputs returns the loss's inputs of a physical batch, as graph parameters.
func Footprint(backend compute.Backend, o EngineOptions, size int, inputs func(g *graph.Graph, examples int) []*graph.Node) (bytes int64, err error) {
	defer func() { // Graphs panic on bad shapes.
		if r := recover(); r != nil {
			err = fmt.Errorf("build the step: %v", r)
		}
	}()
	if err := o.validate(); err != nil {
		return 0, err
	}
	g := graph.NewGraph(backend, "footprint")
	defer g.Finalize()
	nodes := map[string]*graph.Node{}
	options := o.NN
	options.Param = func(g *graph.Graph, spec nn.Spec) *graph.Node {
		node := graph.Parameter(g, spec.Name, shapes.Make(dtypes.Float32, spec.Shape...))
		nodes[spec.Name] = node
		return node
	}
	trains := map[string]bool{}
	for _, name := range o.Trainable {
		trains[name] = true
	}
	options.Trainable = func(name string) bool { return trains[name] }
	s := nn.NewScope(g, options)
	losses := o.Loss(s, inputs(g, size))
	mask := graph.Parameter(g, "input:mask", shapes.Make(dtypes.Float32, size))
	if err := nn.CheckCovered(s.Tape(), o.Trainable); err != nil {
		return 0, err
	}
	var outputs []*graph.Node
	if o.Method == PerExampleLoop {
		trainable := make([]*graph.Node, len(o.Trainable))
		for i, name := range o.Trainable {
			trainable[i] = nodes[name]
		}
		before := make([]*graph.Node, len(trainable)) // Arrays that are there from the first node on.
		for i, node := range trainable {
			before[i] = graph.Parameter(g, "before:"+o.Trainable[i], node.Shape())
			bytes += int64(node.Shape().ByteSize())
		}
		keep := graph.Parameter(g, "input:keep", shapes.Make(dtypes.Bool))
		outputs = oneExample(s, trainable, before, keep, losses, mask, o.ClippingNorm, noMistake)
	} else {
		outputs = bookKeeping(s, o.Trainable, losses, mask, o.ClippingNorm, o.rule, noMistake)
	}
	return bytes + peak(g.Nodes(), outputs), nil
}

// OnProcessor is what XLA takes on a processor, relative to a Footprint: a call of a
// model of 870 million parameters rose by 4.3 GB where 1.4 are counted, for copies
// of weights in the order that its products like.
const OnProcessor = 3

// kind of a node for peak.
type kind int

const (
	isFused  kind = iota // Done where it is used.
	isView               // The same values in another shape.
	isArray              // Computed by an operation that has a result of its own.
	isReader             // The same, and its inputs must be arrays.
	isGiven              // Parameters and constants.
)

var kinds = map[graph.NodeType]kind{
	graph.NodeTypeReshape: isView, graph.NodeTypeTranspose: isView, graph.NodeTypeIdentity: isView, graph.NodeTypeBitcast: isView,
	graph.NodeTypeOptimizationBarrier: isView, graph.NodeTypeSchedulingBarrier: isView, graph.NodeTypeSplitNode: isView,
	graph.NodeTypeDotGeneral: isReader, graph.NodeTypeConvGeneral: isReader, graph.NodeTypeConcatenate: isReader, graph.NodeTypeGather: isReader,
	graph.NodeTypeScatterSum: isReader, graph.NodeTypeFusedDense: isReader,
	graph.NodeTypeReduceSum: isArray, graph.NodeTypeReduceMax: isArray, graph.NodeTypeReduceMin: isArray,
	graph.NodeTypeParameter: isGiven, graph.NodeTypeConstant: isGiven,
}

// peak returns the most bytes that are alive at once when the outputs are
// computed, nodes one after the other.
func peak(nodes, outputs []*graph.Node) int64 {
	used := map[*graph.Node]bool{}
	var mark func(n *graph.Node)
	mark = func(n *graph.Node) {
		if used[n] {
			return
		}
		used[n] = true
		for _, input := range n.Inputs() {
			mark(input)
		}
	}
	stored := map[*graph.Node]bool{}
	var store func(n *graph.Node)
	store = func(n *graph.Node) {
		switch kinds[n.Type()] {
		case isGiven:
		case isView:
			store(n.Inputs()[0])
		default:
			stored[n] = true
		}
	}
	for _, n := range outputs {
		mark(n)
		store(n)
	}
	order := map[*graph.Node]int{}
	for i, n := range nodes {
		order[n] = i
		switch k := kinds[n.Type()]; {
		case !used[n]:
		case k == isArray:
			stored[n] = true
		case k == isReader:
			stored[n] = true
			for _, input := range n.Inputs() {
				store(input)
			}
		}
	}
	// The last place that reads a node, through work that is done where it is used.
	last := map[*graph.Node]int{}
	for _, n := range outputs {
		last[n] = len(nodes)
	}
	for i, n := range slices.Backward(nodes) {
		if !used[n] {
			continue
		}
		at := i
		if !stored[n] {
			at = last[n]
		}
		for _, input := range n.Inputs() {
			last[input] = max(last[input], at)
		}
	}
	ends := make([]int64, len(nodes)+1)
	var live, most int64
	for i, n := range nodes {
		if stored[n] {
			bytes := int64(n.Shape().ByteSize())
			live += bytes
			ends[max(last[n], i)] += bytes
		}
		most = max(most, live)
		live -= ends[i]
	}
	return most
}
