package wholefile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A file that cannot be finished leaves the old one as it was, and nothing
// beside it.
func TestFailureLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := Write(path, 0o600, []byte("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := Create(path, 0o644, func(w io.Writer) error {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("error is %v, want the writer's", err)
	}
	check(t, dir, path, "old", 0o600)
	if err := Write(path, 0o644, []byte("new")); err != nil {
		t.Fatal(err)
	}
	check(t, dir, path, "new", 0o644)
	if err := Write(filepath.Join(dir, "missing", "a"), 0o644, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error in a folder that is not there is %v", err)
	}
}

func check(t *testing.T, dir, path, want string, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("file holds %q, %v, want %q", got, err, want)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != mode {
		t.Errorf("mode is %v, %v, want %v", info.Mode(), err, mode)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("folder holds %v, %v, want one file", entries, err)
	}
}
