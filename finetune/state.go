package finetune

import (
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/scumble-dp/scumble/internal/wholefile"
	"github.com/scumble-dp/scumble/optim"
)

// state is what --resume needs. All of it is computed from noised sums, and
// there is no key in it: a resumed run draws fresh noise and fresh batches.
type state struct {
	ConfigHash string
	Step       int // Ledger entries that the weights have seen, or lost.
	Vector     []float32
	Adam       optim.AdamState
	EMA        optim.EMA
	Seconds    float64 // Spent training so far.
}

const stateFile = "checkpoint.gob"

// saveState replaces the checkpoint in a run's private folder in one rename.
func saveState(private string, s *state) error {
	err := wholefile.Create(filepath.Join(private, stateFile), 0o600, func(w io.Writer) error { return gob.NewEncoder(w).Encode(s) })
	if err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	return nil
}

// loadState returns nil where no checkpoint was written yet.
func loadState(private, configHash string) (*state, error) {
	f, err := os.Open(filepath.Join(private, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load checkpoint: %w", err)
	}
	defer f.Close()
	var s state
	if err := gob.NewDecoder(f).Decode(&s); err != nil {
		return nil, fmt.Errorf("load checkpoint %s: %w", filepath.Join(private, stateFile), err)
	}
	if s.ConfigHash != configHash {
		return nil, fmt.Errorf("%w: the checkpoint was made by another config; start a new run", ErrConfig)
	}
	return &s, nil
}

// hash returns the digest that ties a checkpoint to a config.
func (c *Config) hash() (string, error) {
	data, err := c.YAML()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}
