package torchfile

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/scumble-dp/scumble/internal/pickle"
	"github.com/scumble-dp/scumble/safetensors"
)

// ErrNotFound is matched by the error of a tensor that a file does not have.
var ErrNotFound = errors.New("no such tensor")

// File is an open file, of which tensors are read one at a time.
type File struct {
	archive *zip.Reader
	size    int64  // Of the whole file.
	folder  string // Of the archive.
	big     bool   // Values are big-endian.
	names   []string
	tensors map[string]*Tensor
	close   func() error
}

// Open reads what tensors a file has. Close it after use. Of a file that holds a
// dictionary "state_dict" those are its tensors; else those of the whole object,
// whose nested dictionaries are joined with dots.
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
	return out, nil
}

// maxEntries bounds the files of an archive: one per storage.
const maxEntries = 1 << 20

func newFile(r io.ReaderAt, size int64) (*File, error) {
	archive, err := zip.NewReader(r, size)
	if errors.Is(err, zip.ErrFormat) {
		return nil, fmt.Errorf("not a zip archive, as torch.save writes since version 1.6; load it with torch and save it again: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if len(archive.File) > maxEntries {
		return nil, fmt.Errorf("archive has %d files, want at most %d", len(archive.File), maxEntries)
	}
	f := &File{archive: archive, size: size, tensors: map[string]*Tensor{}, close: func() error { return nil }}
	var program []byte
	for _, e := range archive.File {
		folder, name := path.Split(e.Name)
		switch {
		case name == "data.pkl" && program == nil:
			f.folder = folder
			if program, err = f.read(e.Name, maxPickle); err != nil {
				return nil, err
			}
		case name == "byteorder":
			order, err := f.read(e.Name, 16)
			if err != nil {
				return nil, err
			}
			f.big = strings.TrimSpace(string(order)) == "big"
		}
	}
	if program == nil {
		return nil, errors.New("archive has no data.pkl, want a file of torch.save")
	}
	root, err := unpickle(program)
	if err != nil {
		return nil, err
	}
	if d, ok := root.(*pickle.Dict); ok {
		if state, ok := d.Values["state_dict"].(*pickle.Dict); ok {
			root = state
		}
	}
	f.collect("", root, map[*pickle.Dict]bool{})
	if len(f.names) == 0 {
		return nil, errors.New("file holds no tensors in a dictionary")
	}
	return f, nil
}

// collect names the tensors below a value. A dictionary counts once: a pickle can
// nest one in itself, or double its paths with every level.
func (f *File) collect(prefix string, v any, seen map[*pickle.Dict]bool) {
	switch x := v.(type) {
	case *Tensor:
		if _, there := f.tensors[prefix]; !there && prefix != "" {
			f.names = append(f.names, prefix)
			f.tensors[prefix] = x
		}
	case *pickle.Dict:
		if seen[x] {
			return
		}
		seen[x] = true
		for _, key := range x.Keys {
			name := key
			if prefix != "" {
				name = prefix + "." + key
			}
			f.collect(name, x.Values[key], seen)
		}
	}
}

// read returns a whole file of the archive, which torch stores without
// compression: nothing can grow beyond what the archive holds.
func (f *File) read(name string, limit uint64) ([]byte, error) {
	e, err := f.entry(name)
	if err != nil {
		return nil, err
	}
	if e.UncompressedSize64 > uint64(f.size) {
		return nil, fmt.Errorf("%s has %d bytes in a file of %d", name, e.UncompressedSize64, f.size)
	}
	if e.UncompressedSize64 > limit {
		return nil, fmt.Errorf("%s has %d bytes, want at most %d", name, e.UncompressedSize64, limit)
	}
	r, err := e.OpenRaw()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	data := make([]byte, e.UncompressedSize64)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

func (f *File) entry(name string) (*zip.File, error) {
	for _, e := range f.archive.File {
		if e.Name != name {
			continue
		}
		if e.Method != zip.Store || e.CompressedSize64 != e.UncompressedSize64 {
			return nil, fmt.Errorf("%s is compressed, want it stored, as torch does", name)
		}
		return e, nil
	}
	return nil, fmt.Errorf("archive has no file %s", name)
}

// Close closes the file.
func (f *File) Close() error { return f.close() }

// Names returns the names of the tensors in the order of the file.
func (f *File) Names() []string { return append([]string(nil), f.names...) }

// Info returns type and shape of a tensor without reading its values.
func (f *File) Info(name string) (safetensors.DType, []int, error) {
	t, ok := f.tensors[name]
	if !ok {
		return "", nil, fmt.Errorf("tensor %q: %w", name, ErrNotFound)
	}
	return t.DType, append([]int(nil), t.Shape...), nil
}

// Float32s reads a tensor as float32, in the layout of PyTorch. All values must be
// finite.
func (f *File) Float32s(name string) ([]int, []float32, error) {
	t, ok := f.tensors[name]
	if !ok {
		return nil, nil, fmt.Errorf("tensor %q: %w", name, ErrNotFound)
	}
	storage := f.folder + "data/" + t.key
	size := uint64(t.elements) * uint64(t.DType.Size())
	data, err := f.read(storage, size)
	if err != nil {
		return nil, nil, fmt.Errorf("tensor %q: %w", name, err)
	}
	if uint64(len(data)) != size {
		return nil, nil, fmt.Errorf("tensor %q: storage %s has %d bytes, want %d", name, storage, len(data), size)
	}
	if f.big {
		swap(data, t.DType.Size())
	}
	raw := safetensors.Tensor{Name: name, DType: t.DType, Shape: t.Shape, Data: t.gather(data)}
	values, err := raw.Float32s()
	if err == nil {
		err = finite(values)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("tensor %q: %w", name, err)
	}
	return append([]int(nil), t.Shape...), values, nil
}
