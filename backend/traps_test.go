package backend_test

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/backend"
)

// dependencies returns the packages that the command is built from.
func dependencies(t *testing.T, environment ...string) string {
	t.Helper()
	list := exec.Command("go", "list", "-deps", "../cmd/scumble")
	list.Env = append(list.Environ(), environment...)
	out, err := list.Output()
	if err != nil {
		t.Skipf("left out, since the go command does not list packages here: %v", err)
	}
	return "\n" + string(out)
}

// TestDependencies: GoMLX's installer downloads without a digest and ends the
// process on failure, its default set of backends does not compile without cgo,
// and its ONNX reader does not build with this version: none is linked. Without
// cgo neither is XLA, whose package would not compile.
func TestDependencies(t *testing.T) {
	if testing.Short() {
		t.Skip("left out with -short, since it asks the go command")
	}
	with := dependencies(t)
	for _, bad := range []string{"autoinstall", "github.com/gomlx/gomlx/backends/default", "onnx", "github.com/gomlx/gomlx/support/testutil"} {
		if strings.Contains(with, bad) {
			t.Errorf("the command is linked with a package %q", bad)
		}
	}
	if without := dependencies(t, "CGO_ENABLED=0"); strings.Contains(without, "\ngithub.com/gomlx/go-xla/") {
		t.Error("without cgo the command is linked with go-xla, which needs it")
	}
}

// TestDevices: XLA's plugin for the processor reports several devices on one
// machine; what runs is placed on one of them, and the answer is right.
func TestDevices(t *testing.T) {
	for _, name := range []string{backend.Go, backend.XLA} {
		b, info, err := backend.Open(name)
		if err != nil {
			t.Logf("%s is not here: %v", name, err)
			continue
		}
		t.Logf("%s: %d devices, %d processors", info, info.Devices, runtime.NumCPU())
		if info.Devices < 1 {
			t.Errorf("%s reports %d devices, want at least 1", info, info.Devices)
		}
		if _, err := backend.Probe(b); err != nil {
			t.Errorf("%s: %v", info, err)
		}
		b.Finalize()
	}
}
