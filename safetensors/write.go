package safetensors

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Write writes a file that appears whole or not at all. The same tensors and
// metadata give the same bytes, in whatever order they come: larger elements
// first, which keeps values aligned, then by name.
//
// Metadata always has "format": "pt", without which some readers refuse the
// file; it is added if missing.
func Write(path string, tensors []Tensor, metadata map[string]string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".writing-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := Encode(f, tensors, metadata); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Encode writes what [Write] does to w.
func Encode(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	tensors = slices.Clone(tensors)
	slices.SortStableFunc(tensors, func(a, b Tensor) int {
		if x, y := a.DType.Size(), b.DType.Size(); x != y {
			return y - x
		}
		return strings.Compare(a.Name, b.Name)
	})
	seen := make(map[string]bool, len(tensors))
	for i := range tensors {
		t := &tensors[i]
		if err := t.check(); err != nil {
			return err
		}
		if t.Name == metadataKey || !utf8.ValidString(t.Name) {
			return fmt.Errorf("tensor %q: want another name, in UTF-8", t.Name)
		}
		if seen[t.Name] {
			return fmt.Errorf("tensor %q occurs twice", t.Name)
		}
		seen[t.Name] = true
	}
	all := map[string]string{"format": "pt"}
	maps.Copy(all, metadata)
	for k, v := range all {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("metadata %q: want UTF-8", k)
		}
	}
	header, err := formatHeader(tensors, all)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	out.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header))))
	out.Write(header)
	for i := range tensors {
		out.Write(tensors[i].Data)
	}
	return out.Flush() // It returns the first error of all writes.
}
