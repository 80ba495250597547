// Package backend decides what computes: it finds, checks, installs and opens
// the compute backends that run scumble's graphs.
//
// Two backends are known:
//
//   - "go", pure Go, always there. It is opened with sequential operations, as
//     its parallel executor deadlocks (two matrix products wait for the worker
//     slots that they hold themselves). Several goroutines calling one graph
//     use the cores instead. Built with GOEXPERIMENT=simd it is several times
//     faster; [SIMD] says whether it was.
//   - "xla", a PJRT plugin loaded at run time: XLA for CPU, CUDA and others.
//     It needs a binary built with cgo and a plugin on this machine.
//
// [Open] with "auto" takes XLA where a plugin is really there and works, and Go
// otherwise, and then says in one line how to get XLA. Nothing in this package
// downloads anything: [Install] unpacks a file that the user fetched, after
// comparing its SHA-256 digest with a pinned one.
//
// A plugin is native code that runs with the user's rights. That is why the
// search looks only in folders meant for plugins (see [List]) and never in the
// folders of the dynamic linker, and why GOMLX_BACKEND is not read.
package backend
