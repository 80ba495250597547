//go:build !linux

package main

// systemMemory and freeDisk are not known here.
func systemMemory() (total, free uint64, ok bool) { return 0, 0, false }

func freeDisk(string) (uint64, bool) { return 0, false }
