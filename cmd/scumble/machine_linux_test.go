package main

import "testing"

func TestParseMeminfo(t *testing.T) {
	total, free, ok := parseMeminfo([]byte("MemTotal:       8000 kB\nMemFree: 1 kB\nMemAvailable:   5000 kB\nHugePages_Total: 0\n"))
	if total != 8000<<10 || free != 5000<<10 || !ok {
		t.Errorf("got %d, %d, %t", total, free, ok)
	}
	for _, bad := range []string{"", "MemTotal: 8000 kB\n", "MemTotal: x kB\nMemAvailable: 1 kB\n", "MemTotal: 99999999999999999999 kB\nMemAvailable: 1 kB\n"} {
		if _, _, ok := parseMeminfo([]byte(bad)); ok {
			t.Errorf("%q: want no answer", bad)
		}
	}
}

func FuzzParseMeminfo(f *testing.F) {
	f.Add([]byte("MemTotal:       8000 kB\nMemFree: 1 kB\nMemAvailable:   5000 kB\n"))
	f.Add([]byte("MemTotal: 9007199254740991 kB\nMemAvailable: 0 kB"))
	f.Fuzz(func(t *testing.T, data []byte) {
		total, free, ok := parseMeminfo(data)
		if total%1024 != 0 || free%1024 != 0 {
			t.Errorf("got %d and %d (%t), want whole kibibytes", total, free, ok)
		}
	})
}
