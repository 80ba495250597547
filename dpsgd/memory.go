package dpsgd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/ram"
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

// call runs the program. When memory runs out for a single example it waits for
// the other workers' calls to end and tries once more, alone.
func (e *Engine) call(vector *tensors.Tensor, size int, inputs []*tensors.Tensor) ([]*tensors.Tensor, error) {
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
