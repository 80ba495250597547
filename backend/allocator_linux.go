//go:build cgo && !noxla && amd64

package backend

// #cgo LDFLAGS: -ldl
// #include <dlfcn.h>
// #include <stdlib.h>
//
// extern int mi_version(void) __attribute__((weak));
//
// static int uses_mimalloc(void) { return mi_version != NULL; }
//
// static int loads(const char *path) { return dlopen(path, RTLD_LAZY | RTLD_LOCAL) != NULL; }
import "C"

import (
	"os"
	"strings"
	"syscall"
	"unsafe"
)

const allocatorBuilt = true

// hugePages is mimalloc's option for transparent huge pages. With them a step takes
// either as long as without or a quarter longer, as the blocks happen to lie.
const hugePages = "MIMALLOC_ALLOW_THP"

// started marks the second start of a process, and is gone once that has seen it.
const started = "SCUMBLE_STARTED_WITH_MALLOC"

// UsesMimalloc reports whether malloc is mimalloc's in this process, whoever loaded it.
func UsesMimalloc() bool { return C.uses_mimalloc() != 0 }

// UseAllocator starts the program again, in the same process and with the same
// arguments, with the installed allocator in malloc's place; the dynamic linker can
// put it there at the start only. It is the first thing that main does. Nothing
// happens where no allocator is installed or where it cannot be loaded, where
// SCUMBLE_MALLOC is "system", or where LD_PRELOAD or GLIBC_TUNABLES says that somebody
// has chosen already. Programs that this one starts do not inherit it.
func UseAllocator() {
	if os.Getenv(started) != "" {
		os.Unsetenv(started)
		os.Unsetenv("LD_PRELOAD")
		return
	}
	for _, name := range []string{"LD_PRELOAD", "GLIBC_TUNABLES"} {
		if os.Getenv(name) != "" {
			return
		}
	}
	if os.Getenv(allocatorVariable) == "system" {
		return
	}
	info, installed := installedAllocator()
	if !installed || !info.Available {
		return
	}
	path := C.CString(info.Path)
	defer C.free(unsafe.Pointer(path))
	if C.loads(path) == 0 { // Else the dynamic linker would complain and go on without it.
		return
	}
	program, err := os.Executable()
	if err != nil {
		return
	}
	environment := []string{"LD_PRELOAD=" + info.Path, started + "=1"}
	if os.Getenv(hugePages) == "" {
		environment = append(environment, hugePages+"=0")
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if name != "LD_PRELOAD" && name != hugePages || os.Getenv(name) != "" { // The first of two counts.
			environment = append(environment, v)
		}
	}
	_ = syscall.Exec(program, os.Args, environment) // Where that fails the process goes on as it is.
}
