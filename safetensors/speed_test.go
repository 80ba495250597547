//go:build unix

package safetensors

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// large writes a file of about megabytes in tensors of 4 MB.
func large(t testing.TB, megabytes int) string {
	t.Helper()
	values := make([]float32, 1<<20)
	for i := range values {
		values[i] = float32(i)
	}
	var list []Tensor
	for i := range megabytes / 4 {
		list = append(list, FromFloat32s(string(rune('a'+i%26))+string(rune('a'+i/26)), []int{1 << 10, 1 << 10}, values))
	}
	path := filepath.Join(t.TempDir(), "large.safetensors")
	if err := Write(path, list, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// cpu is the processor time of this process.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Reading every tensor as float32 costs at most 1.5 times of a plain read of the
// file, in processor time, median of seven with the file in the page cache.
func TestReadSpeed(t *testing.T) {
	if os.Getenv("SCUMBLE_SLOW") == "" {
		t.Skip("left out, since it writes 500 MB; SCUMBLE_SLOW=1 runs it")
	}
	path := large(t, 500)
	plain := func() {
		if _, err := os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	ours := func() {
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, name := range f.Names() {
			x, err := f.View(name)
			if err != nil {
				t.Fatal(err)
			}
			v, err := x.Float32s()
			if err != nil || v[5] != 5 {
				t.Fatal(err)
			}
		}
	}
	var times [2][]time.Duration
	for range 7 {
		for i, read := range []func(){plain, ours} {
			begin := cpu(t)
			read()
			times[i] = append(times[i], cpu(t)-begin)
		}
	}
	for i := range times {
		slices.Sort(times[i])
	}
	ratio := float64(times[1][3]) / float64(times[0][3])
	t.Logf("plain read %v, tensors %v: %.2f times", times[0][3], times[1][3], ratio)
	if !(ratio <= 1.5) {
		t.Errorf("reading tensors takes %.2f times of a plain read, want at most 1.5", ratio)
	}
}

// A view holds the same bytes as a copy.
func TestView(t *testing.T) {
	path := large(t, 8)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range f.Names() {
		a, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := f.View(name)
		if err != nil || !slices.Equal(a.Data, b.Data) || !slices.Equal(a.Shape, b.Shape) || a.DType != b.DType {
			t.Errorf("%s: view differs (%v)", name, err)
		}
		if cap(b.Data) != len(b.Data) {
			t.Errorf("%s: a view can grow into the next tensor", name)
		}
	}
	if _, err := f.View("none"); err == nil {
		t.Error("a view of nothing")
	}
	bad := Tensor{Name: "x", DType: F32, Shape: []int{1}, Data: []byte{0, 0, 192, 127}}
	if v, err := bad.Float32s(); err != nil || !math.IsNaN(float64(v[0])) {
		t.Errorf("NaN reads as %v (%v)", v, err)
	}
}
