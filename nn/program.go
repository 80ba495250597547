package nn

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Program is a model function compiled for a backend: outputs = f(trainable
// vector, frozen weights, inputs). One Program may be run by several
// goroutines at once; each new set of input shapes is compiled once.
type Program struct {
	backend compute.Backend
	exec    *graph.Exec
	base    *Base
	shapes  [][]int // Of the trainable parameters.
	size    int     // Length of the trainable vector.
	kernels kernels // Of the vector, that Vector brings into Winograd's basis.
	given   []int   // Of the base, that calls get in the basis.
	once    sync.Once

	trim  func()
	first sync.Once
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
	// Base, if not nil, are the constants, made by NewBase from the same weights
	// and names: programs may share them. Nil uploads them for this program.
	Base *Base

	// ManyCalls says that a vector and the base serve many calls: kernels of convolutions are
	// then brought into Winograd's basis once for all of them, where the lowering has it, and
	// kept beside the weights, in four times their memory.
	ManyCalls bool

	// Trim, if not nil, is called when a graph is built and before it is compiled, and once
	// after the first compilation and before anything runs: both leave memory behind, which
	// the next would come on top of.
	Trim func()

	// Build adds the model to the graph. trainable holds the nodes of the
	// trainable parameters, in order.
	Build func(s *Scope, trainable, inputs []*graph.Node) []*graph.Node
}

// NewProgram prepares a program; compilation happens at the first Run.
func NewProgram(backend compute.Backend, o ProgramOptions) (*Program, error) {
	p := &Program{backend: backend, base: o.Base, trim: o.Trim}
	inVector := map[string]bool{}
	for _, name := range o.Trainable {
		t := o.Weights.Get(name)
		if t == nil {
			return nil, fmt.Errorf("trainable parameter %q is not in the weights", name)
		}
		inVector[name] = true
		p.shapes = append(p.shapes, t.Shape)
		p.size += t.Size()
	}
	if p.base == nil {
		var err error
		if p.base, err = NewBase(backend, o.Weights, o.Trainable, BaseOptions{}); err != nil {
			return nil, err
		}
	} else {
		p.base.hold()
	}
	trains, frozen := len(o.Trainable), p.base.weights
	inBasis, err := p.giveKernels(o)
	if err != nil {
		p.Close()
		return nil, err
	}
	options := o.NN
	options.half = p.base.half()
	if len(o.Trainable) > 0 {
		options.Trainable = func(name string) bool { return inVector[name] }
	}
	exec, err := graph.NewExec(backend, func(args []*graph.Node) []*graph.Node {
		nodes := map[string]*graph.Node{}
		for i, name := range o.Trainable {
			nodes[name] = args[i]
		}
		for i, t := range frozen {
			nodes[t.Name] = args[trains+i]
		}
		options, rest := options, args[trains+len(frozen):]
		options.kernels = map[string]*graph.Node{}
		for i, name := range inBasis {
			options.kernels[name] = rest[i]
		}
		options.Param = func(_ *graph.Graph, spec Spec) *graph.Node {
			node, ok := nodes[spec.Name]
			if !ok {
				panic(fmt.Errorf("the model asks for parameter %q %v, which the weights lack", spec.Name, spec.Shape))
			}
			return p.base.node(node)
		}
		outputs := o.Build(NewScope(args[0].Graph(), options), args[:trains], rest[len(inBasis):])
		if o.Trim != nil {
			o.Trim()
		}
		return outputs
	})
	if err != nil {
		p.Close()
		return nil, err
	}
	p.exec = exec
	return p, nil
}

// Vector is a trainable vector on the device, a tensor for each parameter.
type Vector struct {
	parts   []*tensors.Tensor
	kernels []*tensors.Tensor // Those that calls get in Winograd's basis, in it.
}

// Tensors returns the parameters, in order. They stay the vector's.
func (v *Vector) Tensors() []*tensors.Tensor { return v.parts }

// FinalizeAll frees the device's memory.
func (v *Vector) FinalizeAll() error {
	var errs []error
	for _, t := range slices.Concat(v.parts, v.kernels) {
		errs = append(errs, t.FinalizeAll())
	}
	v.parts, v.kernels = nil, nil
	return errors.Join(errs...)
}

// Vector puts a trainable vector on the device, for any number of Runs. The
// caller ends it with FinalizeAll.
func (p *Program) Vector(values []float32) (*Vector, error) {
	if len(values) != p.size {
		return nil, fmt.Errorf("trainable vector has %d values, want %d", len(values), p.size)
	}
	v := &Vector{}
	for _, shape := range p.shapes {
		n := (Spec{Shape: shape}).Size()
		t, err := upload(p.backend, values[:n], shape, false)
		if err != nil {
			_ = v.FinalizeAll()
			return nil, err
		}
		v.parts, values = append(v.parts, t), values[n:]
	}
	var err error
	if v.kernels, err = p.kernels.of(v.parts); err != nil {
		_ = v.FinalizeAll()
		return nil, err
	}
	return v, nil
}

// Run executes the program. vector may be nil when nothing is trainable.
func (p *Program) Run(vector *Vector, inputs ...*tensors.Tensor) ([]*tensors.Tensor, error) {
	if vector == nil {
		vector = &Vector{}
	}
	if len(vector.parts) != len(p.shapes) {
		return nil, fmt.Errorf("trainable vector has %d parameters, want %d", len(vector.parts), len(p.shapes))
	}
	if len(vector.kernels) != len(p.kernels.which) {
		return nil, errors.New("trainable vector was made by another program")
	}
	if p.trim != nil {
		p.first.Do(func() {
			// Of what the compiler frees, mimalloc gives back the thread's own alone.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if _, err := p.exec.Compile(p.sizes(vector, inputs)...); err == nil { // If not, the call says why.
				p.trim()
			}
		})
	}
	given, err := p.base.inBasis(p.given) // After compiling, which takes the most memory of all.
	if err != nil {
		return nil, err
	}
	var args []any
	for _, list := range [][]*tensors.Tensor{vector.parts, p.base.device, vector.kernels, given, inputs} {
		for _, t := range list {
			args = append(args, t)
		}
	}
	return p.exec.Exec(args...)
}

// sizes returns the shapes of a call's arguments.
func (p *Program) sizes(vector *Vector, inputs []*tensors.Tensor) []shapes.Shape {
	var sizes []shapes.Shape
	of := func(list []*tensors.Tensor) {
		for _, t := range list {
			sizes = append(sizes, t.Shape())
		}
	}
	of(vector.parts)
	of(p.base.device)
	of(vector.kernels)
	for _, at := range p.given {
		sizes = append(sizes, tiles4.kernelShape(p.base.device[at].Shape()))
	}
	of(inputs)
	return sizes
}

// Close frees the compiled graphs, and the frozen weights unless another program
// has them, too.
func (p *Program) Close() {
	p.once.Do(func() {
		if p.exec != nil {
			p.exec.Finalize()
		}
		p.kernels.close()
		p.base.Close()
	})
}
