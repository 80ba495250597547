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
	"github.com/scumble-dp/scumble/internal/ram"
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
	// Of one call's activations. All of them, 2·calls·pages, would come fresh; on a busy
	// machine a pair may be the first to overlap entirely, and needs two more.
	const pages = side * side * 4 / 4096
	if got := faults(t) - before; got > calls*pages/2 {
		t.Errorf("%d page faults in %d pairs of calls whose activations have %d pages each: memory goes back and comes again", got, calls, pages)
	}
}

// TestTrimMemory: what is kept for later calls goes back when that is asked for.
func TestTrimMemory(t *testing.T) {
	b := backendtest.Open(t, backend.XLA)
	const side = 8192 // 256 MiB.
	e, err := graph.NewExec(b, func(x, y *node) *node { return graph.Dot(x, y).Product() })
	if err != nil {
		t.Fatal(err)
	}
	x, y := random(1, side, 1), random(2, 1, side)
	for range 2 {
		out, err := e.Exec(x, y)
		if err != nil {
			t.Fatal(err)
		}
		_ = out[0].FinalizeAll()
	}
	kept, known := ram.Resident()
	if !known {
		t.Skip("the system does not say how much memory a process has")
	}
	backend.TrimMemory()
	if left, _ := ram.Resident(); left+side*side*4/2 > kept {
		t.Errorf("%d MiB resident with a freed array of 256 MiB, %d after giving it back", kept>>20, left>>20)
	}
}

func faults(t *testing.T) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return u.Minflt
}
