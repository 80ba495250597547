//go:build cgo && !noxla

package backend

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A text is found wherever it lies, also across two of the pieces that are read.
func TestHolds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugin.so")
	const piece = 4 << 20
	for _, at := range []int{-1, 0, 100, piece - 5, piece, 2*piece - len(libraryFusions) - 7, 2*piece + 100} {
		data := bytes.Repeat([]byte{'x'}, 2*piece+200)
		if at >= 0 {
			copy(data[at:], libraryFusions)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := holds(path, libraryFusions); err != nil || got != (at >= 0) {
			t.Errorf("text at byte %d: found is %t (%v)", at, got, err)
		}
	}
}

// A plugin gets only options that it knows, else it could not be opened.
func TestClientOptions(t *testing.T) {
	for text, want := range map[string][]string{
		"": nil,
		"asynchronous set via create_options: ...":                                          {"asynchronous"},
		"cpu_device_count set via create_options: ...asynchronous set via create_options: ": {"asynchronous", "cpu_device_count"},
		"asynchronous, cpu_device_count":                                                    nil,
	} {
		path := filepath.Join(t.TempDir(), "plugin.so")
		if err := os.WriteFile(path, []byte("..."+text), 0o600); err != nil {
			t.Fatal(err)
		}
		options, err := clientOptions(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(options)); !slices.Equal(got, want) {
			t.Errorf("a plugin that says %q is opened with %q, want %q", text, got, want)
		}
	}
	if _, err := clientOptions(filepath.Join(t.TempDir(), "nowhere")); err == nil {
		t.Error("a plugin that is not there is read")
	}
}

// A plugin gets only flags that it knows; what the user chose stays.
func TestSetFlags(t *testing.T) {
	known, unknown := filepath.Join(t.TempDir(), "new.so"), filepath.Join(t.TempDir(), "old.so")
	if err := os.WriteFile(known, []byte("..."+libraryFusions+"..."), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(unknown, []byte("..."), 0o600); err != nil {
		t.Fatal(err)
	}
	own := "--" + libraryFusions + "=reduce"
	for _, c := range []struct {
		path, flags string
		want, not   string
	}{
		{known, "--xla_a=1", "--xla_a=1 --" + libraryFusions + "=individual_dot,individual_convolution", "multi_thread"},
		{unknown, "--xla_a=1", "--xla_a=1", libraryFusions},
		{known, own, own, "individual_dot"},
	} {
		t.Setenv("XLA_FLAGS", c.flags)
		if err := setFlags(c.path); err != nil {
			t.Fatal(err)
		}
		if got := os.Getenv("XLA_FLAGS"); got != c.want || strings.Contains(got, c.not) {
			t.Errorf("%s becomes %s, want %s", c.flags, got, c.want)
		}
	}
	t.Setenv("XLA_FLAGS", "")
	if err := setFlags(filepath.Join(t.TempDir(), "nowhere")); err == nil {
		t.Error("a plugin that is not there is read")
	}
}
