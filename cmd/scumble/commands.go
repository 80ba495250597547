package main

import (
	"encoding/json"

	"github.com/spf13/cobra"
)

// commands builds each verb, in the order of the help text: the main job
// first.
var commands = []func() *cobra.Command{
	newDemo, newPlan, newPretrain, newImport, newPull, newFinetune, newSample, newEval, newAudit, newReport, newVerify, newSign, newExport,
	newAccount, newCalibrate, newLedger, newSweep, newData, newParity, newBench, newBackend, newDoctor, newVersion,
}

// printJSON writes one JSON object to standard output.
func printJSON(c *cobra.Command, v any) error {
	e := json.NewEncoder(c.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// arguments makes wrong arguments exit 2.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return misuse(err)
		}
		return nil
	}
}
