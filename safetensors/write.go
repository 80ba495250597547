package safetensors

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/scumble-dp/scumble/internal/wholefile"
)

// Write writes a file that appears whole or not at all. The same tensors and
// metadata give the same bytes, in whatever order they come: larger elements
// first, which keeps values aligned, then by name.
//
// Metadata always has "format": "pt", without which some readers refuse the
// file; it is added if missing.
func Write(path string, tensors []Tensor, metadata map[string]string) error {
	err := wholefile.Create(path, 0o644, func(w io.Writer) error { return Encode(w, tensors, metadata) })
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
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
