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
	return faultyBuilder{f.Backend.Builder(name), f.before}
}

type faultyBuilder struct {
	compute.Builder
	before func([]shapes.Shape) error
}

func (f faultyBuilder) Compile() (compute.Executable, error) {
	e, err := f.Builder.Compile()
	if err != nil {
		return nil, err
	}
	return faultyExecutable{e, f.before}, nil
}

type faultyExecutable struct {
	compute.Executable
	before func([]shapes.Shape) error
}

func (f faultyExecutable) Execute(inputs []compute.Buffer, donate []bool, device compute.DeviceNum) ([]compute.Buffer, error) {
	_, parameters := f.Inputs()
	if err := f.before(parameters); err != nil {
		return nil, err
	}
	return f.Executable.Execute(inputs, donate, device)
}
