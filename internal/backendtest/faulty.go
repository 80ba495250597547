package backendtest

import (
	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
)

// Faulty returns b with a function that is called before every execution of a
// graph, with the shapes of the graph's parameters. An error ends the execution
// before it starts.
func Faulty(b compute.Backend, before func(parameters []shapes.Shape) error) compute.Backend {
	return &faulty{b, before}
}

type faulty struct {
	compute.Backend
	before func([]shapes.Shape) error
}

func (f *faulty) Builder(name string) compute.Builder {
	return faultyBuilder{f.Backend.Builder(name), f}
}

type faultyBuilder struct {
	compute.Builder
	backend *faulty
}

func (f faultyBuilder) Compile() (compute.Executable, error) {
	e, err := f.Builder.Compile()
	if err != nil {
		return nil, err
	}
	return faultyExecutable{e, f.backend}, nil
}

type faultyExecutable struct {
	compute.Executable
	backend *faulty
}

func (f faultyExecutable) Execute(inputs []compute.Buffer, donate []bool, device compute.DeviceNum) ([]compute.Buffer, error) {
	_, parameters := f.Inputs()
	if err := f.backend.before(parameters); err != nil {
		return nil, err
	}
	own := make([]compute.Buffer, len(inputs))
	for i, b := range inputs {
		own[i] = b
		if w, ok := b.(faultyBuffer); ok {
			own[i] = w.Buffer
		}
	}
	outputs, err := f.Executable.Execute(own, donate, device)
	for i, b := range outputs {
		outputs[i] = faultyBuffer{b, f.backend}
	}
	return outputs, err
}

// faultyBuffer is a result, which may be an input of another execution on the
// same backend: that is then asked for by identity.
type faultyBuffer struct {
	compute.Buffer
	backend *faulty
}

func (f faultyBuffer) Backend() compute.Backend { return f.backend }
