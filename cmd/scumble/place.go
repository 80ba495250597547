package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/dataset"
)

// checkFree reports that something is at path already, unless it may be
// replaced: only what a data command makes may be, even by force.
func checkFree(path string, force bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !force:
		return invalid(withHint(fmt.Errorf("%s exists", path), "choose another place, or replace it with --force"))
	case info.Mode().IsRegular():
		return nil
	case info.IsDir() && holdsOnlyImages(path):
		return nil
	}
	return invalid(withHint(fmt.Errorf("%s holds more than a data set, so --force does not replace it", path),
		"choose another place, or remove it yourself"))
}

// madeByUs matches the names that dataset.WriteFolder and writeSet give.
var madeByUs = regexp.MustCompile(`^[0-9]{6,}\.png$|-ubyte\.gz$`)

// holdsOnlyImages says whether a folder holds nothing but IDX files or class
// folders of pictures named as we name them.
func holdsOnlyImages(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if !e.IsDir() {
			if !e.Type().IsRegular() || !madeByUs.MatchString(e.Name()) {
				return false
			}
			continue
		}
		pictures, err := os.ReadDir(filepath.Join(dir, e.Name()))
		if err != nil {
			return false
		}
		for _, p := range pictures {
			if !p.Type().IsRegular() || !madeByUs.MatchString(p.Name()) {
				return false
			}
		}
	}
	return true
}

// place makes path appear whole or not at all: write gets a path beside it in
// a folder that only the user may enter, and what it leaves there is renamed.
// When ctx ends first, nothing is left.
func place(ctx context.Context, path string, force bool, write func(path string) error) error {
	path = filepath.Clean(path)
	if err := checkFree(path, force); err != nil {
		return err
	}
	parent := filepath.Dir(path)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	hidden, err := os.MkdirTemp(parent, ".writing-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(hidden)
	staged, old := filepath.Join(hidden, filepath.Base(path)), filepath.Join(hidden, ".old")
	if err := writeUntil(ctx, hidden, func() error { return write(staged) }); err != nil {
		return err
	}
	if err := checkFree(path, force); err != nil { // It took a while.
		return err
	}
	err = os.Rename(path, old)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	replacing := err == nil
	if err := os.Rename(staged, path); err != nil {
		if replacing {
			return errors.Join(err, os.Rename(old, path))
		}
		return err
	}
	return nil
}

// writeUntil runs write, which cannot be interrupted, and when ctx ends takes
// away the folder that it writes to.
func writeUntil(ctx context.Context, folder string, write func() error) error {
	done := make(chan error, 1)
	go func() { done <- write() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		// A file made during the removal may stay; the caller removes the
		// folder once more when write has failed for want of it.
		_ = os.RemoveAll(folder)
		<-done
		return ctx.Err()
	}
}

// keepClosed takes from what was made at path, and from all below it, the
// rights of the group and of others that the source does not give them either:
// a copy of private images is not more open than the images.
func keepClosed(path, source string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	rights := fs.FileMode(0o700)
	if info.Mode()&0o040 != 0 {
		rights |= 0o070
	}
	if info.Mode()&0o004 != 0 {
		rights |= 0o007
	}
	return filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode().Perm()&rights)
	})
}

// exactly makes a command take the named arguments, no fewer and no more.
func exactly(names ...string) cobra.PositionalArgs {
	return arguments(func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s is missing", names[len(args)])
		case len(args) > len(names):
			return fmt.Errorf("%q is one argument too many, want %s", args[len(names)], strings.Join(names, " and "))
		}
		return nil
	})
}

// writeSet writes a data set as "folder" or "idx". In an IDX folder the files
// are named after the split.
func writeSet(path, format string, split dataset.Split, s *dataset.Set) error {
	if s.Captions != nil {
		return dataset.WriteCaptions(path, s)
	}
	if format == "folder" {
		return dataset.WriteFolder(path, s)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	kind := "idx3"
	if s.Channels != 1 {
		kind = "idx4"
	}
	return dataset.WriteIDX(
		filepath.Join(path, fmt.Sprintf("%s-images-%s-ubyte.gz", split, kind)),
		filepath.Join(path, fmt.Sprintf("%s-labels-idx1-ubyte.gz", split)), s)
}
