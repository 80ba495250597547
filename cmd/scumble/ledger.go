package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/finetune"
)

// openRecord reads the ledger of a run directory, or a ledger file.
func openRecord(path string) (*accountant.Record, string, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, finetune.LedgerFile)
	}
	record, err := accountant.ReadLedger(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, path, invalid(withHint(err, "give a run directory, or its "+finetune.LedgerFile))
	case errors.Is(err, accountant.ErrBrokenChain):
		return nil, path, &coded{exitVerification, withHint(err, "a line is missing or was changed: nothing computed from this ledger can be trusted")}
	case err != nil:
		return nil, path, invalid(err)
	}
	return record, path, nil
}

// ledgerFacts is what the ledger command prints.
type ledgerFacts struct {
	Path     string         `json:"path"`
	Entries  int            `json:"entries"`
	Head     string         `json:"head"` // SHA-256 of the last line.
	Torn     bool           `json:"torn"` // The last line is incomplete, and charged.
	Datasets []datasetFacts `json:"datasets"`
	Runs     []runFacts     `json:"runs"`
}

// datasetFacts is what all runs together cost one data set.
type datasetFacts struct {
	accountant.Total
	Delta          float64 `json:"delta"`           // The least of its runs.
	EpsilonSpent   float64 `json:"epsilon_spent"`   // Of what was done.
	EpsilonPlanned float64 `json:"epsilon_planned"` // When all runs end as planned.
}

// runFacts is what one run was allowed, did and may still do.
type runFacts struct {
	accountant.RunStatus
	EpsilonSpent   float64 `json:"epsilon_spent"`
	EpsilonPlanned float64 `json:"epsilon_planned"`
	AccessesSpent  int     `json:"accesses_spent"`
	AccessesLeft   int     `json:"accesses_left"`
}

func newLedger() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "ledger DIR",
		Short: "Show what was spent, on what, and what is left",
		Long: `ledger checks the chain of a ledger and shows, for each data set and each run,
what was spent, what it cost and what the plan still allows. DIR is a run
directory, or a ledger file. Exit code 6 says that a line is missing or changed.

A line that a crash tore is charged as if its access had happened.`,
		Example: "  scumble ledger runs/demo",
		Args:    exactly("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			record, path, err := openRecord(args[0])
			if err != nil {
				return err
			}
			facts, err := ledgerOf(record)
			if err != nil {
				return invalid(fmt.Errorf("ledger %s: %w", path, err))
			}
			facts.Path = path
			if asJSON {
				return printJSON(c, facts)
			}
			facts.print(c.OutOrStdout())
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// ledgerOf accounts for a record.
func ledgerOf(record *accountant.Record) (*ledgerFacts, error) {
	f := &ledgerFacts{Entries: record.Count(), Head: record.Head(), Torn: record.Torn, Datasets: []datasetFacts{}, Runs: []runFacts{}}
	totals, err := accountant.Compose(record)
	if err != nil {
		return nil, err
	}
	deltas := make(map[string]float64)
	for _, s := range record.Runs() {
		if d, ok := deltas[s.Dataset]; !ok || s.Delta < d {
			deltas[s.Dataset] = s.Delta
		}
		r := runFacts{RunStatus: s}
		for _, e := range s.Spent {
			r.AccessesSpent += e.Count
		}
		for _, e := range s.Left {
			r.AccessesLeft += e.Count
		}
		r.EpsilonSpent, r.EpsilonPlanned, err = costs(s.Spent, s.Left, s.Neighboring, s.Delta)
		if err != nil {
			return nil, fmt.Errorf("run %q: %w", s.ID, err)
		}
		f.Runs = append(f.Runs, r)
	}
	for _, t := range totals {
		d := datasetFacts{Total: t, Delta: deltas[t.Dataset]}
		d.EpsilonSpent, err = upperEpsilon(t.Spent, t.Neighboring, d.Delta)
		if err == nil {
			d.EpsilonPlanned, err = upperEpsilon(t.Planned, t.Neighboring, d.Delta)
		}
		if err != nil {
			return nil, fmt.Errorf("data set %q: %w", t.Dataset, err)
		}
		f.Datasets = append(f.Datasets, d)
	}
	return f, nil
}

// costs returns the epsilon of what was spent, and with what is left.
func costs(spent, left []accountant.Event, n accountant.Neighboring, delta float64) (now, end float64, err error) {
	if now, err = upperEpsilon(spent, n, delta); err != nil {
		return 0, 0, err
	}
	all := append(append([]accountant.Event{}, spent...), left...)
	end, err = upperEpsilon(accountant.Group(all), n, delta)
	return now, end, err
}

func upperEpsilon(events []accountant.Event, n accountant.Neighboring, delta float64) (float64, error) {
	r, err := accountant.PLD{UpperOnly: true}.Epsilon(events, n, delta)
	return r.Epsilon, err
}

func (f *ledgerFacts) print(out io.Writer) {
	fmt.Fprintf(out, "ledger    %s: %d entries, chain whole\n", f.Path, f.Entries)
	if f.Head != "" {
		fmt.Fprintf(out, "head      %s\n", f.Head)
	}
	if f.Torn {
		fmt.Fprintln(out, "torn      the last line is incomplete after a crash; it is charged in full")
	}
	for _, d := range f.Datasets {
		fmt.Fprintf(out, "\ndata set  %s\n", d.Dataset)
		fmt.Fprintf(out, "protects  one %s, %s\n", d.Unit, d.Neighboring)
		fmt.Fprintf(out, "spent     epsilon %s at delta %g, by %s\n", above(d.EpsilonSpent), d.Delta, strings.Join(d.Runs, ", "))
		fmt.Fprintf(out, "planned   epsilon %s, when all runs end\n", above(d.EpsilonPlanned))
	}
	for _, r := range f.Runs {
		fmt.Fprintf(out, "\nrun       %s on %s\n", r.ID, r.Dataset)
		fmt.Fprintf(out, "budget    epsilon %g at delta %g\n", r.Epsilon, r.Delta)
		fmt.Fprintf(out, "spent     epsilon %s, %d accesses\n", above(r.EpsilonSpent), r.AccessesSpent)
		for _, e := range r.Spent {
			fmt.Fprintf(out, "          %s\n", eventText(e))
		}
		if r.AccessesLeft == 0 {
			fmt.Fprintln(out, "left      nothing")
			continue
		}
		fmt.Fprintf(out, "left      %d accesses, to epsilon %s\n", r.AccessesLeft, above(r.EpsilonPlanned))
		for _, e := range r.Left {
			fmt.Fprintf(out, "          %s\n", eventText(e))
		}
	}
}
