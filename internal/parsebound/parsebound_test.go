package parsebound

import "testing"

var sink []byte

// recorder notes a failure and ends the call as Fatalf does.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper() {}
func (r *recorder) Fatalf(string, ...any) {
	r.failed = true
	panic(r)
}

func failed(t testing.TB, size int, parse func()) bool {
	r := &recorder{TB: t}
	func() {
		defer func() {
			if v := recover(); v != nil && v != any(r) {
				panic(v)
			}
		}()
		Check(r, size, parse)
	}()
	return r.failed
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		size int
		want bool
		run  func()
	}{
		"nothing":     {0, false, func() {}},
		"constant":    {0, false, func() { sink = make([]byte, Constant-1<<16) }},
		"four times":  {1 << 20, false, func() { sink = make([]byte, 4<<20) }},
		"too much":    {1 << 20, true, func() { sink = make([]byte, 6<<20) }},
		"in pieces":   {1 << 10, true, func() { sink = nil; grow(2 << 20) }},
		"let go soon": {1 << 10, true, func() { grow(2 << 20); sink = nil }},
	} {
		if got := failed(t, c.size, c.run); got != c.want {
			t.Errorf("%s: fails %v, want %v", name, got, c.want)
		}
	}
}

// grow allocates n bytes in small pieces.
func grow(n int) {
	for range n / 64 {
		sink = make([]byte, 64)
	}
}
