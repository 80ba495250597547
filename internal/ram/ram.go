// Package ram says how much memory this process may still take, and takes: on a
// processor a program that asks for more is killed, not refused.
package ram

import (
	"bufio"
	"bytes"
	"strconv"
	"strings"
)

// group is where a control group keeps its limit and its use of memory.
type group struct{ limit, used string }

// groups returns the memory control groups that a process is in, by the text of
// /proc/self/cgroup, with those above them: each can end the process. Version 1
// has a hierarchy of its own for memory, version 2 one for everything.
func groups(cgroup []byte) []group {
	var all []group
	for s := bufio.NewScanner(bytes.NewReader(cgroup)); s.Scan(); {
		parts := strings.SplitN(s.Text(), ":", 3)
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") {
			continue
		}
		root, limit, used := "/sys/fs/cgroup", "memory.max", "memory.current"
		switch {
		case parts[1] == "memory":
			root, limit, used = "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
		case parts[0] != "0" || parts[1] != "":
			continue
		}
		for path := strings.TrimRight(parts[2], "/"); ; path = path[:strings.LastIndexByte(path, '/')] {
			all = append(all, group{root + path + "/" + limit, root + path + "/" + used})
			if path == "" {
				break
			}
		}
	}
	return all
}

// available returns the bytes of the line "MemAvailable: N kB" of /proc/meminfo.
func available(meminfo []byte) (uint64, bool) {
	for s := bufio.NewScanner(bytes.NewReader(meminfo)); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) == 3 && fields[0] == "MemAvailable:" && fields[2] == "kB" {
			n, err := strconv.ParseUint(fields[1], 10, 53)
			return n << 10, err == nil
		}
	}
	return 0, false
}

// resident returns the resident pages, the second number of /proc/self/statm.
func resident(statm []byte) (uint64, bool) {
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(fields[1]), 10, 40)
	return n, err == nil
}
