//go:build !linux

package ram

// Free returns false: this system is not asked.
func Free() (bytes uint64, ok bool) { return 0, false }

// Resident returns false: this system is not asked.
func Resident() (bytes uint64, ok bool) { return 0, false }
