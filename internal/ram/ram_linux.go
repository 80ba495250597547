package ram

import (
	"os"
	"strconv"
	"strings"
)

// Free returns the bytes that this process may still take: those of the machine,
// or fewer where a control group limits it. ok is false where the system does
// not say.
func Free() (bytes uint64, ok bool) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	if bytes, ok = available(data); !ok {
		return 0, false
	}
	data, err = os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return bytes, true
	}
	for _, g := range groups(data) {
		limit, limited := number(g.limit)
		used, known := number(g.used)
		if limited && known {
			bytes = min(bytes, limit-min(used, limit))
		}
	}
	return bytes, true
}

// Resident returns the bytes of memory that this process takes now. ok is false
// where the system does not say.
func Resident() (bytes uint64, ok bool) {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	pages, ok := resident(data)
	return pages * uint64(os.Getpagesize()), ok
}

// number reads a file with one number in it; "max" is none.
func number(path string) (uint64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}
