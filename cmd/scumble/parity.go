package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/parity"
)

func newParity() *cobra.Command {
	var flags sessionFlags
	c := &cobra.Command{
		Use:   "parity DIR",
		Short: "Compare this program with recorded inputs and outputs of others",
		Long: `parity walks a folder of records made with diffusers, peft and transformers: models
with inputs and outputs, scheduler trajectories, adapters, per-example gradients. It
runs each and prints how far it is off, relative to the largest recorded entry. A
record that it does not know is a failure. Exit code 6 says that something is off by
more than its tolerance.

parity/testdata/README.md in the repository says how such a folder is made.`,
		Example: "  scumble parity parity/testdata/small --backend go --json",
		Args:    exactly("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			defer s.close()
			var printed error
			o := parity.Options{Lowering: s.lowering, Report: func(e parity.Entry) {
				if !flags.json && printed == nil {
					printed = printEntry(c, e)
				}
			}}
			r, err := parity.Walk(c.Context(), s.backend, args[0], o)
			if err != nil {
				return invalid(err)
			}
			if flags.json {
				printed = printJSON(c, r)
			}
			if printed != nil {
				return printed
			}
			failed := 0
			for _, e := range r.Entries {
				if !e.OK {
					failed++
				}
			}
			if failed > 0 {
				return &coded{exitVerification, fmt.Errorf("%d of %d comparisons are off or could not be made", failed, len(r.Entries))}
			}
			s.talk.say("all %d comparisons hold", len(r.Entries))
			return nil
		},
	}
	flags.add(c)
	return c
}

func printEntry(c *cobra.Command, e parity.Entry) error {
	mark, off := "ok  ", "       -"
	if !e.OK {
		mark = "OFF "
	}
	if e.MaxRelativeError != nil {
		off = fmt.Sprintf("%8.1e", *e.MaxRelativeError)
	}
	line := fmt.Sprintf("%s%s of %.0e  %s: %s", mark, off, e.Tolerance, e.Path, e.What)
	if e.Error != "" {
		line += ": " + e.Error
	}
	_, err := fmt.Fprintln(c.OutOrStdout(), line)
	return err
}
