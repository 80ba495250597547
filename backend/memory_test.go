//go:build linux

package backend_test

import (
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/internal/backendtest"
)

// XLA's memory for the activations of a call is kept for the next one, whichever of
// its threads makes it: pages that come fresh from the machine are zeroed first, which
// was a fifth of the time of a step.
func TestXLAKeepsMemory(t *testing.T) {
	b := backendtest.Open(t, backend.XLA)
	const side, calls = 4096, 8
	e, err := graph.NewExec(b, func(x, y, z *node) *node { // In between, 64 MiB that are not fused away.
		return graph.ReduceAllSum(graph.Dot(graph.Sin(graph.Dot(x, y).Product()), z).Product())
	})
	if err != nil {
		t.Fatal(err)
	}
	x, y, z := random(1, side, 8), random(2, 8, side), random(3, side, 8)
	call := func() {
		var wg sync.WaitGroup
		for range 2 { // As many goroutines call at the same time in a step.
			wg.Go(func() {
				out, err := e.Exec(x, y, z)
				if err != nil {
					t.Error(err)
					return
				}
				_ = out[0].FinalizeAll()
			})
		}
		wg.Wait()
	}
	for _, v := range []*tensors.Tensor{x, y, z} { // Goroutines that share a tensor must not be the first to send it.
		if err := v.MaterializeOnDevice(b, false, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range 6 { // Until as much is there as two calls at the same time need, and gaps between blocks are used.
		call()
	}
	runtime.GC() // Go's own pages are there, too.
	before := faults(t)
	for range calls {
		call()
	}
	const pages = side * side * 4 / 4096 // Of one call's activations.
	if got := faults(t) - before; got > calls*pages/4 {
		t.Errorf("%d page faults in %d pairs of calls whose activations have %d pages each: memory goes back and comes again", got, calls, pages)
	}
}

func faults(t *testing.T) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return u.Minflt
}
