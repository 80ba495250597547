package dpsgd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/ram"
	"github.com/scumble-dp/scumble/nn"
)

// ErrMemory is what the error wraps when even one example does not fit in
// memory.
var ErrMemory = errors.New("out of memory")

// outOfMemory wraps err in ErrMemory where it says that memory ran out. PJRT
// plugins say RESOURCE_EXHAUSTED, with or without the words.
func outOfMemory(err error) error {
	if err == nil || errors.Is(err, ErrMemory) {
		return err
	}
	text := strings.ToLower(err.Error())
	for _, words := range []string{"resource_exhausted", "resource exhausted", "out of memory", "cannot allocate memory"} {
		if strings.Contains(text, words) {
			return fmt.Errorf("%w: %w", ErrMemory, err)
		}
	}
	return err
}

// call runs the program; the loop's on top of the sums before, if any. When memory
// runs out for a single example it waits for the other workers' calls to end and
// tries once more, alone.
func (e *Engine) call(vector *nn.Vector, size int, inputs []*tensors.Tensor, before ...*tensors.Tensor) ([]*tensors.Tensor, error) {
	if e.method == PerExampleLoop {
		keep := tensors.FromScalar(len(before) > 0)
		defer func() { _ = keep.FinalizeAll() }()
		if len(before) == 0 {
			before = vector.Tensors() // Of the right shapes, and not read.
		}
		inputs = slices.Concat(inputs[:1], []*tensors.Tensor{keep}, before, inputs[1:])
	}
	e.alone.RLock()
	outputs, err := e.program.Run(vector, inputs...)
	e.alone.RUnlock()
	err = outOfMemory(err)
	if !errors.Is(err, ErrMemory) || size > 1 {
		return outputs, err
	}
	e.alone.Lock()
	defer e.alone.Unlock()
	outputs, err = e.program.Run(vector, inputs...)
	if err = outOfMemory(err); errors.Is(err, ErrMemory) {
		err = fmt.Errorf("the draws of one example do not fit in memory; train fewer parameters or lower training.multiplicity: %w", err)
	}
	return outputs, err
}

// memory is what calls take, all workers together, in bytes: estimated from
// random examples, as fixed + perExample·size. The zero value knows nothing.
//
// An accelerator that is asked for more than it has refuses, and the engine
// halves the physical batch. A processor's system ends the process instead, so
// there the estimate must keep below what is left.
type memory struct {
	fixed, perExample float64
	before            uint64 // Resident before the first call.
}

// need returns the estimate for a physical batch.
func (m *memory) need(size int) float64 { return m.fixed + m.perExample*float64(size) }

// Of what calls may take, an eighth, and at least 256 MiB, is left alone.
const leastMargin = 256 << 20

// roomFor reports whether a physical batch keeps a margin of memory, given what
// is free and what this process holds. What it holds beyond what it held before
// the first call can be used again.
func (m *memory) roomFor(size int, free, resident uint64) bool {
	room := float64(free)
	if resident > m.before {
		room += float64(resident - m.before)
	}
	return m.need(size) <= room-max(room/8, leastMargin)
}

// largeVector is the number of trainable parameters from which the vectors of a
// step count in memory.
const largeVector = 1 << 24

// longStep is how long a step takes that begins with a garbage collection, some hundredths
// of a second: the sum of the step before and its likes would pile up until the heap has
// grown by half.
const longStep = 2 * time.Second

// workers returns how many calls at the same time keep a margin of memory, of
// those that are asked for: of a large model a call at its smallest takes gigabytes,
// and no trial can tell before it is too late. It counts what Footprint does.
func (o *TuneOptions) workers(backend compute.Backend) int {
	asked := orInt(o.Engine.Workers, 1)
	free, known := ram.Free()
	size := 0
	for _, name := range o.Engine.Trainable {
		size += o.Engine.Weights.Get(name).Size()
	}
	if asked == 1 || !known || size < largeVector {
		return asked
	}
	options := o.Engine
	if options.PhysicalBatchSize == 0 {
		options.PhysicalBatchSize = 1
	}
	call, err := Footprint(backend, options, options.PhysicalBatchSize, func(g *graph.Graph, examples int) []*graph.Node {
		return o.parameters(g, examples)
	})
	if err != nil {
		return asked // Building the engine will say what is wrong.
	}
	// A call's result is copied. Beside the calls there are the vector on the device,
	// and the sum, Adam's moments and an average in float64.
	each, rest := OnProcessor*float64(call)+4*float64(size), 36*float64(size)
	frozen := float64(4 * (o.Engine.Weights.Size() - size))
	if o.Engine.Base.Release { // The device's copy takes the place of the host's.
		frozen = 0
	}
	room := float64(free) - rest - frozen
	room -= max(room/8, leastMargin)
	return max(1, min(asked, int(room/each)))
}

// parameters returns the loss's inputs as graph parameters, in the shapes that
// Public has.
func (o *TuneOptions) parameters(g *graph.Graph, examples int) []*graph.Node {
	inputs, err := o.Public(nil, examples)
	if err != nil {
		panic(err)
	}
	nodes := make([]*graph.Node, len(inputs))
	for i, t := range inputs {
		nodes[i] = graph.Parameter(g, fmt.Sprintf("input:%d", i), t.Shape())
		_ = t.FinalizeAll()
	}
	return nodes
}

// makeRoom halves the physical batch until it keeps a margin of the memory that
// is free now. That depends on no example.
func (e *Engine) makeRoom() {
	free, known := ram.Free()
	resident, ok := ram.Resident()
	if !known || !ok || e.memory.perExample <= 0 {
		return
	}
	for size := e.PhysicalBatchSize(); size > 1 && !e.memory.roomFor(size, free, resident); size = e.PhysicalBatchSize() {
		e.examples.CompareAndSwap(int64(size), int64(size/2))
	}
}
