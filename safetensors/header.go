package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

var (
	// ErrBroken is matched by the error of a file that breaks the format.
	ErrBroken = errors.New("broken safetensors file")

	// ErrUnsupported is matched by the error of a sound tensor whose element
	// type we lack.
	ErrUnsupported = errors.New("element type not supported")
)

// maxHeader bounds the JSON header, as the reference implementation does.
const maxHeader = 100_000_000

const metadataKey = "__metadata__"

// entry is where a tensor lies.
type entry struct {
	dtype      DType
	shape      []int
	begin, end int64 // Bytes from the end of the header.
}

// header is a parsed header.
type header struct {
	entries  map[string]entry
	names    []string // In the order of their values.
	metadata map[string]string
}

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBroken, fmt.Sprintf(format, args...))
}

// parseHeader parses and checks a header whose values are size bytes long.
func parseHeader(text []byte, size int64) (*header, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, broken("header does not start with '{'")
	}
	if !utf8.Valid(text) {
		return nil, broken("header is not UTF-8")
	}
	h := &header{entries: map[string]entry{}}
	// encoding/json keeps the last of two equal keys; we must refuse both, so
	// the outer object is read key by key.
	d := json.NewDecoder(bytes.NewReader(text))
	if _, err := d.Token(); err != nil {
		return nil, broken("header: %v", err)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, broken("header: %v", err)
		}
		name := key.(string) // The decoder gives nothing else in this place.
		if name == metadataKey {
			if h.metadata != nil {
				return nil, broken("%s occurs twice", metadataKey)
			}
			if h.metadata, err = parseMetadata(d); err != nil {
				return nil, err
			}
			continue
		}
		if _, ok := h.entries[name]; ok {
			return nil, broken("tensor %q occurs twice", name)
		}
		e, err := parseEntry(d, name, size)
		if err != nil {
			return nil, err
		}
		h.entries[name] = e
		h.names = append(h.names, name)
	}
	if _, err := d.Token(); err != nil {
		return nil, broken("header: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, broken("header has text after its end")
	}
	return h, h.checkLayout(size)
}

// parseMetadata reads the metadata; null stands for none.
func parseMetadata(d *json.Decoder) (map[string]string, error) {
	var raw map[string]*string
	if err := d.Decode(&raw); err != nil {
		return nil, broken("%s is not a map from strings to strings", metadataKey)
	}
	out := make(map[string]string, len(raw))
	for k, v := range raw {
		if v == nil {
			return nil, broken("%s is not a map from strings to strings", metadataKey)
		}
		out[k] = *v
	}
	return out, nil
}

// rawEntry is an entry as written. Its keys are read one by one, since
// encoding/json ignores their case and takes the last of two equal ones.
type rawEntry struct {
	dtype          *DType
	shape, offsets []*int64 // An element is nil for JSON's null.
}

func (raw *rawEntry) parse(d *json.Decoder) error {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("want an object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var target any = new(json.RawMessage) // Other keys are passed over.
		twice := false
		switch key {
		case "dtype":
			target, twice = &raw.dtype, raw.dtype != nil
		case "shape":
			target, twice = &raw.shape, raw.shape != nil
		case "data_offsets":
			target, twice = &raw.offsets, raw.offsets != nil
		}
		if twice {
			return fmt.Errorf("%s occurs twice", key)
		}
		if err := d.Decode(target); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

func parseEntry(d *json.Decoder, name string, size int64) (entry, error) {
	var raw rawEntry
	if err := raw.parse(d); err != nil {
		return entry{}, broken("tensor %q: %v", name, err)
	}
	if raw.dtype == nil || raw.shape == nil || len(raw.offsets) != 2 {
		return entry{}, broken("tensor %q: want dtype, shape and two data_offsets", name)
	}
	if slices.Contains(raw.shape, nil) || slices.Contains(raw.offsets, nil) {
		return entry{}, broken("tensor %q: null in shape or data_offsets", name)
	}
	e := entry{dtype: *raw.dtype, shape: []int{}, begin: *raw.offsets[0], end: *raw.offsets[1]}
	if e.begin < 0 || e.end < e.begin || e.end > size {
		return entry{}, broken("tensor %q: data_offsets [%d, %d], want an interval in [0, %d]", name, e.begin, e.end, size)
	}
	bits, ok := e.dtype.bits()
	if !ok {
		return entry{}, broken("tensor %q: no such element type: %q", name, e.dtype)
	}
	// elements stays at most 8·size, or the shape is refused: no overflow.
	elements, limit := int64(1), 8*max(size, 1)
	for _, n := range raw.shape {
		if *n < 0 {
			return entry{}, broken("tensor %q: size %d in its shape, want none below 0", name, *n)
		}
		e.shape = append(e.shape, int(*n))
	}
	if slices.Contains(e.shape, 0) {
		elements = 0
	} else {
		for _, n := range raw.shape {
			if *n > limit/elements {
				return entry{}, broken("tensor %q: shape %v is larger than the file", name, e.shape)
			}
			elements *= *n
		}
	}
	// At most 64·8·size bits: files are well below 2^54 bytes.
	if total := elements * bits; total%8 != 0 || total/8 != e.end-e.begin {
		return entry{}, broken("tensor %q: %d bytes of values, want %d elements of %d bits", name, e.end-e.begin, elements, bits)
	}
	return e, nil
}

// checkLayout refuses overlaps and holes, and sorts names by place.
func (h *header) checkLayout(size int64) error {
	slices.SortFunc(h.names, func(a, b string) int {
		x, y := h.entries[a], h.entries[b]
		switch {
		case x.begin != y.begin:
			return compare(x.begin, y.begin)
		case x.end != y.end: // Empty tensors first.
			return compare(x.end, y.end)
		}
		return compare(a, b)
	})
	at := int64(0)
	for _, name := range h.names {
		e := h.entries[name]
		if e.begin != at {
			return broken("tensor %q begins at %d, but the one before it ends at %d", name, e.begin, at)
		}
		at = e.end
	}
	if at != size {
		return broken("tensors fill %d bytes of values, the file has %d", at, size)
	}
	return nil
}

func compare[T int64 | string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// formatHeader returns the header of tensors that lie one after the other,
// padded with spaces to a multiple of 8 bytes.
func formatHeader(tensors []Tensor, metadata map[string]string) ([]byte, error) {
	var b bytes.Buffer
	write := func(v any) error {
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1) // The encoder's newline.
		return nil
	}
	b.WriteString(`{"` + metadataKey + `":`)
	if err := write(metadata); err != nil { // Keys come out sorted.
		return nil, err
	}
	at := 0
	for _, t := range tensors {
		b.WriteByte(',')
		if err := write(t.Name); err != nil {
			return nil, err
		}
		shape := t.Shape
		if shape == nil {
			shape = []int{} // A scalar; null is not allowed.
		}
		b.WriteByte(':')
		if err := write(struct {
			DType   DType  `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}{t.DType, shape, [2]int{at, at + len(t.Data)}}); err != nil {
			return nil, err
		}
		at += len(t.Data)
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > maxHeader {
		return nil, fmt.Errorf("header is %d bytes, want at most %d; write several files", b.Len(), maxHeader)
	}
	return b.Bytes(), nil
}
