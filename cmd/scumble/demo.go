package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/data"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/recipes"
)

// demoResult is what demo --json prints: a stable contract.
type demoResult struct {
	Epsilon             float64            `json:"epsilon"`
	Delta               float64            `json:"delta"`
	Method              string             `json:"method"`
	Accuracy            map[string]float64 `json:"accuracy"`
	TrainableParameters int                `json:"trainable_parameters"`
	TotalParameters     int                `json:"total_parameters"`
	Steps               int                `json:"steps"`
	Seconds             map[string]float64 `json:"seconds"`
	PeakBytes           int64              `json:"peak_rss_bytes"`
	Backend             string             `json:"backend"`
	Run                 string             `json:"run"`
}

func newDemo() *cobra.Command {
	var flags sessionFlags
	var method, out string
	var epsilon float64
	var resume, force bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "The whole way on bundled data, in minutes",
		Long: `demo fine-tunes a bundled public model on 8,000 handwritten digits with
differential privacy, samples a synthetic data set, and scores a classifier that
was trained on it: with the ledger, the statement and two reports, one that may
leave the building and one that may not. It needs no network.`,
		Example: "  scumble demo --epsilon 10 --out runs/demo",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := demoConfig(method, epsilon)
			if err != nil {
				return err
			}
			if out == "" {
				out = filepath.Join("runs", fmt.Sprintf("demo-%s-epsilon-%g", method, epsilon))
			}
			if force {
				if err := removeRun(out); err != nil {
					return err
				}
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			defer s.close()
			r, err := s.demo(c.Context(), config, out, resume)
			if err != nil {
				return err
			}
			s.talk.say("synthetic %.1f %%, public model alone %.1f %%, real images %.1f %% (not covered by the claim)",
				100*r.Accuracy["synthetic"], 100*r.Accuracy["public_model"], 100*r.Accuracy["real"])
			s.talk.say("open %s", filepath.Join(out, finetune.ReleaseDir, "report.html"))
			if flags.json {
				return printJSON(c, r)
			}
			return nil
		},
	}
	c.Flags().StringVar(&method, "method", "attention", "what trains: attention (DP-LDM) or loda (DP-LoDA)")
	c.Flags().Float64Var(&epsilon, "epsilon", 10, "privacy `BUDGET`, at delta 1e-5")
	c.Flags().StringVar(&out, "out", "", "run `DIR`; default runs/demo-METHOD-epsilon-E")
	c.Flags().BoolVar(&resume, "resume", false, "go on with an interrupted demo")
	c.Flags().BoolVar(&force, "force", false, "remove an earlier run in the same place first")
	flags.add(c)
	return c
}

// demoConfig reads the bundled recipe.
func demoConfig(method string, epsilon float64) (*finetune.Config, error) {
	if method != string(finetune.Attention) && method != string(finetune.LoDA) {
		return nil, misuse(fmt.Errorf("--method is %q, want attention or loda", method))
	}
	text, err := recipes.Files.ReadFile("demo-" + method + ".yaml")
	if err != nil {
		return nil, err
	}
	config, err := finetune.ParseConfig(text)
	if err != nil {
		return nil, err
	}
	config.Privacy.Epsilon = epsilon
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return config, nil
}

// demo goes the whole way.
func (s *session) demo(ctx context.Context, c *finetune.Config, out string, resume bool) (*demoResult, error) {
	begin := time.Now()
	folder, err := os.MkdirTemp("", "scumble-demo-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	if err := data.Extract(folder); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, c.Data.Path)
	result, r, err := s.train(ctx, c, trainOptions{dir: out, resume: resume, data: path})
	if err != nil {
		return nil, err
	}
	options := dataset.Options{Size: result.Plan.Size, Channels: result.Plan.Channels, Classes: result.Plan.Classes}
	test := options
	test.Split = dataset.Test
	real, err := dataset.Open(path, options)
	if err != nil {
		return nil, err
	}
	held, err := dataset.Open(path, test)
	if err != nil {
		return nil, err
	}

	start := time.Now()
	synthetic, err := s.synthesise(ctx, out, result.Model, c, r)
	if err != nil {
		return nil, err
	}
	base, err := loadBase(c.Base)
	if err != nil {
		return nil, err
	}
	public, err := s.samplePublic(ctx, base, result.Plan.Classes, c.Sampling)
	if err != nil {
		return nil, err
	}
	r.Seconds["sample"] = time.Since(start).Seconds()

	start = time.Now()
	const tested = "2,000 held-out handwritten digits, declared public"
	for _, k := range []struct {
		name, trained string
		train         *dataset.Set
		covered       bool
	}{
		{"synthetic", "synthetic images of the released model", synthetic, true},
		{"public_model", "samples of the public base model (epsilon 0)", public, true},
		{"real", "the private images themselves", real, false},
	} {
		value, err := s.classify(ctx, "classifier on "+k.trained, k.train, held, 1)
		if err != nil {
			return nil, err
		}
		r.setScore(score{Name: k.name, Trained: k.trained, Tested: tested, Covered: k.covered, Score: value, Training: k.train.Len()})
	}
	r.Seconds["classifier"] = time.Since(start).Seconds()
	r.Seconds["total"] = time.Since(begin).Seconds()
	if err := r.save(out); err != nil {
		return nil, err
	}
	if err := dataset.WritePNG(filepath.Join(out, finetune.PrivateDir, publicGridFile), dataset.Grid(firstPerClass(public, gridColumns), gridColumns)); err != nil {
		return nil, err
	}
	if err := writeReports(out); err != nil {
		return nil, err
	}
	return newDemoResult(c, result, r, out), nil
}

// samplePublic draws from the public base model the classes that the run has:
// the floor, without private data.
func (s *session) samplePublic(ctx context.Context, base *checkpoint.Model, classes []string, c finetune.Sampling) (*dataset.Set, error) {
	labels := map[string]int{}
	for i, name := range base.Classes {
		labels[name] = i
	}
	want := make([]int, len(classes))
	for i, name := range classes {
		label, ok := labels[name]
		if !ok {
			return nil, fmt.Errorf("base model has no class %q", name)
		}
		want[i] = label
	}
	list := make([]int, c.Count)
	for i := range list {
		list[i] = want[i%len(want)]
	}
	set, err := s.sample(ctx, "samples of the public model", base, list, sampleSeed, c)
	if err != nil {
		return nil, err
	}
	for i := range set.Labels {
		set.Labels[i] = i % len(want)
	}
	set.Classes = classes
	return set, nil
}

func newDemoResult(c *finetune.Config, result *finetune.Result, r *results, out string) *demoResult {
	d := &demoResult{Epsilon: result.Claim.Epsilon, Delta: result.Claim.Delta, Method: string(c.Method), Accuracy: map[string]float64{},
		TrainableParameters: result.Plan.TrainableParameters, TotalParameters: result.Plan.TotalParameters,
		Steps: result.Plan.Mechanism.Steps, Seconds: r.Seconds, PeakBytes: r.PeakBytes, Backend: r.Backend, Run: out}
	for _, s := range r.Scores {
		d.Accuracy[s.Name] = s.Score.Accuracy
	}
	return d
}
