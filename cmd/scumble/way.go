package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/generate"
	"github.com/scumble-dp/scumble/internal/wholefile"
	"github.com/scumble-dp/scumble/report"
)

// resultsFile keeps, in a run's private folder, what its reports are made of.
const resultsFile = "results.json"

// results of a run so far. Only scores marked covered may enter a release.
type results struct {
	Plan      *finetune.Plan     `json:"plan"`
	Seconds   map[string]float64 `json:"seconds"`
	PeakBytes int64              `json:"peak_rss_bytes"`
	Backend   string             `json:"backend"`
	Engine    *dpsgd.Choice      `json:"engine,omitempty"`
	Lost      int                `json:"lost_steps"`
	Insecure  bool               `json:"insecure"`

	// Before a private image was opened: these may be released.
	ExpectedSeconds float64 `json:"expected_seconds"` // All steps, by the pace of an empty batch.
	ReadyBytes      int64   `json:"ready_rss_bytes"`  // Peak memory up to there.

	Agreement *generate.Agreement `json:"agreement,omitempty"` // Of the teacher with the synthetic images.

	Scores []score      `json:"scores"`
	Paid   []paidFigure `json:"paid,omitempty"` // By the ledger: these may be released.

	Weights    []report.Weight `json:"weights"`               // Of the base model.
	BaseLedger string          `json:"base_ledger,omitempty"` // Head of the released ledger that the base model came with.
	Unmet      []string        `json:"unmet,omitempty"`       // Assumptions that the run did not keep.
}

// score is the accuracy of a classifier.
type score struct {
	Name     string     `json:"name"` // "synthetic", "public_model", "real".
	Trained  string     `json:"trained_on"`
	Tested   string     `json:"tested_on"`
	Covered  bool       `json:"covered"` // False: computed from private images without noise.
	Score    eval.Score `json:"score"`
	Training int        `json:"training_images"`
}

func loadResults(dir string) (*results, error) {
	data, err := os.ReadFile(filepath.Join(dir, finetune.PrivateDir, resultsFile))
	if err != nil {
		return nil, fmt.Errorf("read results of run %s: %w", dir, err)
	}
	var r results
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("read results of run %s: %w", dir, err)
	}
	if r.Seconds == nil {
		r.Seconds = map[string]float64{}
	}
	return &r, nil
}

func (r *results) save(dir string) error {
	r.PeakBytes = max(r.PeakBytes, peakBytes())
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, finetune.PrivateDir, resultsFile)
	if err := wholefile.Write(path, 0o600, append(data, '\n')); err != nil {
		return fmt.Errorf("save results: %w", err)
	}
	return nil
}

// setScore replaces the score of that name.
func (r *results) setScore(s score) {
	for i := range r.Scores {
		if r.Scores[i].Name == s.Name {
			r.Scores[i] = s
			return
		}
	}
	r.Scores = append(r.Scores, s)
}

// trainOptions of a run.
type trainOptions struct {
	dir          string
	data         string // Where the images lie, if not at data.path.
	resume       bool
	resumeDir    string // Of the flag.
	engine       dpsgd.Method
	physical     int
	insecureSeed uint64
}

// train runs or resumes the fine-tuning of a config.
func (s *session) train(ctx context.Context, c *finetune.Config, o trainOptions) (*finetune.Result, *results, error) {
	base, err := loadBase(c.Base)
	if err != nil {
		return nil, nil, err
	}
	weights, ledger, err := baseWeights(c.Base)
	if err != nil {
		return nil, nil, err
	}
	data := c.Data.Path
	if o.data != "" {
		data = o.data
	}
	var plan *finetune.Plan
	keep := sync.OnceValue(func() error { return keepWeights(o.dir, weights) })
	var expected time.Duration
	var ready int64
	start := time.Now()
	result, err := finetune.Run(ctx, s.backend, c, base, finetune.Options{
		Dir: o.dir, Resume: o.resume, DataPath: o.data, Lowering: s.lowering, Workers: s.workers, Engine: o.engine,
		PhysicalBatchSize: o.physical, InsecureSeed: o.insecureSeed, TuneCache: tuneCache(),
		Planned: func(p *finetune.Plan) {
			plan = p
			s.sayPlan(p, c)
		},
		Tuned: func(c *dpsgd.Choice) { s.talk.say("engine: %s", c) },
		Prepared: func(percent int) {
			s.talk.progress(percent == 100, "teacher: features of the private images, %d %%", percent)
		},
		Taught: func(step, steps int) { s.talk.progress(step == steps, "teacher: step %d/%d", step, steps) },
		Ready:  func(d time.Duration) { expected, ready = d, peakBytes() },
		Report: func(p finetune.Progress) {
			_ = keep() // Its error comes back below.
			s.talk.progress(p.Step == p.Steps, "step %d/%d, %.2f s/step, %s left, epsilon spent %.3f of %g",
				p.Step, p.Steps, p.SecondsPerStep, short(p.Left), p.Epsilon, c.Privacy.Epsilon)
		},
	})
	if errors.Is(err, context.Canceled) && dirExists(o.dir) {
		return nil, nil, withHint(err, fmt.Sprintf("state is saved; the same command with --resume goes on with %s", o.dir))
	}
	if err != nil && s.conceal {
		err = conceal(err, data, plan)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := keep(); err != nil {
		return nil, nil, err
	}
	r := &results{Plan: result.Plan, Backend: s.info.String(), Engine: result.Engine, Lost: result.Lost, Insecure: o.insecureSeed != 0, Seconds: map[string]float64{},
		ExpectedSeconds: expected.Seconds(), ReadyBytes: ready}
	if old, err := loadResults(o.dir); err == nil && o.resume {
		r.Seconds, r.Scores, r.Paid, r.PeakBytes = old.Seconds, old.Scores, old.Paid, old.PeakBytes
	}
	if err := r.setWeights(o.dir, weights, ledger); err != nil {
		return nil, nil, err
	}
	r.Seconds["finetune"] += time.Since(start).Seconds()
	s.talk.say("fine-tuned in %s: epsilon %.4f at delta %g by the ledger", short(time.Since(start)), result.Claim.Epsilon, result.Claim.Delta)
	return result, r, r.save(o.dir)
}

// sayPlan prints what a run will do before it opens an image.
func (s *session) sayPlan(p *finetune.Plan, c *finetune.Config) {
	m := p.Mechanism
	s.talk.say("plan: epsilon %.4f (RDP accountant: %.4f) at delta %g, %s, unit one image", p.Epsilon, p.EpsilonRDP, p.Delta, p.Neighboring)
	if n := len(p.Previous); n > 0 {
		s.talk.say("plan: that is this run (alone %.4f) and the %s on these images (epsilon %.4f together)", p.EpsilonAlone, earlierRuns(n), p.EpsilonPrevious)
	}
	s.talk.say("plan: %d steps, sampling probability %.4g, expected batch %g, %d draws per example, noise multiplier %g, clipping norm %g",
		m.Steps, m.SamplingProbability, m.ExpectedBatchSize, p.Multiplicity, m.NoiseMultiplier, m.ClippingNorm)
	s.talk.say("plan: method %s trains %d of %d parameters; %s, %dx%d pixels, %d channels",
		p.Method, p.TrainableParameters, p.TotalParameters, toldWord(p), p.Size, p.Size, p.Channels)
}

// synthesise makes the synthetic set of a run and writes it to the release.
func (s *session) synthesise(ctx context.Context, dir string, m *checkpoint.Model, c *finetune.Config, r *results) (*dataset.Set, error) {
	const what = "synthetic images"
	labels := generate.Balanced(c.Sampling.Count, len(m.Classes))
	var set *dataset.Set
	var err error
	if c.Teacher.On() {
		set, r.Agreement, err = s.taught(ctx, what, teacherPath(dir), m, labels, sampleSeed, c.Sampling)
	} else {
		set, err = s.draw(ctx, what, m, labels, sampleSeed, c.Sampling)
	}
	if err != nil {
		return nil, err
	}
	out := filepath.Join(dir, finetune.ReleaseDir, syntheticDir)
	if err := os.RemoveAll(out); err != nil { // Of an earlier sitting.
		return nil, err
	}
	return set, writeSamples(out, set)
}

const (
	syntheticDir = "synthetic"
	sampleSeed   = 1 // Samples are post-processing: their seed may be public.
)

// sample makes one image per label.
func (s *session) sample(ctx context.Context, what string, m *checkpoint.Model, labels []int, seed uint64, c finetune.Sampling) (*dataset.Set, error) {
	draw, stop, err := s.drawer(what, m, c)
	if err != nil {
		return nil, err
	}
	defer stop()
	return draw(ctx, labels, seed)
}

// drawer returns what makes one image per label, as often as it is called, and what ends it.
func (s *session) drawer(what string, m *checkpoint.Model, c finetune.Sampling) (draw func(ctx context.Context, labels []int, seed uint64) (*dataset.Set, error), stop func(), err error) {
	branches, err := finetune.Branches(m)
	if err != nil {
		return nil, nil, err
	}
	var start time.Time
	g, err := generate.New(s.backend, m, m.Size, generate.Options{
		Sampler: c.Sampler, Steps: c.Steps, Eta: c.Eta, Churn: c.Churn, GuidanceScale: c.GuidanceScale,
		Lowering: s.lowering, Adapter: branches, Workers: s.workers,
		Report: func(done, total int) {
			left := time.Since(start).Seconds() / float64(done) * float64(total-done)
			s.talk.progress(done == total, "%s: image %d/%d, %s left", what, done, total, short(time.Duration(left*float64(time.Second))))
		},
	})
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, labels []int, seed uint64) (*dataset.Set, error) {
		start = time.Now()
		return g.Images(ctx, labels, seed)
	}, g.Close, nil
}

// classify trains the downstream classifier on one set and scores it on
// another.
func (s *session) classify(ctx context.Context, what string, train, test *dataset.Set, seed uint64) (eval.Score, error) {
	start := time.Now()
	return eval.TrainAndScore(ctx, s.backend, train, test, eval.ClassifierOptions{
		Seed: seed, Lowering: s.lowering, Workers: s.workers,
		Report: func(step, steps int) {
			left := time.Since(start).Seconds() / float64(step) * float64(steps-step)
			s.talk.progress(step == steps, "%s: step %d/%d, %s left", what, step, steps, short(time.Duration(left*float64(time.Second))))
		},
	})
}

// peakBytes is the largest resident size of this process so far.
func peakBytes() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return usage.Maxrss * 1024 // Linux counts in KiB.
}
