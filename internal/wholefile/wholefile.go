// Package wholefile writes files that appear whole or not at all: a crash, a full
// disk or an error half-way leaves what was there before.
package wholefile

import (
	"bufio"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Create writes path by write, in place of a file that is there. The content is on
// disk before the name is; the temporary file, beside it under the name
// ".writing-*", does not stay.
func Create(path string, mode fs.FileMode, write func(w io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".writing-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriter(f)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
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

// Write is Create with the content at hand.
func Write(path string, mode fs.FileMode, data []byte) error {
	return Create(path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
