package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/export"
	"github.com/scumble-dp/scumble/release"
)

func newExport() *cobra.Command {
	var format, out, layouts string
	var o export.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "export RUN --format dataset --out DIR",
		Short: "Write the synthetic images, or the model, for other tools",
		Long: `export verifies a release (of a run directory, or the folder itself) and writes its
synthetic images to DIR: Parquet with Image and ClassLabel features that Hugging
Face load_dataset(DIR) opens, an image folder, WebDataset shards, a data card, Croissant
metadata, and the statement with what it takes to verify it. It reads back what it
wrote and compares pixels and labels before it says done. Nothing in DIR comes from the
private images but through the released model; names, order and times are made here.

Images drawn from prompts have them as captions: column text, metadata.jsonl, or .txt.

--format parquet, imagefolder or webdataset writes that layout alone.

scumble verify DIR checks the folder, and scumble sign DIR signs it.

With another format it writes the model of RUN, or of a model folder, and compares the
network's outputs before and after: diffusers (linear adapters merged into the weights),
peft, diffusers-lora or kohya (the adapter alone, where it is linear).`,
		Example: "  scumble export runs/demo --format dataset --out digits --license CC-BY-4.0",
		Args:    exactly("RUN"),
		RunE: func(c *cobra.Command, args []string) error {
			if slices.Contains(export.Layouts(), export.Layout(format)) { // Short for one layout of a data set.
				if c.Flags().Changed("layout") {
					return misuse(fmt.Errorf("--format %s is the data set in that layout; leave --layout away", format))
				}
				format, layouts = "dataset", format
			}
			switch {
			case out == "":
				return misuse(errors.New("--out is missing, want the folder to write to; it must not exist"))
			case format != "dataset":
				return exportModel(c, args[0], out, format, asJSON)
			}
			for _, l := range strings.Split(layouts, ",") {
				o.Layouts = append(o.Layouts, export.Layout(strings.TrimSpace(l)))
			}
			r, err := export.Dataset(out, releaseOf(args[0]), o)
			var no *export.RefusedError
			switch {
			case errors.As(err, &no):
				return refused(no.Verdict)
			case errors.Is(err, fs.ErrExist), errors.Is(err, release.ErrNotRelease):
				return invalid(err)
			case err != nil:
				return err
			}
			if asJSON {
				return printJSON(c, map[string]any{"out": out, "images": r.Images, "classes": r.Classes, "prompts": r.Prompts, "files": r.Files, "bytes": r.Bytes})
			}
			kinds := fmt.Sprintf("in %d classes", len(r.Classes))
			if r.Prompts > 0 {
				kinds = fmt.Sprintf("of %d prompts", r.Prompts)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d images %s, %d files, %d bytes; read back and compared\n", out, r.Images, kinds, r.Files, r.Bytes)
			return err
		},
	}
	c.Flags().StringVar(&format, "format", "dataset", "`NAME`: dataset, a layout of it, diffusers, peft, diffusers-lora or kohya")
	c.Flags().StringVar(&out, "out", "", "`DIR` to write to; must not exist")
	c.Flags().StringVar(&layouts, "layout", "parquet,imagefolder,webdataset", "`LAYOUTS` to write, separated by commas")
	c.Flags().StringVar(&o.Name, "name", "", "`TITLE` of the data set; default that of the statement")
	c.Flags().StringVar(&o.License, "license", "", "SPDX `ID` of the licence that you give, such as CC-BY-4.0")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
