package nn

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Program is a model function compiled for a backend: outputs = f(trainable
// vector, frozen weights, inputs). One Program may be run by several
// goroutines at once; each new set of input shapes is compiled once.
type Program struct {
	backend compute.Backend
	exec    *graph.Exec
	frozen  []*tensors.Tensor
	size    int // Length of the trainable vector.
}

// ProgramOptions of NewProgram. Param and Trainable of the nn options are
// filled in by NewProgram.
type ProgramOptions struct {
	NN Options

	// Weights holds every parameter that Build may ask for.
	Weights *Weights
	// Trainable names those that come from the vector given to Run, in the
	// vector's order. The rest are constants of the program.
	Trainable []string

	// Build adds the model to the graph. trainable holds the nodes of the
	// trainable parameters, in order.
	Build func(s *Scope, trainable, inputs []*graph.Node) []*graph.Node
}

// NewProgram prepares a program; compilation happens at the first Run.
func NewProgram(backend compute.Backend, o ProgramOptions) (*Program, error) {
	p := &Program{backend: backend}
	inVector := map[string]bool{}
	for _, name := range o.Trainable {
		t := o.Weights.Get(name)
		if t == nil {
			return nil, fmt.Errorf("trainable parameter %q is not in the weights", name)
		}
		inVector[name] = true
		p.size += len(t.Data)
	}
	var frozen []*Tensor
	for _, t := range o.Weights.All() {
		if !inVector[t.Name] {
			frozen = append(frozen, t)
			onDevice, err := p.upload(t.Data, t.Shape...)
			if err != nil {
				return nil, fmt.Errorf("upload parameter %q: %w", t.Name, err)
			}
			p.frozen = append(p.frozen, onDevice)
		}
	}
	options := o.NN
	options.Trainable = func(name string) bool { return inVector[name] }
	exec, err := graph.NewExec(backend, func(args []*graph.Node) []*graph.Node {
		nodes := map[string]*graph.Node{}
		trainable := unflatten(args[0], o.Weights, o.Trainable)
		for i, name := range o.Trainable {
			nodes[name] = trainable[i]
		}
		for i, t := range frozen {
			nodes[t.Name] = args[1+i]
		}
		options := options
		options.Param = func(_ *graph.Graph, spec Spec) *graph.Node {
			node, ok := nodes[spec.Name]
			if !ok {
				panic(fmt.Errorf("the model asks for parameter %q %v, which the weights lack", spec.Name, spec.Shape))
			}
			return node
		}
		return o.Build(NewScope(args[0].Graph(), options), trainable, args[1+len(frozen):])
	})
	if err != nil {
		return nil, err
	}
	p.exec = exec
	return p, nil
}

// unflatten cuts the trainable vector into parameter nodes.
func unflatten(vector *graph.Node, w *Weights, names []string) []*graph.Node {
	nodes := make([]*graph.Node, len(names))
	at := 0
	for i, name := range names {
		t := w.Get(name)
		nodes[i] = graph.Reshape(graph.Slice(vector, graph.AxisRange(at, at+len(t.Data))), t.Shape...)
		at += len(t.Data)
	}
	return nodes
}

// upload copies values to the device at once. A tensor that several goroutines
// use must be there before they do: GoMLX 0.28 moves it at first use, and a
// second user may meet it half-way ("no local or on-device representation").
func (p *Program) upload(values []float32, shape ...int) (*tensors.Tensor, error) {
	t := tensors.FromFlatDataAndDimensions(append([]float32(nil), values...), shape...)
	return t, t.MaterializeOnDevice(p.backend, true, 0)
}

// Vector puts a trainable vector on the device, for any number of Runs. The
// caller ends it with FinalizeAll.
func (p *Program) Vector(values []float32) (*tensors.Tensor, error) {
	if len(values) != p.size {
		return nil, fmt.Errorf("trainable vector has %d values, want %d", len(values), p.size)
	}
	if len(values) == 0 {
		return p.upload([]float32{0}, 1)
	}
	return p.upload(values, len(values))
}

// Run executes the program. vector may be nil when nothing is trainable.
func (p *Program) Run(vector *tensors.Tensor, inputs ...*tensors.Tensor) ([]*tensors.Tensor, error) {
	if vector == nil {
		var err error
		if vector, err = p.Vector(nil); err != nil {
			return nil, err
		}
		defer func() { _ = vector.FinalizeAll() }()
	}
	args := make([]any, 0, 1+len(p.frozen)+len(inputs))
	args = append(args, vector)
	for _, t := range p.frozen {
		args = append(args, t)
	}
	for _, t := range inputs {
		args = append(args, t)
	}
	return p.exec.Exec(args...)
}

// Close frees the compiled graphs.
func (p *Program) Close() {
	p.exec.Finalize()
	for _, t := range p.frozen {
		_ = t.FinalizeAll()
	}
}
