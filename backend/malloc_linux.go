//go:build cgo && !noxla

package backend

// #include <stdbool.h>
// #include <stdlib.h>
//
// extern void mi_collect(bool) __attribute__((weak)); // mimalloc's, where UseAllocator put it in place.
// extern void mi_option_set(int, long) __attribute__((weak));
// enum { mi_option_purge_delay = 15 }; // Since version 2; in milliseconds.
//
// extern int mallopt(int, int) __attribute__((weak)); // glibc's; musl has none.
// extern int malloc_trim(size_t) __attribute__((weak));
//
// // Before there is a second thread: one that has allocated has an arena of its own
// // already, which later threads share, and large blocks do not fit into those.
// __attribute__((constructor)) static void one_arena(void) {
// 	if (mallopt && !getenv("GLIBC_TUNABLES")) mallopt(-8, 1); // M_ARENA_MAX.
// }
//
// static void keep_memory(void) {
// 	if (mi_option_set) mi_option_set(mi_option_purge_delay, 10000);
// 	if (!mallopt) return;
// 	mallopt(-4, 0);  // M_MMAP_MAX: no large block is mapped on its own.
// 	mallopt(-1, -1); // M_TRIM_THRESHOLD: what is free is kept.
// }
//
// static void return_memory(void) {
// 	if (mi_option_set) mi_option_set(mi_option_purge_delay, 10);
// 	if (!mallopt) return;
// 	mallopt(-3, 32 << 20); // M_MMAP_THRESHOLD: larger blocks are mapped on their own,
// 	mallopt(-4, 65536);    // M_MMAP_MAX: as many as there are,
// 	mallopt(-1, 64 << 20); // M_TRIM_THRESHOLD: and what is free at the end is given back.
// }
// static void trim_memory(void) {
// 	if (mi_collect) mi_collect(true);
// 	if (malloc_trim) malloc_trim(0);
// }
import "C"

import (
	"os"
	"runtime/debug"
)

// ReturnMemory has large blocks of memory go back to the machine when they are
// freed: the opposite of what a backend begins with, for models that fill the
// machine. GLIBC_TUNABLES, if set, stays in force alone.
func ReturnMemory() {
	if os.Getenv("GLIBC_TUNABLES") == "" {
		C.return_memory()
	}
}

// TrimMemory gives back what is free, once, of Go's heap and of the C library's.
// Compiling a model takes gigabytes that its calls would otherwise find in pieces,
// and hold until the process ends. Of what was freed on other threads than the caller's
// mimalloc may keep some: lock the thread before what frees.
func TrimMemory() {
	debug.FreeOSMemory()
	C.trim_memory()
}

// keepMemory has glibc keep freed memory for the next call. XLA allocates the
// activations of each call anew, hundreds of megabytes; glibc would map them and
// give them back, and a fifth of a step's time went into zeroing pages again.
// GLIBC_TUNABLES, if set, stays in force alone.
func keepMemory() {
	if os.Getenv("GLIBC_TUNABLES") == "" {
		C.keep_memory()
	}
}
