package ram

import (
	"runtime"
	"slices"
	"testing"
)

func TestGroups(t *testing.T) {
	const v1, v2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"
	for _, c := range []struct {
		name, text string
		want       []string // Limits.
	}{
		{"version 1", "9:name=systemd:/x\n4:memory:/a/b\n3:cpuset:/\n",
			[]string{v1 + "/a/b/memory.limit_in_bytes", v1 + "/a/memory.limit_in_bytes", v1 + "/memory.limit_in_bytes"}},
		{"version 2", "0::/user.slice\n", []string{v2 + "/user.slice/memory.max", v2 + "/memory.max"}},
		{"both, at the root", "4:memory:/\n0::/\n", []string{v1 + "/memory.limit_in_bytes", v2 + "/memory.max"}},
		{"name with a colon", "0::/a:b\n", []string{v2 + "/a:b/memory.max", v2 + "/memory.max"}},
		{"nonsense", "memory\n1:memory:relative\n\x00::\n", nil},
	} {
		var got []string
		for _, g := range groups([]byte(c.text)) {
			got = append(got, g.limit)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: limits %q, want %q", c.name, got, c.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	if n, ok := available([]byte("MemTotal: 100 kB\nMemAvailable:   7 kB\n")); !ok || n != 7<<10 {
		t.Errorf("available is %d, %t, want 7 KiB", n, ok)
	}
	if n, ok := resident([]byte("90 12 3 4\n")); !ok || n != 12 {
		t.Errorf("resident is %d, %t, want 12 pages", n, ok)
	}
	for _, text := range []string{"", "MemAvailable: x kB", "MemAvailable: 1 MB", "1"} {
		if _, ok := available([]byte(text)); ok {
			t.Errorf("%q is taken for free memory", text)
		}
	}
	for _, text := range []string{"", "1", "1 x 3"} {
		if _, ok := resident([]byte(text)); ok {
			t.Errorf("%q is taken for pages", text)
		}
	}
}

// What is held and touched is resident, and no longer free.
func TestTakenMemoryIsSeen(t *testing.T) {
	before, ok := Resident()
	if !ok {
		if runtime.GOOS == "linux" {
			t.Error("linux does not say what is resident")
		}
		t.Skip("left out, since this system does not say")
	}
	if free, ok := Free(); !ok || free == 0 {
		t.Errorf("free memory is %d, %t", free, ok)
	}
	const size = 64 << 20
	held := make([]byte, size)
	for i := 0; i < size; i += 512 {
		held[i] = 1
	}
	after, _ := Resident()
	if after < before+size/2 {
		t.Errorf("64 MiB more are held, resident grew from %d to %d MiB", before>>20, after>>20)
	}
	runtime.KeepAlive(held)
}

func FuzzProc(f *testing.F) {
	f.Add([]byte("4:memory:/a/b\n0::/"))
	f.Add([]byte("MemAvailable:   7 kB\n"))
	f.Add([]byte("90 12 3 4\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		available(data)
		resident(data)
		for _, g := range groups(data) {
			if g.limit == "" || g.used == "" {
				t.Error("a group without files")
			}
		}
	})
}
