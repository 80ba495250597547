//go:build linux && cgo && !noxla && amd64

package backend

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pinForAllocator returns a wheel with an allocator that does nothing, and its pin.
func pinForAllocator(symbol string) (wheel []byte, pin artifact) {
	library := fakeLibrary(symbol)
	wheel = fakeWheel(entry{"lib/libmimalloc.so.3", library}, entry{"lib/libmimalloc.so", library})
	pin = pinFor(wheel, library)
	pin.Platform, pin.Member = allocatorPlatform, "lib/libmimalloc.so"
	return wheel, pin
}

// The allocator is installed as a plugin is, and taken for none.
func TestInstallAllocator(t *testing.T) {
	data := isolate(t)
	if _, installed := installedAllocator(); installed {
		t.Error("there is an allocator in an empty folder")
	}
	wheel, pin := pinForAllocator(allocatorSymbol)
	source := writeFile(t, t.TempDir(), "malloc.whl", wheel)
	info, err := install(source, InstallOptions{}, []artifact{pin}, data)
	if err != nil {
		t.Fatal(err)
	}
	if want := "malloc (fake 1.2)"; !info.Available || info.String() != want || !strings.HasPrefix(info.Path, data) {
		t.Errorf("installed %s, %+v; want %s", info, info, want)
	}
	if found, installed := installedAllocator(); !installed || found != info {
		t.Errorf("found %+v, want %+v", found, info)
	}
	for _, b := range List() {
		if b.Available && b.Name != Go {
			t.Errorf("the allocator is listed as backend %+v", b)
		}
	}
	if name, hint := AllocatorInfo(); name == "" || strings.Contains(hint, "pip") && !UsesMimalloc() {
		t.Errorf("the process has %q, hint %q; want none to install what is there", name, hint)
	}
	// What is there must be what was installed.
	whole, err := os.ReadFile(info.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{whole[:len(whole)-1], append(whole[:len(whole)-1:len(whole)-1], 1)} {
		writeFile(t, filepath.Dir(info.Path), allocatorName, bad)
		if found, _ := installedAllocator(); found.Available || !strings.Contains(found.Reason, "install it again") {
			t.Errorf("a damaged copy is %+v", found)
		}
	}
	writeFile(t, filepath.Dir(info.Path), allocatorName, whole)
	// A folder whose name the dynamic linker would cut.
	other := filepath.Join(t.TempDir(), "a b")
	if info, err = install(source, InstallOptions{}, []artifact{pin}, other); err != nil || info.Available || !strings.Contains(info.Reason, "XDG_DATA_HOME") {
		t.Errorf("in %q: %+v, %v; want it not to be available", other, info, err)
	}
	wheel, pin = pinForAllocator("je_malloc")
	source = writeFile(t, t.TempDir(), "other.whl", wheel)
	if _, err = install(source, InstallOptions{}, []artifact{pin}, data); err == nil || !strings.Contains(err.Error(), allocatorSymbol) {
		t.Errorf("an allocator of another kind: %v", err)
	}
}

const allocatorChild = "SCUMBLE_TEST_ALLOCATOR"

// TestMain is, where that variable is set, the program that TestUseAllocator starts.
func TestMain(m *testing.M) {
	if os.Getenv(allocatorChild) == "" {
		os.Exit(m.Run())
	}
	UseAllocator()
	fmt.Printf("mimalloc %t, preload %q, huge pages %q, marker %q\n", UsesMimalloc(), os.Getenv("LD_PRELOAD"), os.Getenv(hugePages), os.Getenv(started))
}

// The program starts again with the allocator in place, hands nothing of that on, and
// goes on without wherever it cannot or should not have it.
func TestUseAllocator(t *testing.T) {
	real := realAllocator(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wheel, pin := pinForAllocator(allocatorSymbol)
	broken := t.TempDir() // It has the symbols, and cannot be loaded.
	if _, err := install(writeFile(t, t.TempDir(), "malloc.whl", wheel), InstallOptions{}, []artifact{pin}, filepath.Join(broken, "scumble", "pjrt")); err != nil {
		t.Fatal(err)
	}
	const without = `mimalloc false, preload "", huge pages "", marker ""`
	const with = `mimalloc true, preload "", huge pages "", marker ""`
	for _, c := range []struct{ environment, want string }{
		{"", with},
		{"LD_PRELOAD=", with},
		{hugePages + "=1", `mimalloc true, preload "", huge pages "1", marker ""`}, // The user's own.
		{allocatorVariable + "=system", without},
		{"XDG_DATA_HOME=" + broken, without},
		{"XDG_DATA_HOME=" + t.TempDir(), without},
		{"GLIBC_TUNABLES=glibc.malloc.arena_max=2", without},
		{"LD_PRELOAD=" + real, fmt.Sprintf(`mimalloc true, preload %q, huge pages "", marker ""`, real)}, // The user's own.
	} {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), allocatorChild+"=1", c.environment)
		out, err := cmd.CombinedOutput()
		if first, _, _ := strings.Cut(string(out), "\n"); err != nil || first != c.want {
			t.Errorf("with %q: %q, %v; want %q", c.environment, first, err, c.want)
		}
	}
}

// What holds of the C library's malloc holds of mimalloc: memory is kept between
// calls, goes back when that is asked for, and calls run side by side.
func TestMemoryUnderMimalloc(t *testing.T) {
	path := realAllocator(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.v", "-test.run=^(TestXLAKeepsMemory|TestTrimMemory|TestXLAConcurrentCalls)$")
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+path, hugePages+"=0")
	out, err := cmd.CombinedOutput()
	if passed := strings.Count(string(out), "--- PASS: Test"); err != nil || passed != 3 {
		t.Errorf("%d of 3 tests passed, %v:\n%s", passed, err, out)
	}
}

// realAllocator returns the installed allocator's path. Where XLA must be, it must be, too.
func realAllocator(t *testing.T) string {
	t.Helper()
	info, installed := installedAllocator()
	switch {
	case installed && info.Available:
		return info.Path
	case os.Getenv("SCUMBLE_REQUIRE_XLA") == "":
		t.Skipf("left out, since mimalloc is not here; \"make xla\" installs it: %s", info.Reason)
	default:
		t.Fatalf("mimalloc is not installed: %s", info.Reason)
	}
	return ""
}
