package finetune

import (
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
)

// Names in a run directory. release/ may leave the building, private/ may not.
const (
	ConfigFile = "config.yaml"
	LedgerFile = "ledger.jsonl"
	ReleaseDir = "release"
	PrivateDir = "private"

	keyFile = "dataset.key" // Of the data set's fingerprint; private.
)

// openRun makes the run directory and declares the run in its ledger, or opens
// both to go on.
func openRun(c *Config, plan *Plan, set *dataset.Set, o Options) (*run, error) {
	r := &run{config: c, plan: plan, dir: o.Dir, private: filepath.Join(o.Dir, PrivateDir)}
	var err error
	if r.hash, err = c.hash(); err != nil {
		return nil, err
	}
	if o.InsecureSeed != 0 {
		r.hash += fmt.Sprintf(" insecure seed %d", o.InsecureSeed)
	}
	if !o.Resume {
		if err := r.create(); err != nil {
			return nil, err
		}
	}
	if err := r.openLedger(set, o); err != nil {
		return nil, err
	}
	if err := r.resume(o); err != nil {
		r.ledger.Close()
		return nil, err
	}
	return r, nil
}

// create makes the directory under a temporary name and renames it, so that it
// is whole or not there.
func (r *run) create() (err error) {
	parent := filepath.Dir(filepath.Clean(r.dir))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("create run directory: %w", err)
	}
	temp, err := os.MkdirTemp(parent, ".scumble-run-*")
	if err != nil {
		return fmt.Errorf("create run directory: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(temp)
		}
	}()
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	for dir, mode := range map[string]fs.FileMode{ReleaseDir: 0o755, PrivateDir: 0o700} {
		if err := os.Mkdir(filepath.Join(temp, dir), mode); err != nil {
			return fmt.Errorf("create run directory: %w", err)
		}
	}
	config, err := r.config.YAML()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(temp, ConfigFile), config, 0o644); err != nil {
		return fmt.Errorf("create run directory: %w", err)
	}
	var key [32]byte
	if _, err := crand.Read(key[:]); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(temp, PrivateDir, keyFile), []byte(hex.EncodeToString(key[:])), 0o600); err != nil {
		return fmt.Errorf("create run directory: %w", err)
	}
	if exists(r.dir) {
		return fmt.Errorf("%w: run directory %s exists", ErrConfig, r.dir)
	}
	return os.Rename(temp, r.dir)
}

// openLedger opens the ledger, and declares the run if it has none yet.
func (r *run) openLedger(set *dataset.Set, o Options) error {
	path := filepath.Join(r.dir, LedgerFile)
	var err error
	r.ledger, err = accountant.OpenLedger(path)
	if errors.Is(err, fs.ErrNotExist) {
		r.ledger, err = accountant.CreateLedger(path)
	}
	if err != nil {
		return err
	}
	hexKey, err := os.ReadFile(filepath.Join(r.private, keyFile))
	if err != nil {
		return fmt.Errorf("resume %s: %w", r.dir, err)
	}
	key, err := hex.DecodeString(string(hexKey))
	if err != nil {
		return fmt.Errorf("resume %s: data set key: %w", r.dir, err)
	}
	id := set.Fingerprint(key)
	if runs := r.ledger.Record().Runs(); len(runs) > 0 {
		if runs[0].Dataset != id {
			return fmt.Errorf("%w: the private images are not those that run %s began with", ErrConfig, r.dir)
		}
		return nil
	}
	note := "scumble finetune, method " + string(r.config.Method)
	if o.InsecureSeed != 0 {
		note = "NOT PRIVATE (test mode): seeded noise and sampling"
	}
	return r.ledger.Begin(accountant.Run{ID: runID, Dataset: id, Unit: "example", Neighboring: accountant.AddOrRemove,
		Epsilon: r.config.Privacy.Epsilon, Delta: r.config.Privacy.Delta,
		Plan: []accountant.Event{r.plan.Event(r.plan.Mechanism.Steps)}, Note: note})
}

// runID names the one run of a run directory's ledger.
const runID = "finetune"

// resume loads the checkpoint of a run that goes on.
func (r *run) resume(o Options) error {
	if !o.Resume {
		return nil
	}
	var err error
	r.state, err = loadState(r.private, r.hash)
	return err
}

// steps returns the number of noisy steps in the ledger.
func (r *run) steps() int {
	n := 0
	for _, e := range r.ledger.Record().Events() {
		n += e.Count
	}
	return n
}

// record writes one step to the ledger, before its noised sum exists.
func (r *run) record() error {
	event := r.plan.Event(1)
	return r.ledger.Append(accountant.Entry{Run: runID, Event: &event})
}
