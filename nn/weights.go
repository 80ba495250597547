package nn

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// Kind says what a parameter is, and with it how its layout differs between
// us and diffusers.
type Kind int

const (
	KindVector Kind = iota // [channels]: biases, norm scales. Same in both.
	KindDense              // [in, out]; diffusers [out, in].
	KindKernel             // [height, width, in, out]; diffusers [out, in, height, width].
	KindTable              // [entries, channels]: embeddings. Same in both.
)

// Spec describes a parameter before it has a value.
type Spec struct {
	Name  string
	Kind  Kind
	Shape []int // In our layout.
	Init  Init
}

// Size returns the number of values.
func (s Spec) Size() int {
	n := 1
	for _, d := range s.Shape {
		n *= d
	}
	return n
}

// Init says how a parameter starts when a model is trained from scratch.
type Init int

const (
	InitZeros Init = iota
	InitOnes
	InitFanIn  // Normal with variance 1/fan-in.
	InitNormal // Standard normal: embedding tables.
)

// Tensor is a named float32 array on the host.
type Tensor struct {
	Name  string
	Kind  Kind
	Shape []int
	Data  []float32
}

// Size returns the number of values of the shape, also while Data is released.
func (t *Tensor) Size() int { return (Spec{Shape: t.Shape}).Size() }

// Weights is an ordered set of named tensors.
type Weights struct {
	list  []*Tensor
	index map[string]*Tensor
}

// NewWeights returns an empty set.
func NewWeights() *Weights { return &Weights{index: map[string]*Tensor{}} }

// Add appends t. It panics if the name is taken or the data do not fill the shape.
func (w *Weights) Add(t *Tensor) {
	if _, ok := w.index[t.Name]; ok {
		panic(fmt.Errorf("nn: tensor %q added twice", t.Name))
	}
	if n := (Spec{Shape: t.Shape}).Size(); n != len(t.Data) {
		panic(fmt.Errorf("nn: tensor %q has %d values, want %d for shape %v", t.Name, len(t.Data), n, t.Shape))
	}
	w.list = append(w.list, t)
	w.index[t.Name] = t
}

// Get returns the named tensor, or nil.
func (w *Weights) Get(name string) *Tensor { return w.index[name] }

// All returns the tensors in order. The slice must not be changed.
func (w *Weights) All() []*Tensor { return w.list }

// Names returns the names in order.
func (w *Weights) Names() []string {
	names := make([]string, len(w.list))
	for i, t := range w.list {
		names[i] = t.Name
	}
	return names
}

// Size returns the total number of values.
func (w *Weights) Size() int {
	n := 0
	for _, t := range w.list {
		n += t.Size()
	}
	return n
}

// Clone returns a deep copy.
func (w *Weights) Clone() *Weights {
	c := NewWeights()
	for _, t := range w.list {
		d := *t
		d.Shape = append([]int(nil), t.Shape...)
		d.Data = append([]float32(nil), t.Data...)
		c.Add(&d)
	}
	return c
}

// Flatten concatenates the named tensors into one vector.
func (w *Weights) Flatten(names []string) []float32 {
	n := 0
	for _, name := range names {
		n += len(w.index[name].Data)
	}
	flat := make([]float32, 0, n)
	for _, name := range names {
		flat = append(flat, w.index[name].Data...)
	}
	return flat
}

// SetFlat copies a vector made by Flatten back into the named tensors.
func (w *Weights) SetFlat(names []string, flat []float32) {
	for _, name := range names {
		n := copy(w.index[name].Data, flat)
		flat = flat[n:]
	}
	if len(flat) != 0 {
		panic(fmt.Errorf("nn: flat vector has %d values too many", len(flat)))
	}
}

// NewTensor returns the starting value of a parameter.
func NewTensor(spec Spec, rng *rand.Rand) *Tensor {
	t := &Tensor{Name: spec.Name, Kind: spec.Kind, Shape: spec.Shape, Data: make([]float32, spec.Size())}
	switch spec.Init {
	case InitZeros:
	case InitOnes:
		for i := range t.Data {
			t.Data[i] = 1
		}
	case InitFanIn, InitNormal:
		std := 1.0
		if spec.Init == InitFanIn {
			fanIn := spec.Size() / spec.Shape[len(spec.Shape)-1]
			std = 1 / math.Sqrt(float64(fanIn))
		}
		for i := range t.Data {
			t.Data[i] = float32(std * rng.NormFloat64())
		}
	default:
		panic(fmt.Errorf("nn: parameter %q has unknown init %d", spec.Name, spec.Init))
	}
	return t
}

// InitWeights returns starting values for all specs.
func InitWeights(specs []Spec, rng *rand.Rand) *Weights {
	w := NewWeights()
	for _, spec := range specs {
		w.Add(NewTensor(spec, rng))
	}
	return w
}

// Collect builds a model once, without running it, and returns its parameters
// in order. build gets a scope and adds nodes through it.
func Collect(backend compute.Backend, opts Options, build func(s *Scope)) (specs []Spec, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = asError(r)
		}
	}()
	g := NewGraph(backend, "collect")
	defer g.Finalize()
	opts.Param = func(g *Graph, spec Spec) *Node {
		return Parameter(g, spec.Name, float32Shape(spec.Shape...))
	}
	s := NewScope(g, opts)
	build(s)
	return s.Specs(), nil
}

func asError(r any) error {
	if e, ok := r.(error); ok {
		return e
	}
	return fmt.Errorf("%v", r)
}
