package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/export"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/release"
)

// modelFormats names the formats of export that hand over a model.
func modelFormats() string {
	var names []string
	for _, f := range export.ModelFormats() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// exportModel writes the model of a release, or of a model folder, for other
// programs. A release must verify first.
func exportModel(c *cobra.Command, from, out, format string, asJSON bool) error {
	if !slices.Contains(export.ModelFormats(), export.ModelFormat(format)) {
		return misuse(fmt.Errorf("--format is %q, want dataset, %s", format, modelFormats()))
	}
	dir, metadata := from, map[string]string(nil)
	if r := releaseOf(from); dirExists(filepath.Join(r, "model")) {
		v, err := release.Verify(r, release.Options{})
		if errors.Is(err, release.ErrNotRelease) {
			return invalid(err)
		}
		if err != nil {
			return err
		}
		if !v.OK {
			return refused(v)
		}
		dir, metadata = filepath.Join(r, "model"), export.PrivacyMetadata(v.Epsilon, v.Delta)
	}
	m, err := checkpoint.Load(dir)
	if err != nil {
		return invalid(err)
	}
	b, _, err := backend.Open(backend.Go) // Two small runs: no plugin is worth its start.
	if err != nil {
		return &coded{exitResources, err}
	}
	defer b.Finalize()
	r, err := export.Model(b, nn.LoweringFor(backend.Go), out, m, export.ModelFormat(format), metadata)
	switch {
	case errors.Is(err, fs.ErrExist):
		return invalid(err)
	case err != nil:
		return err
	}
	if asJSON {
		return printJSON(c, map[string]any{"out": out, "format": format, "tensors": r.Tensors, "parameters": r.Parameters,
			"merged": r.Merged, "largest_difference": r.Difference})
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d tensors, %d parameters; read back, outputs differ by %.1e of the largest\n", out, r.Tensors, r.Parameters, r.Difference)
	return err
}
