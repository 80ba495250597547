package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/finetune"
)

func newFinetune() *cobra.Command {
	var flags sessionFlags
	var o trainOptions
	var engine string
	var schema bool
	c := &cobra.Command{
		Use:   "finetune CONFIG --out DIR | finetune --resume DIR",
		Short: "Fine-tune a public model on private images, with differential privacy",
		Long: `finetune trains a public base model on private images with DP-SGD and writes a run
directory: release/ (model, synthetic images, statement, report) may leave the
building, private/ may not. CONFIG is a YAML file: README shows one, docs/config.md
explains every key, and --schema prints its JSON Schema, for editors. The plan is
printed before an image is opened.

Who fine-tunes twice on the same images spends twice: privacy.previous_runs in
CONFIG names the earlier run directories, and epsilon is then the budget of all
runs together. Exit code 4 says that it is spent.`,
		Example: `  scumble finetune clinic.yaml --out runs/clinic
  scumble finetune --resume runs/clinic`,
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if schema {
				return printSchema(c, args)
			}
			config, err := finetuneConfig(&o, args)
			if err != nil {
				return err
			}
			o.engine = dpsgd.Method(engine)
			if o.engine != dpsgd.Auto && o.engine != dpsgd.BookKeeping && o.engine != dpsgd.PerExampleLoop {
				return misuse(fmt.Errorf("--engine is %q, want %s, %s or %s", engine, dpsgd.Auto, dpsgd.BookKeeping, dpsgd.PerExampleLoop))
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			defer s.close()
			result, r, err := s.train(c.Context(), config, o)
			if err != nil {
				return err
			}
			start := time.Now()
			if config.Sampling.Count > 0 {
				if _, err := s.synthesise(c.Context(), o.dir, result.Model, config, r); err != nil {
					return err
				}
				r.Seconds["sample"] = time.Since(start).Seconds()
			}
			if err := r.save(o.dir); err != nil {
				return err
			}
			if err := writeReports(o.dir); err != nil {
				return err
			}
			s.talk.say("open %s", filepath.Join(o.dir, finetune.ReleaseDir, "report.html"))
			if flags.json {
				return printJSON(c, newDemoResult(config, result, r, o.dir))
			}
			return nil
		},
	}
	c.Flags().StringVar(&o.dir, "out", "", "run `DIR`; must not exist")
	c.Flags().StringVar(&o.resumeDir, "resume", "", "go on with the run in `DIR`")
	c.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema of CONFIG and do nothing else")
	c.Flags().StringVar(&engine, "engine", string(dpsgd.Auto), "how gradients are clipped, a `METHOD`: book-keeping, loop, or auto for the faster one")
	c.Flags().IntVar(&o.physical, "physical-batch", 0, "`EXAMPLES` per call; changes speed and memory only; 0 finds it by trial and memory")
	c.Flags().Uint64Var(&o.insecureSeed, "insecure-seed", 0, "reproducible noise for tests: the result is NOT PRIVATE")
	flags.add(c)
	return c
}

// finetuneConfig reads the config of a new run, or of the one that is resumed.
func finetuneConfig(o *trainOptions, args []string) (*finetune.Config, error) {
	switch {
	case o.resumeDir != "" && (len(args) > 0 || o.dir != ""):
		return nil, misuse(errors.New("--resume takes the config of its run directory; leave CONFIG and --out away"))
	case o.resumeDir != "":
		o.dir, o.resume = o.resumeDir, true
		config, err := finetune.ReadConfig(filepath.Join(o.dir, finetune.ConfigFile))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w; is %s a run directory?", err, o.dir)
		}
		return config, err
	case len(args) == 0:
		return nil, misuse(errors.New("CONFIG is missing"))
	case o.dir == "":
		return nil, misuse(errors.New("--out is missing, want the run directory to make"))
	}
	config, err := finetune.ReadConfig(args[0])
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(o.dir); err == nil {
		return nil, fmt.Errorf("%w: run directory %s exists; choose another, or go on with --resume %s", finetune.ErrConfig, o.dir, o.dir)
	}
	if inside, err := within(o.dir, config.Data.Path); err != nil || inside {
		return nil, misuse(errors.Join(err, fmt.Errorf("run directory %s lies in %s, want a place outside the private images", o.dir, config.Data.Path)))
	}
	return config, nil
}

// printSchema writes the JSON Schema of a config.
func printSchema(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return misuse(fmt.Errorf("%q is one argument too many, --schema takes none", args[0]))
	}
	_, err := c.OutOrStdout().Write(finetune.Schema())
	return err
}

// removeRun removes an earlier run directory. It refuses anything else.
func removeRun(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range []string{finetune.ConfigFile, finetune.PrivateDir} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			return invalid(fmt.Errorf("%s is not a run directory; --force removes nothing else", dir))
		}
	}
	return os.RemoveAll(dir)
}
