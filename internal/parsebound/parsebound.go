// Package parsebound holds a parser to what its input allows, for fuzz targets:
// memory in proportion to the file, and an end.
package parsebound

import (
	"fmt"
	"math"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// The bound: a parser may allocate Factor times the size of its input and Constant
// bytes besides, in Time. All that it allocates counts, also what it has let go
// of, so what it holds at any moment is below that.
const (
	Factor   = 4
	Constant = 1 << 20
	Time     = 30 * time.Second
)

// Check runs parse, which reads an input of size bytes, and fails the test where
// it allocates too much. A parser that does not end within Time panics, so that
// the fuzzing engine keeps the input. parse may run several times and must do the
// same each time.
func Check(t testing.TB, size int, parse func()) {
	t.Helper()
	watch := time.AfterFunc(Time, func() { panic(fmt.Sprintf("a parser is still at %d bytes after %v", size, Time)) })
	defer watch.Stop()
	limit := uint64(Factor*size + Constant)
	before := roughly()
	parse()
	// The cheap counter lags behind by what the allocator has handed out of spans
	// that are not full.
	if roughly()-before <= limit/2 {
		return
	}
	least := uint64(math.MaxUint64)
	for range 3 { // Others may allocate as well: the least is nearest to the truth.
		if least = min(least, exactly(parse)); least <= limit {
			return
		}
	}
	t.Fatalf("a parser allocates %d bytes for an input of %d, want at most %d·%d+%d", least, size, Factor, size, Constant)
}

// roughly returns the bytes allocated since the start, at little cost.
func roughly() uint64 {
	s := [1]metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s[:])
	return s[0].Value.Uint64()
}

// exactly returns the bytes that parse allocates.
func exactly(parse func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	parse()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
