package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/audit"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/internal/wholefile"
	"github.com/scumble-dp/scumble/report"
)

func newAudit() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Measure from below what a run gives away",
		Long: `audit attacks a run, or its way of training, and says how far it came: a lower
bound beside the upper bound that is the claim. Exit code 6 says that a bound is
above the claim: then the guarantee is broken.`,
		Example: "  scumble audit canary runs/demo\n  scumble audit mia runs/demo --data mnist-10k --held-out held --control",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newAuditCanary(), newAuditMIA(), newAuditReplicas())
	return c
}

// Files that keep what audits found: in private/, and for a canary audit that read
// nothing private in release/ too.
const (
	canaryFile   = "audit-canary.json"
	canaryData   = "audit-canary-data.json" // Beside private images.
	miaFile      = "audit-mia.json"
	replicasFile = "audit-replicas.json"
)

// notCoveredNote goes with every figure that was computed from private images.
const notCoveredNote = "not covered by the privacy claim: computed from private images"

// keepAudit writes what an audit found into a run and makes its reports again.
func keepAudit(run, name string, found any, covered bool) error {
	data, err := json.MarshalIndent(found, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if err := wholefile.Write(filepath.Join(run, finetune.PrivateDir, name), 0o600, data); err != nil {
		return fmt.Errorf("keep audit: %w", err)
	}
	if covered {
		if err := wholefile.Write(filepath.Join(run, finetune.ReleaseDir, name), 0o644, data); err != nil {
			return fmt.Errorf("keep audit: %w", err)
		}
	}
	if !hasReports(run) { // Interrupted, or of a library user.
		return nil
	}
	return writeReports(run)
}

// hasReports says whether a run is far enough to have reports.
func hasReports(run string) bool {
	_, err := os.Stat(filepath.Join(run, finetune.PrivateDir, resultsFile))
	return err == nil
}

// broken is the error of an audit that found a bound above the claim.
func broken(found []string) error {
	if len(found) == 0 {
		return nil
	}
	return &coded{exitVerification, withHint(fmt.Errorf("the guarantee is broken: %s", strings.Join(found, "; ")),
		"release nothing of this run; report it with the output of scumble version and the config")}
}

// brokenNote puts what broke the guarantee before a note.
func brokenNote(found []string, note string) string {
	if len(found) == 0 {
		return note
	}
	return "THE GUARANTEE IS BROKEN: " + strings.Join(found, "; ") + ". " + note
}

// fillAudits adds what audits found to the reports of a run.
func fillAudits(run *report.Run, dir string) error {
	for _, name := range []string{canaryFile, canaryData} {
		if err := fillCanaries(run, dir, name); err != nil {
			return err
		}
	}
	return errors.Join(fillMembership(run, dir), fillReplicas(run, dir))
}

// fillCanaries adds a canary audit.
func fillCanaries(run *report.Run, dir, name string) error {
	var c canaryAudit
	ok, err := readAudit(dir, name, &c)
	if err != nil || !ok {
		return err
	}
	if c.Result == nil {
		return fmt.Errorf("read %s: it holds no result; audit the run again", name)
	}
	covered := report.NotCovered
	if c.Covered {
		covered = report.PostProcessing
	}
	a := report.Audit{Name: "Canary audit of the training step", Covered: covered, Note: brokenNote(c.Broken, c.Note)}
	for _, b := range c.bounds() {
		a.Rows = append(a.Rows, report.AuditRow{What: "lower bound on ε, " + b.name, Value: fmt.Sprintf("%.3g", b.Epsilon),
			Interval: fmt.Sprintf("%g %% confidence", 100*b.Confidence), Want: fmt.Sprintf("at most %.4g, the claim", c.Claim)})
	}
	run.Audits = append(run.Audits, a)
	if c.Covered {
		run.Claim.Unmet = withFindings(run.Claim.Unmet, c.Broken)
	}
	return nil
}

// withFindings adds what broke a guarantee to the assumptions that are unmet.
func withFindings(unmet, broken []string) []string {
	for _, b := range broken {
		if b = "a canary audit found that " + b; !slices.Contains(unmet, b) {
			unmet = append(unmet, b)
		}
	}
	return unmet
}

// keepBroken notes in the results of a run what broke its guarantee, so that no
// later audit makes it good again.
func keepBroken(dir string, broken []string) error {
	if len(broken) == 0 || !hasReports(dir) {
		return nil
	}
	r, err := loadResults(dir)
	if err != nil {
		return err
	}
	r.Unmet = withFindings(r.Unmet, broken)
	return r.save(dir)
}

// readAudit reads what an audit kept.
func readAudit(dir, name string, into any) (bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, finetune.PrivateDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	return true, nil
}

// namedBound is a bound with what it assumes.
type namedBound struct {
	name string
	audit.Bound
}

// bounds lists the bounds from the fewest assumptions to the most.
func (c *canaryAudit) bounds() []namedBound {
	return []namedBound{
		{"without assumptions", c.AssumptionFree}, {"with the run's privacy curve", c.Curve},
		{"Gaussian", c.Gaussian}, {"step by step", c.Steps},
	}
}
