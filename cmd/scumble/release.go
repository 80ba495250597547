package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/internal/wholefile"
	"github.com/scumble-dp/scumble/models"
	"github.com/scumble-dp/scumble/recount"
	"github.com/scumble-dp/scumble/release"
	"github.com/scumble-dp/scumble/report"
)

// writeRelease writes the release edition of a run's report, with the ledger and
// the config that let others check it, and closes the folder with a manifest.
func writeRelease(dir string, run *report.Run) error {
	out := filepath.Join(dir, finetune.ReleaseDir)
	if err := removeUnfinished(out); err != nil {
		return err
	}
	record, err := accountant.ReadLedger(filepath.Join(dir, finetune.LedgerFile))
	if err != nil {
		return err
	}
	if record.Torn {
		return withHint(errors.New("last line of the ledger was torn by a crash"), fmt.Sprintf("scumble finetune --resume %s charges it and goes on", dir))
	}
	lines, err := finetune.ReleasedLedger(record)
	if err != nil {
		return err
	}
	released, err := accountant.ParseLedger(lines)
	if err != nil {
		return err
	}
	run.Ledger.Head, run.Ledger.Entries = released.Head(), released.Count()
	for name, data := range map[string][]byte{release.LedgerFile: lines, release.ConfigFile: []byte(run.Config)} {
		if err := replaceFile(filepath.Join(out, name), data); err != nil {
			return err
		}
	}
	files, err := release.Files(out)
	if err != nil {
		return err
	}
	run.Files = release.Named(files)
	if err := report.WriteRelease(out, run); err != nil {
		return err
	}
	return release.WriteManifest(out, release.Model)
}

// removeUnfinished removes what a crash left of files that were being written:
// it is covered by the claim, but nobody wants it in a release.
func removeUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.Contains(e.Name(), "writing-") {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// replaceFile writes a file that appears whole or not at all, unless it holds
// just that.
func replaceFile(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return wholefile.Write(path, 0o644, data)
}

// checkAssumptions adds to a claim why it may not be made, and the second count
// of its epsilon.
func checkAssumptions(run *report.Run, config *finetune.Config, r *results, record *accountant.Record) error {
	c := &run.Claim
	unmet := func(format string, args ...any) { c.Unmet = append(c.Unmet, fmt.Sprintf(format, args...)) }
	c.Unmet = append(c.Unmet, r.Unmet...)
	totals, err := accountant.Compose(record)
	if err != nil {
		return err
	}
	if len(totals) != 1 {
		unmet("the ledger tells of %d data sets, so that its runs do not add up to one claim", len(totals))
	}
	declared := false
	for _, s := range record.Runs() {
		if strings.HasPrefix(s.Note, release.TestMode) {
			c.Insecure = true
		}
		if s.ID != finetune.RunID {
			continue
		}
		for _, e := range append(s.Plan, s.Spent...) {
			if e.Mechanism != accountant.PoissonGaussian {
				unmet("steps of the run are %s, not Poisson-sampled: batches that are shuffled or cut have another cost", e.Mechanism)
				break
			}
		}
		declared = s.Delta == config.Privacy.Delta && slices.ContainsFunc(s.Plan, func(e accountant.Event) bool {
			return e.NoiseMultiplier == c.NoiseMultiplier && e.SamplingProbability == c.SamplingProbability && e.Count == c.StepsPlanned &&
				e.SamplingProbability == config.Training.ExpectedBatchSize/float64(config.Data.Examples)
		})
	}
	if !declared {
		unmet("the config of the run directory is not the one that the ledger declares: one of them was changed after the run began")
	}
	second, err := recount.Epsilon(record.Events(), c.Neighboring, c.Delta)
	switch {
	case errors.Is(err, recount.ErrUnsettled), errors.Is(err, recount.ErrUnknown):
	case err != nil:
		return err
	case second.Error <= 1e-3*second.Epsilon+1e-6:
		c.EpsilonRecount, c.RecountError = second.Epsilon, second.Error
	}
	for i := range run.Weights {
		run.Weights[i].Charged = !run.Weights[i].Public && r.BaseLedger != "" && chargesLedger(record, r.BaseLedger)
	}
	return nil
}

// chargesLedger says whether a ledger carries a run of the one with that head.
func chargesLedger(record *accountant.Record, head string) bool {
	return slices.ContainsFunc(record.Runs(), func(s accountant.RunStatus) bool {
		return strings.HasPrefix(s.ID, "earlier/"+head+"/")
	})
}

var licenceLine = regexp.MustCompile(`(?m)^- \*\*Licence\*\*: (.*)$`)

// baseWeights names every weight file of a base model by its hash, as it is now,
// and returns the head of the released ledger beside it, if an earlier run made it.
func baseWeights(base string) (all []report.Weight, ledger string, err error) {
	dir := base
	if models.Bundled(base) {
		temp, err := os.MkdirTemp("", "scumble-base-*")
		if err != nil {
			return nil, "", err
		}
		defer os.RemoveAll(temp)
		dir = filepath.Join(temp, base)
		if err := models.Extract(base, dir); err != nil {
			return nil, "", err
		}
	}
	trained, public := provenance(base), true
	if m, err := loadBase(base); err == nil && m.Info[checkpoint.PrivateRun] != "" { // An exported one, say.
		trained, public, ledger = "private images, by an earlier run", false, m.Info[checkpoint.PrivateRun]
	}
	if beside := filepath.Dir(filepath.Clean(dir)); isRelease(beside) {
		trained, public = "private images, by the earlier run whose release the model is from", false
		if record, err := accountant.ReadLedger(filepath.Join(beside, release.LedgerFile)); err == nil {
			ledger = record.Head()
		}
	}
	licence := "not stated"
	if card, err := os.ReadFile(filepath.Join(dir, "README.md")); err == nil {
		if m := licenceLine.FindSubmatch(card); m != nil {
			licence = string(m[1])
		}
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".safetensors" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		all = append(all, report.Weight{Name: filepath.ToSlash(name), TrainedOn: trained, Licence: licence, SHA256: hex.EncodeToString(sum[:]), Public: public})
		return nil
	})
	slices.SortFunc(all, func(a, b report.Weight) int { return cmp.Compare(a.Name, b.Name) })
	return all, ledger, err
}

func isRelease(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, release.StatementFile))
	return err == nil
}

// weightsFile keeps, in a run's private folder, what the first sitting started
// from.
const weightsFile = "base-weights.json"

// keepWeights writes what a run started from, if it is not there yet.
func keepWeights(dir string, weights []report.Weight) error {
	path := filepath.Join(dir, finetune.PrivateDir, weightsFile)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	data, err := json.Marshal(weights)
	if err != nil {
		return err
	}
	return replaceFile(path, data)
}

// setWeights notes what a run started from. A base model that changed between
// two sittings is an assumption unmet.
func (r *results) setWeights(dir string, weights []report.Weight, ledger string) error {
	data, err := os.ReadFile(filepath.Join(dir, finetune.PrivateDir, weightsFile))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &r.Weights); err != nil {
		return fmt.Errorf("read %s: %w", weightsFile, err)
	}
	r.BaseLedger = ledger
	if !slices.Equal(r.Weights, weights) {
		r.Unmet = append(r.Unmet, "the weights of the base model were exchanged between two sittings of the run")
	}
	return nil
}
