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

const (
	// RunID names the run of a run directory's ledger that is its own.
	RunID = "finetune"

	unit       = "example"     // Of privacy: what a ledger's declaration names.
	notPrivate = "NOT PRIVATE" // In the note of a run with a test seed.
)

// openRun makes the run directory with its ledger, in which the run and all
// earlier ones are declared, or opens both to go on.
func openRun(c *Config, plan *Plan, set *dataset.Set, o Options) (*run, error) {
	r := &run{config: c.inRun(plan), plan: plan, dir: o.Dir, private: filepath.Join(o.Dir, PrivateDir)}
	var err error
	if r.hash, err = r.config.hash(); err != nil {
		return nil, err
	}
	if o.InsecureSeed != 0 {
		r.hash += fmt.Sprintf(" insecure seed %d", o.InsecureSeed)
	}
	if !o.Resume {
		return r, r.create(set, o)
	}
	if err := r.open(set); err != nil {
		return nil, err
	}
	if err := r.resume(); err != nil {
		r.ledger.Close()
		return nil, err
	}
	return r, nil
}

// create makes the directory under a temporary name and renames it, so that it
// is whole or not there.
func (r *run) create(set *dataset.Set, o Options) (err error) {
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
			if r.ledger != nil {
				r.ledger.Close()
			}
			os.RemoveAll(temp)
			err = fmt.Errorf("create run directory: %w", err)
		}
	}()
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	for dir, mode := range map[string]fs.FileMode{ReleaseDir: 0o755, PrivateDir: 0o700} {
		if err := os.Mkdir(filepath.Join(temp, dir), mode); err != nil {
			return err
		}
	}
	config, err := r.config.YAML()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(temp, ConfigFile), config, 0o644); err != nil {
		return err
	}
	if err := r.plan.copyPrevious(filepath.Join(temp, ReleaseDir)); err != nil {
		return err
	}
	var key [32]byte
	if _, err := crand.Read(key[:]); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(temp, PrivateDir, keyFile), []byte(hex.EncodeToString(key[:])), 0o600); err != nil {
		return err
	}
	if r.ledger, err = accountant.CreateLedger(filepath.Join(temp, LedgerFile)); err != nil {
		return err
	}
	if err := r.declare(set.Fingerprint(key[:]), o); err != nil {
		return err
	}
	if err := r.plan.closeEarlier(); err != nil {
		return err
	}
	if exists(r.dir) {
		return fmt.Errorf("%w: run directory %s exists", ErrConfig, r.dir)
	}
	return os.Rename(temp, r.dir)
}

// declare writes the first lines of the ledger: earlier runs with what they
// spent, what this run asks before its first step, then its steps.
func (r *run) declare(dataset string, o Options) error {
	if err := r.plan.declareEarlier(r.ledger, dataset); err != nil {
		return err
	}
	note, notice := "scumble finetune, method "+string(r.config.Method), ""
	if o.InsecureSeed != 0 {
		notice = notPrivate + " (test mode): seeded noise and sampling"
		note = notice
	}
	if err := r.declareQueries(dataset, notice); err != nil {
		return err
	}
	return r.ledger.Begin(accountant.Run{ID: RunID, Dataset: dataset, Unit: unit, Neighboring: accountant.AddOrRemove,
		Epsilon: r.config.Privacy.Epsilon, Delta: r.config.Privacy.Delta,
		Plan: []accountant.Event{r.plan.Event(r.plan.Mechanism.Steps)}, Note: note})
}

// open opens the ledger of a run that goes on, and checks that the images are
// those it began with.
func (r *run) open(set *dataset.Set) error {
	var err error
	if r.ledger, err = accountant.OpenLedger(filepath.Join(r.dir, LedgerFile)); err != nil {
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
	own, ok := ownRun(r.ledger.Record())
	if !ok || own.Dataset != set.Fingerprint(key) {
		return fmt.Errorf("%w: the private images are not those that run %s began with", ErrConfig, r.dir)
	}
	return nil
}

// resume loads the checkpoint of a run that goes on. One that is ahead of the
// ledger means that lines of the ledger are gone.
func (r *run) resume() error {
	var err error
	if r.state, err = loadState(r.private, r.hash); err != nil || r.state == nil {
		return err
	}
	if recorded := r.steps(); r.state.Step > recorded {
		return fmt.Errorf("%w: the checkpoint of run %s has seen %d steps, its ledger holds %d: %w", ErrConfig, r.dir, r.state.Step, recorded, accountant.ErrBrokenChain)
	}
	return nil
}

// ownRun returns the run of a run directory's ledger that is not a copy.
func ownRun(record *accountant.Record) (accountant.RunStatus, bool) {
	for _, s := range record.Runs() {
		if s.ID == RunID {
			return s, true
		}
	}
	return accountant.RunStatus{}, false
}

// Own returns what the run of a run directory's ledger did itself, without
// earlier runs.
func Own(record *accountant.Record) []accountant.Event {
	s, _ := ownRun(record)
	return s.Spent
}

// authorise checks, before an image is opened, that the ledger of a run that
// goes on allows what the plan asks for, and takes over the noise multiplier
// that it declares.
func (plan *Plan) authorise(c *Config, dir string) error {
	record, err := accountant.ReadLedger(filepath.Join(dir, LedgerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: run %s has no %s, so nobody knows what it spent; it cannot go on", ErrConfig, dir, LedgerFile)
	}
	if err != nil {
		return err
	}
	own, ok := ownRun(record)
	if !ok || len(own.Plan) != 1 {
		return fmt.Errorf("%w: the ledger of %s declares no run %q of one kind of step", ErrConfig, dir, RunID)
	}
	if err := VerifyEarlier(record, filepath.Join(dir, ReleaseDir, PreviousDir)); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := plan.authoriseQueries(record, dir); err != nil {
		return err
	}
	declared, m := own.Plan[0], plan.Mechanism
	if want := plan.Event(m.Steps); declared.Count != want.Count || declared.SamplingProbability != want.SamplingProbability || declared.Mechanism != want.Mechanism {
		return fmt.Errorf("config asks for %d steps at sampling probability %g, the ledger of %s allows %d at %g and holds %d: start a new run with privacy.previous_runs: [%s]: %w",
			want.Count, want.SamplingProbability, dir, declared.Count, declared.SamplingProbability, countSteps(own.Spent), dir, accountant.ErrBudget)
	}
	return plan.price(declared.NoiseMultiplier, c.Privacy.Epsilon)
}

// steps returns the number of noisy steps of this run in the ledger.
func (r *run) steps() int { return countSteps(Own(r.ledger.Record())) }

func countSteps(events []accountant.Event) int {
	n := 0
	for _, e := range events {
		n += e.Count
	}
	return n
}

// record writes one step to the ledger, before its noised sum exists.
func (r *run) record() error {
	event := r.plan.Event(1)
	return r.ledger.Append(accountant.Entry{Run: RunID, Event: &event})
}
