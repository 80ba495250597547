// Package backendtest runs a test on every backend that this machine has.
//
// The pure Go backend is always there. XLA is there where a plugin is installed
// ("make xla"); elsewhere its subtests are skipped and say so. A machine that must
// have XLA, such as the one that guards releases, sets SCUMBLE_REQUIRE_XLA=1, which
// makes a missing plugin a failure.
package backendtest

import (
	"os"
	"sync"
	"testing"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/backend"
)

// RequireXLA is the environment variable that turns skipping into failing.
const RequireXLA = "SCUMBLE_REQUIRE_XLA"

// Names are the backends of Each, in order.
var Names = []string{backend.Go, backend.XLA}

type opened struct {
	b   compute.Backend
	err error
}

// Each process opens each backend once and never ends it: XLA's thread pools are
// not cheap, and tests share them as a program would.
var open = map[string]func() opened{
	backend.Go:  sync.OnceValue(func() opened { return openNamed(backend.Go) }),
	backend.XLA: sync.OnceValue(func() opened { return openNamed(backend.XLA) }),
}

func openNamed(name string) opened {
	b, _, err := backend.Open(name)
	return opened{b, err}
}

// Each runs f as the subtests "go" and "xla".
func Each(t *testing.T, f func(t *testing.T, b compute.Backend)) {
	t.Helper()
	for _, name := range Names {
		t.Run(name, func(t *testing.T) { f(t, Open(t, name)) })
	}
}

// Benchmark runs f as the benchmarks "go" and "xla".
func Benchmark(b *testing.B, f func(b *testing.B, backend compute.Backend)) {
	b.Helper()
	for _, name := range Names {
		b.Run(name, func(b *testing.B) { f(b, Open(b, name)) })
	}
}

// Open returns the backend with that name, one of Names. Without XLA it skips the
// test. The backend is shared by the whole process: do not finalize it.
func Open(t testing.TB, name string) compute.Backend {
	t.Helper()
	get, known := open[name]
	if !known {
		t.Fatalf("backend is %q, want one of %q", name, Names)
	}
	o := get()
	switch {
	case o.err == nil:
		return o.b
	case name == backend.XLA && os.Getenv(RequireXLA) == "":
		t.Skipf("left out, since XLA is not here; \"make xla\" installs it: %v", o.err)
	default:
		t.Fatalf("open backend %s: %v", name, o.err)
	}
	return nil
}
