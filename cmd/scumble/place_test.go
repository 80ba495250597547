package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// entries lists a folder, with what is hidden.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func writeText(text string) func(string) error {
	return func(path string) error { return os.WriteFile(path, []byte(text), 0o644) }
}

func TestPlaceReplacesOnlyByForce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "sheet.png")
	ctx := context.Background()
	if err := place(ctx, path, false, writeText("first")); err != nil {
		t.Fatal(err)
	}
	err := place(ctx, path, false, writeText("second"))
	if got := exitCode(err); got != exitInvalid {
		t.Errorf("a file that exists: %v with exit code %d, want %d", err, got, exitInvalid)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "first" {
		t.Errorf("the file holds %q (%v), want what it held", data, err)
	}
	if err := place(ctx, path, true, writeText("third")); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "third" {
		t.Errorf("the file holds %q (%v), want the third text", data, err)
	}
	if diff := cmp.Diff([]string{"sheet.png"}, entries(t, filepath.Dir(path))); diff != "" {
		t.Errorf("left behind:\n%s", diff)
	}
}

func TestPlaceLeavesNothingOfAFailure(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	broken := errors.New("broken")
	err := place(context.Background(), path, false, func(path string) error {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		if err := writeText("half")(filepath.Join(path, "a")); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("error is %v, want that of the writer", err)
	}
	if diff := cmp.Diff([]string{}, entries(t, dir)); diff != "" {
		t.Errorf("left behind:\n%s", diff)
	}
}

// A writer that knows of no context ends soon after an interrupt, since the
// folder that it writes to goes.
func TestPlaceEndsWithTheContext(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	err := place(ctx, filepath.Join(dir, "out"), false, func(path string) error {
		cancel()
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
			if err := writeText("more")(path); err != nil {
				return err
			}
		}
		return nil
	})
	if got := exitCode(err); got != exitInterrupted {
		t.Errorf("error is %v with exit code %d, want %d", err, got, exitInterrupted)
	}
	if diff := cmp.Diff([]string{}, entries(t, dir)); diff != "" {
		t.Errorf("left behind:\n%s", diff)
	}
}

func TestForceSparesWhatIsNotOurs(t *testing.T) {
	for _, c := range []struct {
		name  string
		files []string
		spare bool
	}{
		{"a data set of ours", []string{"0/000001.png", "1/000001.png"}, false},
		{"IDX files of ours", []string{"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"}, false},
		{"an empty folder", nil, false},
		{"photographs", []string{"cat/DSC0001.png"}, true},
		{"a text among images", []string{"0/000001.png", "0/notes.txt"}, true},
		{"a deeper folder", []string{"0/000001.png/x.png"}, true},
		{"a home", []string{".profile"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out")
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, name := range c.files {
				name = filepath.Join(path, name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := writeText("x")(name); err != nil {
					t.Fatal(err)
				}
			}
			err := place(context.Background(), path, true, writeText("new"))
			if spared := err != nil; spared != c.spare {
				t.Errorf("error is %v, want one: %t", err, c.spare)
			}
			for _, name := range c.files {
				_, err := os.Stat(filepath.Join(path, name))
				if there := err == nil; there != c.spare {
					t.Errorf("%s is there: %t, want %t", name, there, c.spare)
				}
			}
		})
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "set"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("set", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := place(context.Background(), filepath.Join(dir, "link"), true, writeText("new")); err == nil {
		t.Error("a symbolic link was replaced")
	}
}

func TestCopiesAreAsClosedAsTheSource(t *testing.T) {
	t.Chdir(t.TempDir())
	runOK(t, "data", "glyphs", "--out", "private", "--count", "60", "--digits-only", "--format", "idx")
	for _, c := range []struct{ source, folder, file fs.FileMode }{
		{0o755, 0o755, 0o644}, {0o750, 0o750, 0o640}, {0o700, 0o700, 0o600},
	} {
		if err := os.Chmod("private", c.source); err != nil {
			t.Fatal(err)
		}
		runOK(t, "data", "convert", "private", "copy", "--force")
		runOK(t, "data", "sheet", "private", "sheet.png", "--force")
		for path, want := range map[string]fs.FileMode{
			"copy": c.folder, "copy/0": c.folder, "copy/0/000001.png": c.file, "sheet.png": c.file,
		} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm() &^ c.folder; got != 0 {
				t.Errorf("source has mode %o, %s has %o, want no more than %o", c.source, path, info.Mode().Perm(), want)
			}
			if info.Mode().Perm()&0o600 != 0o600 {
				t.Errorf("source has mode %o, %s has %o: the owner cannot use it", c.source, path, info.Mode().Perm())
			}
		}
	}
}
