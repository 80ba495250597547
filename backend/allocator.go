package backend

import (
	"os"
	"path/filepath"
	"strings"
)

// XLA for processors allocates each call's activations, and half a million small
// blocks a step, with the C library's malloc, which takes up to a fifth of a step's
// time in glibc. mimalloc (Leijen et al. 2019, Microsoft Research technical report
// MSR-TR-2019-18) does the same faster.
const (
	allocatorPlatform = "malloc" // Among the pinned artifacts, and in the installed folder's name.
	allocatorName     = "libmimalloc.so"
	allocatorSymbol   = "mi_malloc"
	allocatorVariable = "SCUMBLE_MALLOC" // "system" leaves the C library's in place.
)

// inspectAllocator says what can be known of an installed allocator without loading it.
func inspectAllocator(path string) Info {
	info := Info{Name: allocatorPlatform, Path: path}
	if p, err := readProvenance(path); err == nil {
		info.Origin, info.SHA256 = p.origin(), p.LibrarySHA256
	}
	switch err := checkLibrary(path, allocatorSymbol); {
	case err != nil:
		info.Reason = err.Error()
	case strings.ContainsAny(path, ": "): // The dynamic linker's separators.
		info.Reason = "its path has a colon or a space, which the dynamic linker takes for the end of it; set XDG_DATA_HOME to another folder"
	default:
		info.Available = true
	}
	return info
}

// installedAllocator returns the allocator that Install put here last.
func installedAllocator() (Info, bool) {
	for _, folder := range installedFolders(dataFolder()) {
		path := filepath.Join(folder, allocatorName)
		if _, err := os.Stat(path); err == nil {
			return inspectAllocator(path), true
		}
	}
	return Info{}, false
}

// AllocatorInfo says which allocator the process has, in a few words, and what to do
// for a faster one; hint is "" where there is nothing to do.
func AllocatorInfo() (name, hint string) {
	if UsesMimalloc() {
		return "mimalloc", ""
	}
	name = "the C library's"
	if !allocatorBuilt {
		return name, ""
	}
	info, installed := installedAllocator()
	switch {
	case installed && !info.Available:
		return name, "install mimalloc again: " + info.Reason
	case installed && os.Getenv(allocatorVariable) == "system":
		return name, ""
	case installed:
		return name, "mimalloc is installed, but LD_PRELOAD or GLIBC_TUNABLES is set, or it cannot be loaded"
	}
	for _, a := range pinned {
		if a.Platform == allocatorPlatform {
			return name, "\"make xla\", or \"pip download --no-deps " + a.Project + "==" + a.Version + "\" and \"scumble backend install WHEEL\": steps on XLA become up to a fifth faster"
		}
	}
	return name, ""
}
