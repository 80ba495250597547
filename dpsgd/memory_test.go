package dpsgd

import (
	"context"
	"runtime"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// TestMemoryDoesNotGrowWithTheBatch: what a logical batch keeps alive is a few
// vectors of all parameters, however many physical batches it is cut into.
func TestMemoryDoesNotGrowWithTheBatch(t *testing.T) {
	p := &problem{height: 1, width: 1, channels: 256, draws: 1, seed: 4, clip: 0.5}
	p.forward = func(s *nn.Scope, x, _ *graph.Node) *graph.Node {
		return nn.Dense(s.In("wide"), x, 1024, nn.DenseOptions{})
	}
	p.build(t)
	for _, method := range []Method{BookKeeping, PerExampleLoop} {
		e := p.engine(t, backendtest.Open(t, "go"), nn.Patches, func(o *EngineOptions) { o.Method, o.PhysicalBatchSize, o.Workers = method, 1, 2 })
		// live returns the bytes that are alive when the last example is fetched.
		live := func(n int) (bytes uint64) {
			_, _, err := e.Sum(context.Background(), p.weights.Flatten(p.trainable), n, func(positions []int, size int) ([]*tensors.Tensor, error) {
				if positions[len(positions)-1] == n-1 {
					var m runtime.MemStats
					runtime.GC()
					runtime.ReadMemStats(&m)
					bytes = m.HeapAlloc
				}
				return p.fetch(positions, size)
			})
			if err != nil {
				t.Fatal(err)
			}
			return bytes
		}
		live(2)
		small, large := live(4), live(64)
		if vector := uint64(4 * e.size); large > small+8*vector {
			t.Errorf("%s: 4 examples keep %d MiB alive, 64 keep %d MiB, want no more than %d MiB above", method, small>>20, large>>20, 8*vector>>20)
		}
	}
}
