package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/report"
)

// Each assumption that a run did not keep withdraws its guarantee, and is named.
// (A layer without a gradient rule stops a run before it begins: package dpsgd has
// that test.)
func TestUnmetAssumptionsAreNamed(t *testing.T) {
	good := accountant.DPSGD(2, 0.1, 30)
	whole := accountant.Event{Mechanism: accountant.Gaussian, NoiseMultiplier: 2, SamplingProbability: 1, Count: 30}
	for name, c := range map[string]struct {
		plan, steps accountant.Event
		note        string
		change      func(config *finetune.Config, r *results, l *accountant.Ledger) error
		want        string // "" means a guarantee.
	}{
		"sound":     {plan: good, steps: good},
		"test seed": {plan: good, steps: good, note: "NOT PRIVATE (test mode): seeded noise and sampling", want: "test seed, which anyone can repeat"},
		"shuffled":  {plan: whole, steps: whole, want: "not Poisson-sampled"},
		"config changed": {plan: good, steps: good, want: "not the one that the ledger declares",
			change: func(config *finetune.Config, _ *results, _ *accountant.Ledger) error {
				config.Training.ExpectedBatchSize++
				return nil
			}},
		"two data sets": {plan: good, steps: good, want: "2 data sets",
			change: func(_ *finetune.Config, _ *results, l *accountant.Ledger) error {
				return l.Begin(accountant.Run{ID: "other", Dataset: "another", Unit: "example", Neighboring: accountant.AddOrRemove, Epsilon: 10, Delta: 1e-5, Plan: []accountant.Event{good}})
			}},
		"base model exchanged": {plan: good, steps: good, want: "exchanged between two sittings",
			change: func(_ *finetune.Config, r *results, _ *accountant.Ledger) error {
				r.Unmet = append(r.Unmet, "the weights of the base model were exchanged between two sittings of the run")
				return nil
			}},
		"base model of private images": {plan: good, steps: good, want: "were not trained on public data only",
			change: func(_ *finetune.Config, r *results, _ *accountant.Ledger) error {
				r.BaseLedger = strings.Repeat("0", 64)
				return nil
			}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), finetune.LedgerFile)
			l, err := accountant.CreateLedger(path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := l.Begin(accountant.Run{ID: finetune.RunID, Dataset: "d", Unit: "example", Neighboring: accountant.AddOrRemove,
				Epsilon: 200, Delta: 1e-5, Plan: []accountant.Event{c.plan}, Note: c.note}); err != nil {
				t.Fatal(err)
			}
			if err := l.Append(accountant.Entry{Run: finetune.RunID, Event: &c.steps}); err != nil {
				t.Fatal(err)
			}
			config := &finetune.Config{Data: finetune.Data{Examples: 1000}, Privacy: finetune.Privacy{Epsilon: 200, Delta: 1e-5}}
			config.Training.ExpectedBatchSize = c.plan.SamplingProbability * 1000
			r := &results{}
			if c.change != nil {
				if err := c.change(config, r, l); err != nil {
					t.Fatal(err)
				}
			}
			claim, err := accountant.PLD{}.Epsilon(l.Record().Events(), accountant.AddOrRemove, 1e-5)
			if err != nil {
				t.Fatal(err)
			}
			run := &report.Run{Claim: report.Claim{Epsilon: claim.Epsilon, Delta: 1e-5, Neighboring: accountant.AddOrRemove, Unit: "image",
				NoiseMultiplier: c.plan.NoiseMultiplier, SamplingProbability: c.plan.SamplingProbability, StepsPlanned: 30}}
			if r.BaseLedger != "" {
				run.Weights = []report.Weight{{Name: "unet"}}
			}
			if err := checkAssumptions(run, config, r, l.Record()); err != nil {
				t.Fatal(err)
			}
			unmet := strings.Join(run.Unmet(), "; ")
			if c.want == "" != (unmet == "") || !strings.Contains(unmet, c.want) {
				t.Errorf("unmet: %q, want %q", unmet, c.want)
			}
			if c.want == "" && (run.Claim.EpsilonRecount == 0 || run.Statement().Bound == nil) {
				t.Errorf("a sound run has no second count: %+v", run.Claim)
			}
			if c.want != "" && run.Statement().Bound != nil {
				t.Error("the statement prints an epsilon")
			}
		})
	}
}
