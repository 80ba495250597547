package main

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// systemMemory returns the bytes of memory of the machine or, where that is less, of
// the container that this process runs in.
func systemMemory() (total, free uint64, ok bool) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, false
	}
	total, free, ok = parseMeminfo(data)
	limit, limited := readNumber("/sys/fs/cgroup/memory.max")
	if !ok || !limited || limit >= total {
		return total, free, ok
	}
	total = limit
	if used, ok := readNumber("/sys/fs/cgroup/memory.current"); ok {
		free = min(free, limit-min(used, limit))
	}
	return total, min(free, total), true
}

// parseMeminfo reads the lines "MemTotal: N kB" and "MemAvailable: N kB".
func parseMeminfo(data []byte) (total, free uint64, ok bool) {
	found := 0
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		n, err := strconv.ParseUint(fields[1], 10, 53)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "MemTotal:":
			total, found = n<<10, found|1
		case "MemAvailable:":
			free, found = n<<10, found|2
		}
	}
	return total, free, found == 3
}

func readNumber(path string) (uint64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n, err == nil
}

// freeDisk returns the bytes that this user may still write in dir.
func freeDisk(dir string) (uint64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return s.Bavail * uint64(s.Bsize), true
}
