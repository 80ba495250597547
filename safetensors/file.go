package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// ErrNotFound is matched by the error of a tensor that a file does not have.
var ErrNotFound = errors.New("no such tensor")

// Tensor is a named array.
type Tensor struct {
	Name  string
	DType DType
	Shape []int  // Outermost first; empty for a scalar.
	Data  []byte // Little-endian values, the last dimension varying fastest.
}

// check says whether data, type and shape agree.
func (t *Tensor) check() error {
	size := t.DType.Size()
	if size == 0 {
		return fmt.Errorf("tensor %q: %w: %q", t.Name, ErrUnsupported, t.DType)
	}
	elements := 1
	if slices.Contains(t.Shape, 0) {
		elements = 0
	}
	for _, n := range t.Shape {
		if n < 0 || (n > 0 && elements > len(t.Data)/n) {
			return fmt.Errorf("tensor %q: shape %v does not fit %d bytes", t.Name, t.Shape, len(t.Data))
		}
		elements *= n
	}
	if elements*size != len(t.Data) {
		return fmt.Errorf("tensor %q: %d bytes of values, want %d of shape %v and type %s", t.Name, len(t.Data), elements*size, t.Shape, t.DType)
	}
	return nil
}

// File is an open file, of which tensors are read one at a time. It is safe for
// concurrent use until Close.
type File struct {
	values io.ReaderAt // The values begin at start.
	start  int64
	header *header
	mapped []byte // All values, where the file is mapped into memory; else nil.
	close  func() error
}

// Open reads the header of a file. Close it after use.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open weights: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open weights: %w", err)
	}
	out, err := newFile(f, info.Size())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	out.close = f.Close
	if data, unmap, err := mapFile(f, info.Size()); err == nil {
		out.mapped = data[out.start:]
		out.close = func() error { return errors.Join(unmap(), f.Close()) }
	}
	return out, nil
}

// newFile reads the header of a file of size bytes.
func newFile(r io.ReaderAt, size int64) (*File, error) {
	if size < 8 {
		return nil, broken("%d bytes, want at least 8", size)
	}
	var length [8]byte
	if _, err := r.ReadAt(length[:], 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > maxHeader {
		return nil, broken("header of %d bytes, want at most %d", n, maxHeader)
	}
	if n > uint64(size-8) {
		return nil, broken("header of %d bytes in a file of %d", n, size)
	}
	text := make([]byte, n)
	if _, err := r.ReadAt(text, 8); err != nil && !(err == io.EOF && n == 0) {
		return nil, err
	}
	h, err := parseHeader(text, size-8-int64(n))
	if err != nil {
		return nil, err
	}
	return &File{values: r, start: 8 + int64(n), header: h, close: func() error { return nil }}, nil
}

// Close closes the file.
func (f *File) Close() error { return f.close() }

// Names returns the names of the tensors in the order of their values.
func (f *File) Names() []string { return slices.Clone(f.header.names) }

// Metadata returns the file's own strings; empty if it has none.
func (f *File) Metadata() map[string]string {
	out := map[string]string{}
	maps.Copy(out, f.header.metadata)
	return out
}

// Has says whether the file has a tensor of that name.
func (f *File) Has(name string) bool { _, ok := f.header.entries[name]; return ok }

// Info returns the type and shape of a tensor without reading its values.
func (f *File) Info(name string) (DType, []int, error) {
	e, ok := f.header.entries[name]
	if !ok {
		return "", nil, fmt.Errorf("tensor %q: %w", name, ErrNotFound)
	}
	return e.dtype, slices.Clone(e.shape), nil
}

// Tensor reads one tensor.
func (f *File) Tensor(name string) (Tensor, error) {
	e, ok := f.header.entries[name]
	if !ok {
		return Tensor{}, fmt.Errorf("tensor %q: %w", name, ErrNotFound)
	}
	if e.dtype.Size() == 0 {
		return Tensor{}, fmt.Errorf("tensor %q: %w: %q; convert it to F32, F16 or BF16", name, ErrUnsupported, e.dtype)
	}
	t := Tensor{Name: name, DType: e.dtype, Shape: slices.Clone(e.shape), Data: make([]byte, e.end-e.begin)}
	if n, err := f.values.ReadAt(t.Data, f.start+e.begin); n < len(t.Data) {
		return Tensor{}, fmt.Errorf("read tensor %q: %w", name, err)
	}
	return t, nil
}

// View is Tensor without a copy: where the file is mapped into memory, Data is
// that memory, which must not be written to and ends with Close. It must not
// be used where somebody may cut the file short meanwhile.
func (f *File) View(name string) (Tensor, error) {
	e, ok := f.header.entries[name]
	if !ok || f.mapped == nil || e.dtype.Size() == 0 {
		return f.Tensor(name)
	}
	return Tensor{Name: name, DType: e.dtype, Shape: slices.Clone(e.shape), Data: f.mapped[e.begin:e.end:e.end]}, nil
}

// Read reads all tensors of a file, in the order of their values, and its
// metadata.
func Read(path string) ([]Tensor, map[string]string, error) {
	f, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	out := make([]Tensor, 0, len(f.header.names))
	for _, name := range f.header.names {
		t, err := f.Tensor(name)
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", path, err)
		}
		out = append(out, t)
	}
	return out, f.Metadata(), nil
}
