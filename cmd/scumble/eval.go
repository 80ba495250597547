package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
)

func newEval() *cobra.Command {
	var flags sessionFlags
	var reference, labels string
	var public bool
	var seed uint64
	c := &cobra.Command{
		Use:   "eval SYNTHETIC|RUN --reference REAL",
		Short: "Train a classifier on synthetic images and score it on real ones",
		Long: `eval trains the downstream classifier on labelled synthetic images and prints its
accuracy on the reference images. A figure computed from private reference images
is not covered by the privacy claim: it says so, and in a run directory it stays
in private/. --reference-public declares that the reference images are public.`,
		Example: "  scumble eval runs/clinic --reference clinic-test",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if reference == "" {
				return misuse(fmt.Errorf("--reference is missing, want a folder of class folders or IDX files"))
			}
			path, run := args[0], ""
			if dir := filepath.Join(path, finetune.ReleaseDir, syntheticDir); dirExists(dir) {
				path, run = dir, args[0]
			}
			train, err := dataset.Open(path, dataset.Options{})
			if err != nil {
				return err
			}
			test, err := dataset.Open(reference, dataset.Options{Size: train.Height, Channels: train.Channels, Classes: train.Classes,
				AllowEmpty: true, Labels: labels, Split: dataset.Test})
			if err != nil {
				return err
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			defer s.close()
			start := time.Now()
			value, err := s.classify(c.Context(), "classifier", train, test, seed)
			if err != nil {
				return err
			}
			note := "not covered by the privacy claim: computed from reference images that were not declared public"
			if public {
				note = "reference images declared public"
			}
			if run != "" {
				r, err := loadResults(run)
				if err != nil {
					return err
				}
				r.setScore(score{Name: "synthetic", Trained: "synthetic images of the released model", Tested: "reference images", Covered: public, Score: value, Training: train.Len()})
				if err := r.save(run); err != nil {
					return err
				}
				if err := writeReports(run); err != nil {
					return err
				}
			}
			if flags.json {
				return printJSON(c, map[string]any{"accuracy": value.Accuracy, "per_class": value.PerClass, "classes": train.Classes, "tests": value.Tests,
					"training_images": train.Len(), "covered": public, "note": note, "seconds": time.Since(start).Seconds()})
			}
			fmt.Fprintf(c.OutOrStdout(), "accuracy %.4f on %d images (%s)\n", value.Accuracy, value.Tests, note)
			for i, name := range train.Classes {
				fmt.Fprintf(c.OutOrStdout(), "  %-20s %.4f\n", name, value.PerClass[i])
			}
			return nil
		},
	}
	c.Flags().StringVar(&reference, "reference", "", "`PATH` of labelled real images: class folders or IDX")
	c.Flags().StringVar(&labels, "reference-labels", "", "IDX `FILE` of the labels, where not beside the images")
	c.Flags().BoolVar(&public, "reference-public", false, "declare the reference images public")
	c.Flags().Uint64Var(&seed, "seed", 1, "`NUMBER` that decides the classifier's start and batches")
	flags.add(c)
	return c
}
