package dpsgd

import (
	"sync"

	"github.com/gomlx/gomlx/core/tensors"
)

// buffers keeps the vectors of parts that were added up, for the next parts: of a
// large model each is gigabytes, and the garbage collector would let several
// pile up. The zero value with a size is ready.
type buffers struct {
	size int

	mu   sync.Mutex
	free [][]float32
}

// take returns a vector with any contents.
func (b *buffers) take() []float32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.free); n > 0 {
		v := b.free[n-1]
		b.free = b.free[:n-1]
		return v
	}
	return make([]float32, b.size)
}

// give takes back the vector of a part that is not used again. It may be nil.
func (b *buffers) give(p *part) {
	if p == nil || p.sum == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, p.sum)
	p.sum = nil
}

// drop forgets the vectors that are not in use.
func (b *buffers) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = nil
}

// copyOut copies the parameters' sums into one vector, and frees each on the
// device at once.
func copyOut(vector []float32, outputs []*tensors.Tensor) error {
	for _, t := range outputs {
		err := tensors.ConstFlatData(t, func(values []float32) {
			vector = vector[copy(vector, values):]
		})
		if err != nil {
			return err
		}
		_ = t.FinalizeAll()
	}
	return nil
}
