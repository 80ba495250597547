package pickle

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

// Programs as Python 3 wrote them: pickle.dumps(value, protocol).
func TestValues(t *testing.T) {
	for name, c := range map[string]struct {
		program string
		want    any
	}{
		"none":           {"\x80\x02N.", nil},
		"true":           {"\x80\x02\x88.", true},
		"one byte":       {"\x80\x02K\xff.", int64(255)},
		"two bytes":      {"\x80\x02M\x00\x01.", int64(256)},
		"negative":       {"\x80\x02J\xff\xff\xff\xff.", int64(-1)},
		"long":           {"\x80\x02\x8a\x05\x00\x00\x00\x00\x01.", int64(1) << 32},
		"negative long":  {"\x80\x02\x8a\x05\x00\x00\x00\x00\xff.", -int64(1) << 32},
		"zero long":      {"\x80\x02\x8a\x00.", int64(0)},
		"float":          {"\x80\x02G?\xf0\x00\x00\x00\x00\x00\x00.", 1.0},
		"text":           {"\x80\x02X\x03\x00\x00\x00\xc3\xa4bq\x00.", "\u00e4b"},
		"short text":     {"\x80\x04\x95\x06\x00\x00\x00\x00\x00\x00\x00\x8c\x02ab\x94.", "ab"},
		"text of two":    {"\x80\x02U\x02abq\x00.", "ab"},
		"bytes":          {"\x80\x03C\x02abq\x00.", Bytes("ab")},
		"long bytes":     {"\x80\x02T\x02\x00\x00\x00ab.", Bytes("ab")},
		"tuples":         {"\x80\x02)K\x01\x85K\x02K\x03\x86q\x00\x87q\x01.", Tuple{Tuple{}, Tuple{int64(1)}, Tuple{int64(2), int64(3)}}},
		"tuple of four":  {"\x80\x02(K\x01K\x02K\x03K\x04tq\x00.", Tuple{int64(1), int64(2), int64(3), int64(4)}},
		"list":           {"\x80\x02]q\x00(K\x01K\x02e.", &List{[]any{int64(1), int64(2)}}},
		"list of one":    {"\x80\x02]q\x00K\x01a.", &List{[]any{int64(1)}}},
		"dict":           {"\x80\x02}q\x00(X\x01\x00\x00\x00bK\x01X\x01\x00\x00\x00aK\x02u.", &Dict{[]string{"b", "a"}, map[string]any{"b": int64(1), "a": int64(2)}}},
		"key of bytes":   {"\x80\x03}q\x00C\x01aq\x01K\x02s.", &Dict{[]string{"a"}, map[string]any{"a": int64(2)}}},
		"key of numbers": {"\x80\x02}q\x00K\x01K\x02s.", &Dict{nil, map[string]any{}}},
		"key twice":      {"\x80\x02}(U\x01aK\x01U\x01aK\x02u.", &Dict{[]string{"a"}, map[string]any{"a": int64(2)}}},
		"recalled":       {"\x80\x02K\x07q\x00h\x00\x86.", Tuple{int64(7), int64(7)}},
		"memoized":       {"\x80\x04K\x07\x94h\x00\x86.", Tuple{int64(7), int64(7)}},
		"dropped":        {"\x80\x02K\x07K\x080.", int64(7)},
	} {
		got, err := Run([]byte(c.program), Rules{})
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s is %#v (%v), want %#v", name, got, err, c.want)
		}
	}
}

// Without rules nothing can be named, called, filled or fetched.
func TestNothingIsAllowed(t *testing.T) {
	for name, program := range map[string]string{
		"name":       "\x80\x02cposix\nsystem\n.",
		"stack name": "\x80\x04\x8c\x02os\x8c\x06system\x93.",
		"call":       "\x80\x02N)R.",
		"attributes": "\x80\x02}}b.",
		"stored":     "\x80\x02K\x01\x85Q.",
		"new":        "\x80\x02N)\x81.",
		"instance":   "\x80\x02(i__main__\nx\n.",
		"extension":  "\x80\x02\x82\x01.",
		"lines":      "I1\n.",
	} {
		if _, err := Run([]byte(program), Rules{}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: error is %v, want ErrRefused", name, err)
		}
	}
}

// A call gives what the rules say, with the arguments in order.
func TestRules(t *testing.T) {
	type thing struct{ name, state any }
	rules := Rules{
		Allowed: func(name string) bool { return name == "a.b" },
		Call:    func(f Global, args Tuple) (any, error) { return &thing{name: args[0]}, nil },
		Build:   func(object, state any) error { object.(*thing).state = state; return nil },
	}
	got, err := Run([]byte("\x80\x02ca\nb\nK\x01\x85RK\x02b."), rules)
	if err != nil || !reflect.DeepEqual(got, &thing{int64(1), int64(2)}) {
		t.Errorf("%#v (%v)", got, err)
	}
	if _, err := Run([]byte("\x80\x02ca\nc\n."), rules); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), `"a.c"`) {
		t.Errorf("error is %v", err)
	}
}

func TestDamaged(t *testing.T) {
	for program, want := range map[string]string{
		"": "without STOP", "\x80\x02.": "0 values", "\x80\x02NN.": "2 values", "\x80\x02a.": "not there", "\x80\x02]((K\x01e.": "not there", "\x80\x02u.": "no mark",
		"\x80\x02h\x01.": "not kept", "\x80\x02]K\x01K\x02s.": "puts 2 items", "\x80\x02\x8a\x09123456789.": "9 bytes", "\x80\x02X\xff\xff\xff\x7f": "string of", "\x80\x02B\xff\xff\xff\xff": "STOP",
	} {
		if _, err := Run([]byte(program), Rules{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want one with %q", program, err, want)
		}
	}
}

func FuzzRun(f *testing.F) {
	f.Add([]byte("\x80\x02}q\x00(X\x01\x00\x00\x00bK\x01U\x01a]C\x01aau."))
	f.Add([]byte("\x80\x04ca\nb\n(K\x01K\x02tR\x94N\x86Q."))
	rules := Rules{
		Allowed:    func(string) bool { return true },
		Call:       func(f Global, args Tuple) (any, error) { return NewDict(args) },
		Build:      func(any, any) error { return nil },
		Persistent: func(id Tuple) (any, error) { return id, nil },
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parsebound.Check(t, len(data), func() { _, _ = Run(data, rules) })
	})
}
