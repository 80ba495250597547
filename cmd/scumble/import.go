package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/compvis"
	"github.com/scumble-dp/scumble/tokenizer"
	"github.com/scumble-dp/scumble/torchfile"
)

func newImport() *cobra.Command {
	var config, out, words, classes string
	var ema, half, asJSON bool
	c := &cobra.Command{
		Use:   "import FILE.ckpt --config FILE.yaml --out DIR",
		Short: "Make a model folder of a CompVis checkpoint",
		Long: `import reads a checkpoint of CompVis' latent-diffusion or stable-diffusion with its
YAML config and writes a diffusers folder, which finetune takes as base. Such a
checkpoint is a pickle, which can run any code where Python loads it; here nothing
of it runs: only dictionaries and tensors are rebuilt, and whatever else the file
asks for is an error that names it. Import public models only.`,
		Example: "  scumble import model.ckpt --config celebahq-ldm-vq-4.yaml --out models/celebahq",
		Args:    exactly("FILE.ckpt"),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case config == "":
				return misuse(errors.New("--config is missing, want the YAML file beside the checkpoint"))
			case out == "":
				return misuse(errors.New("--out is missing, want the folder to write the model to"))
			}
			if _, err := os.Lstat(out); err == nil {
				return invalid(fmt.Errorf("output %s exists; choose another", out))
			}
			text, err := os.ReadFile(config)
			if err != nil {
				return invalid(err)
			}
			parsed, err := compvis.ParseConfig(text)
			if err != nil {
				return invalid(err)
			}
			o := compvis.Options{EMA: ema}
			if classes != "" {
				o.Classes = strings.Split(classes, ",")
			}
			if words != "" {
				if o.Tokenizer, err = tokenizer.Open(words); err != nil {
					return invalid(err)
				}
			}
			f, err := torchfile.Open(args[0])
			if err != nil {
				return invalid(err)
			}
			defer f.Close()
			b, _, err := backend.Open(backend.Go) // Nothing runs on it.
			if err != nil {
				return &coded{exitResources, err}
			}
			defer b.Finalize()
			m, err := compvis.Import(b, f, parsed, o)
			if err != nil {
				return invalid(err)
			}
			save := checkpoint.Save
			if half {
				save = checkpoint.SaveHalf
			}
			if err := save(out, m); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c, map[string]any{"out": out, "parameters": m.Weights.Size(), "size": m.Size, "channels": m.Channels, "classes": len(m.Classes)})
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d parameters, images of %d pixels\n", out, m.Weights.Size(), m.Size)
			return err
		},
	}
	c.Flags().StringVar(&config, "config", "", "YAML `FILE` of the model")
	c.Flags().StringVar(&out, "out", "", "`DIR` to write to; must not exist")
	c.Flags().StringVar(&words, "tokenizer", "", "`DIR` of the tokenizer, for models conditioned on text")
	c.Flags().StringVar(&classes, "classes", "", "`NAMES` of the classes in order, separated by commas; default numbers")
	c.Flags().BoolVar(&ema, "ema", false, "take the averaged weights of the UNet")
	c.Flags().BoolVar(&half, "half", false, "write float16")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
