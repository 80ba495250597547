package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/baseline"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/dataset/shapes"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/finetune"
)

// baselineRun is what both baselines share: the private images and the budget of a
// config, a folder with a ledger, and reference images.
type baselineRun struct {
	flags     sessionFlags
	out       string
	reference string

	config *finetune.Config
	plan   *finetune.Plan
	set    *dataset.Set
	test   *dataset.Set // Nil without --reference.
	ledger *accountant.Ledger
	begin  time.Time
}

func (b *baselineRun) add(c *cobra.Command) {
	c.Flags().StringVar(&b.out, "out", "", "`DIR` for ledger and result; must not exist; required")
	c.Flags().StringVar(&b.reference, "reference", "", "`PATH` of labelled images to score on; the accuracy is not covered by the claim")
	b.flags.add(c)
}

// baselineResult is the result of a baseline, as --json has it.
type baselineResult struct {
	Baseline        string         `json:"baseline"`
	Epsilon         float64        `json:"epsilon"` // Spent, by the ledger.
	Delta           float64        `json:"delta"`
	NoiseMultiplier float64        `json:"noise_multiplier"`
	Accuracy        *float64       `json:"accuracy,omitempty"` // On the reference.
	PerClass        []float64      `json:"per_class,omitempty"`
	NotCovered      []string       `json:"not_covered,omitempty"`
	Seconds         float64        `json:"seconds"`
	Dir             string         `json:"dir"`
	Options         map[string]any `json:"options"`
}

// open reads the config and, when all else is checked, the images.
func (b *baselineRun) open(c *cobra.Command, path string) (*session, error) {
	if b.out == "" {
		return nil, misuse(errors.New("--out is missing, want the folder to make"))
	}
	b.begin = time.Now()
	var err error
	if b.config, err = finetune.ReadConfig(path); err != nil {
		return nil, err
	}
	if len(b.config.Privacy.PreviousRuns) > 0 {
		return nil, fmt.Errorf("%w: privacy.previous_runs is set: a baseline is for images that are public anyway, or for a budget of its own; a later run can name its ledger", finetune.ErrConfig)
	}
	if _, err := os.Lstat(b.out); err == nil {
		return nil, invalid(fmt.Errorf("%s exists; choose another place", b.out))
	}
	if inside, err := within(b.out, b.config.Data.Path); err != nil || inside {
		return nil, misuse(errors.Join(err, fmt.Errorf("%s lies in %s, want a place outside the private images", b.out, b.config.Data.Path)))
	}
	base, err := loadBase(b.config.Base) // Says size, channels and classes as in the run that this is compared with.
	if err != nil {
		return nil, err
	}
	s, err := b.flags.open(c)
	if err != nil {
		return nil, err
	}
	if b.plan, _, err = finetune.NewPlan(s.backend, b.config, base); err == nil && b.plan.Text {
		err = fmt.Errorf("%w: the base model takes text, baselines take classes", finetune.ErrConfig)
	}
	if err == nil && b.reference != "" {
		b.test, err = dataset.Open(b.reference, dataset.Options{Size: b.plan.Size, Channels: b.plan.Channels, Classes: b.plan.Classes, Split: dataset.Test})
		if err != nil && s.conceal { // It may be private as well.
			err = conceal(err, b.reference, b.plan)
		}
	}
	if err == nil {
		b.set, err = dataset.Open(b.config.Data.Path, b.config.Data.Options(b.plan.Size, b.plan.Channels, b.plan.Classes))
		if err == nil && b.set.Labels == nil {
			err = fmt.Errorf("%w: %s has no labels, want images of named classes", dataset.ErrInvalid, b.config.Data.Path)
		}
		if err != nil && s.conceal {
			err = conceal(err, b.config.Data.Path, b.plan)
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// budget makes the folder with an empty ledger.
func (b *baselineRun) budget() (baseline.Budget, error) {
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(b.out)), 0o755); err != nil {
		return baseline.Budget{}, err
	}
	if err := os.Mkdir(b.out, 0o755); err != nil {
		return baseline.Budget{}, err
	}
	config, err := b.config.YAML()
	if err != nil {
		return baseline.Budget{}, err
	}
	if err := os.WriteFile(filepath.Join(b.out, finetune.ConfigFile), config, 0o644); err != nil {
		return baseline.Budget{}, err
	}
	var key [32]byte // Of this run alone: the name says nothing about the images.
	if _, err := crand.Read(key[:]); err != nil {
		return baseline.Budget{}, err
	}
	if b.ledger, err = accountant.CreateLedger(filepath.Join(b.out, finetune.LedgerFile)); err != nil {
		return baseline.Budget{}, err
	}
	p := b.config.Privacy
	return baseline.Budget{Epsilon: p.Epsilon, Delta: p.Delta, Ledger: b.ledger, Dataset: b.set.Fingerprint(key[:])}, nil
}

// close closes the ledger; a folder in which nothing was spent goes.
func (b *baselineRun) close() {
	empty := len(b.ledger.Record().Runs()) == 0
	b.ledger.Close()
	if empty {
		os.RemoveAll(b.out)
	}
}

// finish accounts for the ledger and prints the result.
func (b *baselineRun) finish(c *cobra.Command, s *session, name string, score *eval.Score, options map[string]any) error {
	events := b.ledger.Record().Events()
	claim, err := accountant.PLD{}.Epsilon(events, accountant.AddOrRemove, b.config.Privacy.Delta)
	if err != nil {
		return err
	}
	r := &baselineResult{Baseline: name, Epsilon: claim.Epsilon, Delta: b.config.Privacy.Delta, NoiseMultiplier: events[0].NoiseMultiplier,
		Seconds: time.Since(b.begin).Seconds(), Dir: b.out, Options: options}
	if score != nil {
		r.Accuracy, r.PerClass, r.NotCovered = &score.Accuracy, score.PerClass, []string{"accuracy", "per_class"}
	}
	if b.flags.json {
		return printJSON(c, r)
	}
	out := c.OutOrStdout()
	fmt.Fprintf(out, "epsilon   %.4f at delta %g, by %s\n", r.Epsilon, r.Delta, filepath.Join(b.out, finetune.LedgerFile))
	if score != nil {
		fmt.Fprintf(out, "accuracy  %.2f %% of %d reference images (not covered by the claim)\n", 100*score.Accuracy, score.Tests)
	}
	fmt.Fprintf(out, "time      %s\n", short(time.Since(b.begin)))
	return nil
}

func newBenchClassifier() *cobra.Command {
	var b baselineRun
	var o baseline.ClassifierOptions
	c := &cobra.Command{
		Use:   "classifier CONFIG --out DIR",
		Short: "Baseline: train a classifier on the private images by DP-SGD",
		Long: `classifier trains the classifier of scumble eval on the private images of a config
by DP-SGD, at the config's epsilon and delta: what a guarantee allows where no image
is asked for. Of the config it takes data and privacy.`,
		Example: "  scumble bench classifier clinic.yaml --reference clinic-test --out runs/clinic-classifier",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := b.open(c, args[0])
			if err != nil {
				return err
			}
			defer s.close()
			o.Examples, o.Lowering, o.Workers = b.config.Data.Examples, s.lowering, s.workers
			if o.ExpectedBatchSize == 0 {
				o.ExpectedBatchSize = float64(o.Examples) / 16
			}
			o.Prepare = func(percent int) {
				s.talk.progress(percent == 100, "features of the private images, %d %%", percent)
			}
			o.Report = func(step, steps int) { s.talk.progress(step == steps, "classifier by DP-SGD: step %d/%d", step, steps) }
			budget, err := b.budget()
			if err != nil {
				return err
			}
			defer b.close()
			p, err := baseline.TrainClassifier(c.Context(), s.backend, b.set, budget, o)
			if err != nil {
				return err
			}
			defer p.Close()
			var score *eval.Score
			if b.test != nil {
				got, err := p.Score(c.Context(), b.test)
				if err != nil {
					return err
				}
				score = &got
			}
			return b.finish(c, s, "classifier", score, map[string]any{"steps": o.Steps, "expected_batch_size": o.ExpectedBatchSize,
				"clipping_norm": o.ClippingNorm, "learning_rate": o.LearningRate, "ema": o.EMA, "seed": o.Seed, "classifier": o.Classifier})
		},
	}
	c.Flags().IntVar(&o.Steps, "steps", 300, "noisy `UPDATES`")
	c.Flags().Float64Var(&o.ExpectedBatchSize, "expected-batch-size", 0, "mean number of `IMAGES` in a step; 0 is a sixteenth of data.examples")
	c.Flags().Float64Var(&o.ClippingNorm, "clipping-norm", 1, "bound on the `NORM` of each image's gradient")
	c.Flags().StringVar((*string)(&o.Classifier), "classifier", string(eval.CNN), "`NAME`: cnn, or scattering, linear on a scattering transform")
	c.Flags().Float64Var(&o.LearningRate, "learning-rate", 3e-3, "`RATE` of AdamW")
	c.Flags().Float64Var(&o.EMA, "ema", 0.95, "`DECAY` per step of the average that is scored; 0 is none")
	c.Flags().Uint64Var(&o.Seed, "seed", 1, "`NUMBER` that decides the weights at the start")
	b.add(c)
	return c
}

func newBenchEvolution() *cobra.Command {
	var b baselineRun
	var o baseline.EvolutionOptions
	var pool string
	var count int
	c := &cobra.Command{
		Use:   "evolution CONFIG --pool RENDERER --out DIR",
		Short: "Baseline: Private Evolution over rendered images",
		Long: `evolution chooses among public images that a renderer draws: the private images of a
config vote for those they are nearest to, with noise, and the winners' neighbours
stand for election again. No model is trained. Of the config it takes data, privacy
and sampling.count. The images are in DIR/synthetic; scumble eval scores them.`,
		Example: "  scumble bench evolution clinic.yaml --pool shapes --out runs/clinic-evolution",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if pool != "glyphs" && pool != "shapes" {
				return misuse(fmt.Errorf("--pool is %q, want glyphs or shapes", pool))
			}
			s, err := b.open(c, args[0])
			if err != nil {
				return err
			}
			defer s.close()
			if o.Images = b.config.Sampling.Count; o.Images == 0 {
				return fmt.Errorf("%w: sampling.count is 0, want the number of images to choose", finetune.ErrConfig)
			}
			public, err := b.draw(c.Context(), pool, count)
			if err != nil {
				return err
			}
			apart := s.network()
			apart.Apart = true
			network, err := eval.Glyphs(s.backend, apart)
			if err != nil {
				return err
			}
			defer network.Close()
			features := map[*dataset.Set]*eval.Features{}
			for _, set := range []*dataset.Set{public, b.set} {
				s.talk.say("features of the images")
				if features[set], err = network.Features(c.Context(), set, nil); err != nil {
					return err
				}
			}
			o.Report = func(i, n int) { s.talk.progress(i == n, "private evolution: vote %d of %d", i, n) }
			budget, err := b.budget()
			if err != nil {
				return err
			}
			defer b.close()
			chosen, err := baseline.Evolve(c.Context(), b.set, public, features[b.set], features[public], budget, o)
			if err != nil {
				return err
			}
			if err := dataset.WriteFolder(filepath.Join(b.out, syntheticDir), chosen); err != nil {
				return err
			}
			var score *eval.Score
			if b.test != nil {
				got, err := s.classify(c.Context(), "classifier", chosen, b.test, 1)
				if err != nil {
					return err
				}
				score = &got
			}
			return b.finish(c, s, "evolution", score, map[string]any{"pool": pool, "pool_images": count, "images": o.Images,
				"iterations": o.Iterations, "first": o.First, "threshold": o.Threshold, "seed": o.Seed})
		},
	}
	c.Flags().StringVar(&pool, "pool", "", "`RENDERER` of the public images: glyphs or shapes; required")
	c.Flags().IntVar(&count, "pool-images", 40000, "`IMAGES` that it draws")
	c.Flags().IntVar(&o.Iterations, "votes", 8, "`TIMES` that the private images vote")
	c.Flags().IntVar(&o.First, "around", 200, "`IMAGES` near a winner of the first vote that may stand for it next; fewer later")
	c.Flags().Float64Var(&o.Threshold, "threshold", 0, "`COUNT` that is taken off each noisy count")
	c.Flags().Uint64Var(&o.Seed, "seed", 1, "`NUMBER` that decides the choice among public images")
	b.add(c)
	return c
}

// draw draws the public images of the classes of the run.
func (b *baselineRun) draw(ctx context.Context, pool string, count int) (*dataset.Set, error) {
	var d dataset.Drawer
	var err error
	const seed = 1
	if pool == "glyphs" {
		d, err = glyphs.NewRenderer(glyphs.Options{Size: b.plan.Size, Channels: b.plan.Channels, Seed: seed, Classes: b.plan.Classes})
	} else {
		d, err = shapes.NewRenderer(shapes.Options{Size: b.plan.Size, Channels: b.plan.Channels, Seed: seed, Classes: b.plan.Classes})
	}
	if err != nil {
		return nil, misuse(fmt.Errorf("--pool %s: %w", pool, err))
	}
	if count < 1 || count > 1_000_000 {
		return nil, misuse(fmt.Errorf("--pool-images is %d, want 1 to 1000000", count))
	}
	return dataset.Draw(ctx, d, count)
}
