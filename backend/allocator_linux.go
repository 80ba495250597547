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

// started marks the second start of a process: it holds the names of the variables
// that were set for it, and is gone with them once that has seen it.
const started = "SCUMBLE_STARTED_WITH_MALLOC"

// UsesMimalloc reports whether malloc is mimalloc's in this process, whoever loaded it.
func UsesMimalloc() bool { return C.uses_mimalloc() != 0 }

// UseAllocator starts the program again, in the same process and with the same
// arguments, with the installed allocator in malloc's place; the dynamic linker can
// put it there at the start only. It is the first thing that main does. Nothing
// happens where no allocator is installed or where it cannot be loaded, where
// SCUMBLE_MALLOC is "system", or where LD_PRELOAD or GLIBC_TUNABLES says that somebody
// has chosen already. Programs that this one starts inherit none of these variables.
func UseAllocator() {
	if set := os.Getenv(started); set != "" {
		for _, name := range append(strings.Fields(set), started) {
			os.Unsetenv(name)
		}
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
	set := []string{"LD_PRELOAD"}
	os.Setenv("LD_PRELOAD", info.Path)
	if os.Getenv(hugePages) == "" {
		set = append(set, hugePages)
		os.Setenv(hugePages, "0")
	}
	os.Setenv(started, strings.Join(set, " "))
	_ = syscall.Exec(program, os.Args, os.Environ())
	for _, name := range append(set, started) { // It failed: the process goes on as it is.
		os.Unsetenv(name)
	}
}
