package finetune

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrPlace is what errors wrap when a run directory cannot be made where it was
// asked for.
var ErrPlace = errors.New("no run directory can be made there")

// checkPlace says whether a run directory can be made at dir, before a private
// image is opened. It leaves nothing behind.
func checkPlace(dir string) error {
	parent := filepath.Dir(filepath.Clean(dir))
	for {
		info, err := os.Stat(parent)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("run directory %s: %s is a file; choose another place: %w", dir, parent, ErrPlace)
		}
		if err == nil {
			break
		}
		up := filepath.Dir(parent)
		if !errors.Is(err, fs.ErrNotExist) || up == parent {
			return fmt.Errorf("run directory %s: %w: %w", dir, err, ErrPlace)
		}
		parent = up
	}
	temp, err := os.MkdirTemp(parent, ".scumble-run-*")
	if err != nil {
		return fmt.Errorf("run directory %s: %w; choose a place that can be written: %w", dir, err, ErrPlace)
	}
	return os.Remove(temp)
}
