//go:build !linux || !cgo || noxla || !amd64

package backend

const allocatorBuilt = false

// UsesMimalloc reports whether malloc is mimalloc's in this process, where that can
// be told.
func UsesMimalloc() bool { return false }

// UseAllocator starts the program again with the installed allocator, where there is
// one for this system.
func UseAllocator() {}
