package backend

import (
	"fmt"
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
	if !info.asInstalled() {
		return info
	}
	// It is small, and every start loads it, so its contents are looked at each time.
	if digest, err := digestOfFile(path); err != nil || digest != info.SHA256 {
		info.Reason = "the file is not the one that was installed; install it again"
		return info
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
	if a, ok := pinnedHere(allocatorPlatform); ok {
		return name, fmt.Sprintf("steps on XLA become up to a fifth faster by \"make xla\", or \"pip download --no-deps %s==%s\" and \"scumble backend install WHEEL\"", a.Project, a.Version)
	}
	return name, ""
}
