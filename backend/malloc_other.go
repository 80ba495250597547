//go:build !linux || !cgo || noxla

package backend

import "runtime/debug"

// ReturnMemory has large blocks of memory go back to the machine when they are
// freed, where the C library can be told so.
func ReturnMemory() {}

// TrimMemory gives back what is free, once, of Go's heap.
func TrimMemory() { debug.FreeOSMemory() }
