package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/pretrain"
)

func newPretrain() *cobra.Command {
	var flags sessionFlags
	var out, from, card string
	c := &cobra.Command{
		Use:   "pretrain CONFIG --out DIR",
		Short: "Train a base model on public images",
		Long: `pretrain trains an autoencoder and a denoiser of classes or texts on public images,
without privacy, and writes them as a diffusers folder. CONFIG is a recipe in
YAML; recipes/ in the repository has those of the bundled models. On the way it keeps what is trained in
DIR.unfinished, from which the same command goes on after an interruption.`,
		Example: "  scumble pretrain recipes/glyphs-latent.yaml --out models/mine",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" {
				return misuse(fmt.Errorf("--out is missing, want the folder to write the model to"))
			}
			config, err := pretrain.ReadConfig(args[0])
			if err != nil {
				return invalid(err)
			}
			if _, err := os.Lstat(out); err == nil {
				return invalid(fmt.Errorf("output %s exists; choose another", out))
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			defer s.close()
			o := pretrain.Options{Lowering: s.lowering, Workers: s.workers, Unfinished: filepath.Clean(out) + ".unfinished"}
			if err := os.MkdirAll(filepath.Dir(o.Unfinished), 0o755); err != nil {
				return err
			}
			if fileExists(o.Unfinished) {
				s.talk.say("going on from %s", o.Unfinished)
			}
			if from != "" {
				if o.Base, err = loadBase(from); err != nil {
					return err
				}
			}
			start := time.Now()
			o.Report = func(p pretrain.Progress) {
				per := time.Since(start).Seconds() / float64(p.Step-p.First)
				s.talk.progress(p.Step == p.Steps, "%s: step %d/%d, loss %.4f, %s left", p.Stage, p.Step, p.Steps, p.Loss,
					short(time.Duration(per*float64(p.Steps-p.Step)*float64(time.Second))))
				if p.Step == p.Steps {
					start = time.Now()
				}
			}
			begin := time.Now()
			m, err := pretrain.Run(c.Context(), s.backend, config, o)
			if errors.Is(err, pretrain.ErrUnfinished) {
				return invalid(err)
			}
			if err != nil {
				if fileExists(o.Unfinished) {
					return withHint(err, fmt.Sprintf("what is trained so far is kept in %s; the same command goes on", o.Unfinished))
				}
				return err
			}
			if card != "" {
				text, err := os.ReadFile(card)
				if err != nil {
					return err
				}
				m.Card = string(text)
			}
			save := checkpoint.Save
			if config.HalfPrecision {
				save = checkpoint.SaveHalf
			}
			if err := save(out, m); err != nil {
				return err
			}
			if err := os.Remove(o.Unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			s.talk.say("wrote %s: %d parameters in %s", out, m.Weights.Size(), short(time.Since(begin)))
			if flags.json {
				return printJSON(c, map[string]any{"model": out, "parameters": m.Weights.Size(), "seconds": time.Since(begin).Seconds(), "backend": s.info.String()})
			}
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", "", "`DIR` to write the model to; must not exist")
	c.Flags().StringVar(&from, "autoencoder-from", "", "take the autoencoder of `MODEL` instead of training one")
	c.Flags().StringVar(&card, "card", "", "`FILE` with the model card to put into the folder")
	flags.add(c)
	return c
}
