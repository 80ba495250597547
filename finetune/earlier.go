package finetune

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/internal/wholefile"
)

// PreviousDir is the folder in release/ with the ledgers of earlier runs on the
// same private data, as released, each named by the hash of its last line: with
// them the total of the claim can be recomputed from the release alone.
const PreviousDir = "previous"

// copyPrevious writes the earlier ledgers of a plan below a release folder.
func (plan *Plan) copyPrevious(release string) error {
	if len(plan.ledgers) == 0 {
		return nil
	}
	dir := filepath.Join(release, PreviousDir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, l := range plan.ledgers {
		if err := os.WriteFile(filepath.Join(dir, l.name()), l.lines, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (l *previousLedger) name() string { return l.record.Head() + ".jsonl" }

// inRun returns the config as a run directory keeps it: earlier ledgers are
// named by their copies.
func (c *Config) inRun(plan *Plan) *Config {
	out := *c
	out.Privacy.PreviousRuns = nil
	for _, l := range plan.ledgers {
		out.Privacy.PreviousRuns = append(out.Privacy.PreviousRuns, filepath.ToSlash(filepath.Join(ReleaseDir, PreviousDir, l.name())))
	}
	return &out
}

// Resolve returns the config of the run directory dir with the paths of its
// earlier ledgers made right for the current folder.
func (c *Config) Resolve(dir string) *Config {
	out := *c
	out.Privacy.PreviousRuns = slices.Clone(out.Privacy.PreviousRuns)
	for i, path := range out.Privacy.PreviousRuns {
		if strings.HasPrefix(path, ReleaseDir+"/"+PreviousDir+"/") {
			out.Privacy.PreviousRuns[i] = filepath.Join(dir, filepath.FromSlash(path))
		}
	}
	return &out
}

// Released returns the config as it may leave the building: without the places
// where private images lie, and with paths of earlier ledgers as they are in
// the release.
func (c *Config) Released() *Config {
	out := *c
	out.Data.Path, out.Data.Labels = "private", ""
	if filepath.IsAbs(out.Base) { // The weights are named by their hashes.
		out.Base = filepath.Base(out.Base)
	}
	out.Privacy.PreviousRuns = slices.Clone(out.Privacy.PreviousRuns)
	for i, path := range out.Privacy.PreviousRuns {
		out.Privacy.PreviousRuns[i] = PreviousDir + "/" + filepath.Base(path)
	}
	return &out
}

// declareEarlier gives a new ledger the earlier runs of the plan, charged.
func (plan *Plan) declareEarlier(l *accountant.Ledger, dataset string) error {
	for _, p := range plan.Previous {
		d := p.declared
		d.ID, d.Dataset, d.Plan = p.ID(), dataset, p.Events
		d.Epsilon = max(d.Epsilon, p.Epsilon) // What happened counts, whatever its budget was.
		d.Note = "run " + p.Run + " of the ledger with that hash, charged in full"
		if err := l.Begin(d); err != nil {
			return err
		}
		for _, e := range p.Events {
			if err := l.Append(accountant.Entry{Run: d.ID, Event: &e}); err != nil {
				return err
			}
		}
	}
	return nil
}

// EarlierRuns returns the earlier runs that a ledger carries, priced at delta.
func EarlierRuns(record *accountant.Record, delta float64) ([]Previous, error) {
	var all []Previous
	for _, s := range record.Runs() {
		ledger, run, ok := parseEarlier(s.ID)
		if !ok {
			continue
		}
		p := Previous{Ledger: ledger, Run: run, Delta: delta, Events: s.Spent, declared: s.Run}
		claim, err := accountant.PLD{}.Epsilon(s.Spent, s.Neighboring, delta)
		if err != nil {
			return nil, fmt.Errorf("account for run %q of ledger %s: %w", run, ledger, err)
		}
		p.Epsilon = claim.Epsilon
		all = append(all, p)
	}
	return all, nil
}

// ErrEarlier is what errors wrap when a ledger and the copies of earlier
// ledgers beside it do not tell the same.
var ErrEarlier = errors.New("earlier ledgers do not match")

// VerifyEarlier checks that a ledger charges just what the earlier ledgers in a
// folder tell: each file's chain is whole and ends at the hash of its name,
// every run in them is charged in full, and no other is. A ledger without
// earlier runs needs no folder. It reads public files only.
func VerifyEarlier(record *accountant.Record, dir string) error {
	told, err := toldBy(dir)
	if err != nil {
		return err
	}
	for _, s := range record.Runs() {
		if _, _, ok := parseEarlier(s.ID); !ok {
			continue
		}
		want, ok := told[s.ID]
		if !ok {
			return fmt.Errorf("no file in %s tells of %s, which the ledger charges: %w", dir, s.ID, ErrEarlier)
		}
		delete(told, s.ID)
		if !sameEvents(want, s.Spent) {
			return fmt.Errorf("ledger charges %+v for %s, its own ledger tells %+v: %w", s.Spent, s.ID, want, ErrEarlier)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(told)) {
		return fmt.Errorf("ledger does not charge %s, which %s tells of: %w", id, dir, ErrEarlier)
	}
	return nil
}

// toldBy returns what the ledgers in a folder tell of each run, by the name
// that a copy of it has.
func toldBy(dir string) (map[string][]accountant.Event, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	runs, ledgers, err := readPrevious(paths)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEarlier, err)
	}
	if len(ledgers) != len(paths) {
		return nil, fmt.Errorf("%s holds a ledger that another one there continues: %w", dir, ErrEarlier)
	}
	for _, l := range ledgers {
		if filepath.Base(l.path) != l.name() {
			return nil, fmt.Errorf("%s ends with the line of hash %s: %w", l.path, l.record.Head(), ErrEarlier)
		}
	}
	told := map[string][]accountant.Event{}
	for _, p := range runs {
		told[p.ID()] = p.Events
	}
	return told, nil
}

// sameEvents compares in any order.
func sameEvents(a, b []accountant.Event) bool {
	count := map[accountant.Event]int{}
	add := func(events []accountant.Event, sign int) {
		for _, e := range events {
			n := e.Count
			e.Count, e.ExamplesPerUnit, e.LatticeSensitivity = 0, max(1, e.ExamplesPerUnit), max(1, e.LatticeSensitivity)
			count[e] += sign * n
		}
	}
	add(a, 1)
	add(b, -1)
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// countedFile, in a run's private folder, says that a later run has counted what
// the ledger held: nothing can be bought from the earlier one any more.
const countedFile = "counted-by-a-later-run"

// closeEarlier notes in the run directories among the paths of earlier ledgers
// that they are counted. Releases by themselves sell nothing.
func (plan *Plan) closeEarlier() error {
	for _, path := range plan.previousPaths {
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			path = filepath.Dir(path)
		}
		private := filepath.Join(path, PrivateDir)
		if info, err := os.Stat(private); err != nil || !info.IsDir() {
			continue
		}
		if err := wholefile.Write(filepath.Join(private, countedFile), 0o600, []byte("figures are bought from the latest run\n")); err != nil {
			return fmt.Errorf("close earlier run %s: %w", path, err)
		}
	}
	return nil
}
