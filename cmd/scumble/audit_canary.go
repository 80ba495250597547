package main

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/audit"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/generate"
)

// canaryAudit is what audit canary prints and keeps. It holds no path and no time.
type canaryAudit struct {
	*audit.Result
	Images  string `json:"images"`  // What trained beside the canaries.
	Covered bool   `json:"covered"` // Nothing private was read.
	Note    string `json:"note"`
}

// canaryFlags of audit canary.
type canaryFlags struct {
	session    sessionFlags
	canaries   int
	norm       float64
	confidence float64
	data       string
}

func newAuditCanary() *cobra.Command {
	var f canaryFlags
	c := &cobra.Command{
		Use:   "canary RUN|CONFIG",
		Short: "Bound epsilon from below by canaries in the training itself",
		Long: `canary trains once more as RUN was trained, or as CONFIG says: the same base
model, sampling, clipping, noise and number of steps, through the same code, with
canaries among the examples. A canary is an example whose gradient lies along a
coordinate of its own; each is in or out by a fair coin. From the noised sums canary
guesses the coins, and prints four lower bounds on epsilon beside the claim:

  without assumptions  needs fair coins only; reaches a third or so
  privacy curve        assumes the curve of the run's mechanism with some noise
  gaussian             assumes also that canaries are independent
  step by step         assumes sampled Gaussian steps, and measures them

What is trained is thrown away. Images are RUN's released synthetic ones, or samples
of the public base model for a CONFIG: nothing private is read, and the result is
covered by the claim. With --data it reads those, and the result stays in private/.

Exit code 6: a bound is above the claim, or the noise is not what it should be.`,
		Example: "  scumble audit canary runs/demo --backend xla",
		Args:    exactly("RUN or CONFIG"),
		RunE:    func(c *cobra.Command, args []string) error { return f.run(c, args[0]) },
	}
	c.Flags().SortFlags = false
	c.Flags().IntVar(&f.canaries, "canaries", 5000, "`COUNT` of canaries; half of them train")
	c.Flags().Float64Var(&f.norm, "canary-norm", 0, "`NORM` of a canary's gradient before the clip; 0 is twice the clipping norm, or its root if larger")
	c.Flags().Float64Var(&f.confidence, "confidence", 0.95, "`SHARE` of runs in which a bound holds, in (0.5, 1)")
	c.Flags().StringVar(&f.data, "data", "", "`PATH` of private images to train on: class folders or IDX; the result is then private")
	f.session.add(c)
	return c
}

func (f *canaryFlags) run(c *cobra.Command, path string) error {
	switch {
	case f.canaries < 100 || f.canaries > 1_000_000:
		return misuse(fmt.Errorf("--canaries is %d, want 100 to 1000000", f.canaries))
	case !(f.confidence > 0.5 && f.confidence < 1):
		return misuse(fmt.Errorf("--confidence is %g, want in (0.5, 1)", f.confidence))
	case !(f.norm >= 0):
		return misuse(fmt.Errorf("--canary-norm is %g, want positive, or 0", f.norm))
	}
	run, configPath := "", path
	if dirExists(path) {
		run, configPath = path, filepath.Join(path, finetune.ConfigFile)
	}
	config, err := finetune.ReadConfig(configPath)
	if err != nil {
		return err
	}
	s, err := f.session.open(c)
	if err != nil {
		return err
	}
	defer s.close()
	found, err := f.audit(c.Context(), s, config, run)
	if err != nil {
		return err
	}
	if run != "" {
		name := canaryFile
		if !found.Covered {
			name = canaryData
		} else if err := keepBroken(run, found.Broken); err != nil {
			return err
		}
		if err := keepAudit(run, name, found, found.Covered); err != nil {
			return err
		}
	}
	if f.session.json {
		err = printJSON(c, found)
	} else {
		err = found.print(c.OutOrStdout())
	}
	if err != nil {
		return err
	}
	return broken(found.Broken)
}

// audit trains with canaries and bounds epsilon.
func (f *canaryFlags) audit(ctx context.Context, s *session, config *finetune.Config, run string) (*canaryAudit, error) {
	images, found, err := f.images(ctx, s, config, run)
	if err != nil {
		return nil, err
	}
	base, err := loadBase(config.Base)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	a, err := finetune.NewAudit(ctx, s.backend, config, base, run, f.canaries, f.norm, finetune.Options{
		Lowering: s.lowering, Workers: s.workers,
		Report: func(p finetune.Progress) {
			left := time.Since(start).Seconds() / float64(p.Step) * float64(p.Steps-p.Step)
			s.talk.progress(p.Step == p.Steps, "audit step %d/%d, %s left", p.Step, p.Steps, short(time.Duration(left*float64(time.Second))))
		},
	})
	if err != nil {
		return nil, err
	}
	defer a.Close()
	m := a.Plan.Mechanism
	mechanism := audit.Mechanism{NoiseMultiplier: m.NoiseMultiplier, SamplingProbability: m.SamplingProbability, Steps: m.Steps, Delta: a.Plan.Delta}
	var key [32]byte
	if _, err := crand.Read(key[:]); err != nil {
		return nil, err
	}
	coins, err := audit.NewCanaries(mechanism, f.canaries, rand.New(rand.NewChaCha8(key)))
	if err != nil {
		return nil, err
	}
	plan, err := audit.NewPlan(mechanism, f.canaries, f.confidence)
	if err != nil {
		return nil, err
	}
	s.talk.say("audit of %d steps with %d canaries, %d of them in, beside %s: claim epsilon %.4f at delta %g",
		m.Steps, f.canaries, len(coins.Members()), found.Images, a.Plan.EpsilonAlone, a.Plan.Delta)
	start = time.Now()
	if err := a.Train(ctx, images, coins.Members(), coins.See); err != nil {
		return nil, err
	}
	found.Result, err = coins.Result(plan, f.confidence)
	return found, err
}

// images returns what trains beside the canaries, and the frame of the result.
func (f *canaryFlags) images(ctx context.Context, s *session, config *finetune.Config, run string) (*dataset.Set, *canaryAudit, error) {
	base, err := loadBase(config.Base)
	if err != nil {
		return nil, nil, err
	}
	size := config.Data.Size
	if size == 0 {
		size = base.Size
	}
	if f.data != "" {
		set, err := dataset.Open(f.data, dataset.Options{Size: size, Channels: base.Channels, Classes: config.Data.Classes})
		if err != nil && s.conceal {
			err = conceal(err, f.data, nil)
		}
		return set, &canaryAudit{Images: "private images", Note: notCoveredNote}, err
	}
	if folder := filepath.Join(run, finetune.ReleaseDir, syntheticDir); run != "" && dirExists(folder) {
		set, err := dataset.Open(folder, dataset.Options{Classes: config.Data.Classes, AllowEmpty: len(config.Data.Classes) > 0})
		return set, &canaryAudit{Images: "released synthetic images", Covered: true,
			Note: "trained on released images and canaries: nothing private was read"}, err
	}
	classes := config.Data.Classes
	if classes == nil {
		if classes, err = dataset.ClassNamesOf(config.Data.Path, config.Data.Options(0, 0, nil)); err != nil {
			return nil, nil, err
		}
	}
	set, err := generate.Images(ctx, s.backend, base, size, generate.Balanced(measureSamples, len(base.Classes)), generate.Options{
		Steps: 16, Seed: sampleSeed, Lowering: s.lowering, Workers: s.workers})
	if err != nil {
		return nil, nil, fmt.Errorf("sample the base model: %w", err)
	}
	for i := range set.Labels {
		set.Labels[i] %= len(classes)
	}
	set.Classes = classes
	return set, &canaryAudit{Images: "samples of the public base model", Covered: true,
		Note: "trained on samples of the public base model and canaries: nothing private was read"}, nil
}

// print writes the bounds for people.
func (a *canaryAudit) print(out io.Writer) error {
	m := a.Measured
	text := fmt.Sprintf("claim                 epsilon %.4f at delta %g: %d steps, noise multiplier %g, sampling probability %g\n",
		a.Claim, a.Mechanism.Delta, a.Mechanism.Steps, a.Mechanism.NoiseMultiplier, a.Mechanism.SamplingProbability)
	for _, b := range a.bounds() {
		text += fmt.Sprintf("  lower bound %8.4f  %s, at %g %% confidence\n", b.Epsilon, b.name, 100*b.Confidence)
	}
	text += fmt.Sprintf("measured              sampling %.4f, contribution %.4f, noise %.4f of what the claim says; noise of single steps %.3f to %.3f\n",
		m.SamplingProbability, m.Signal, m.Noise, m.Softest.Noise, m.Loudest.Noise)
	text += fmt.Sprintf("canaries              %d of %d in; %d of %d guesses right\n", a.Counts.In, a.Canaries, a.OneRun.Correct, a.OneRun.Guesses)
	text += fmt.Sprintf("note                  %s\n", a.Note)
	_, err := io.WriteString(out, text)
	return err
}
