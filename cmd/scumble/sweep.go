package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/dataset/shapes"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/internal/wholefile"
	"github.com/scumble-dp/scumble/recount"
	"github.com/scumble-dp/scumble/sweep"
)

func newSweep() *cobra.Command {
	var flags sessionFlags
	var out string
	var keep bool
	c := &cobra.Command{
		Use:   "sweep SWEEP.yaml --out DIR",
		Short: "Try settings of a run on public images that play the private ones",
		Long: `sweep runs a config with other settings, one row after another, on public images
that play the private ones, and says what a classifier trained on each row's
synthetic images scores on others. Settings that are chosen so cost no privacy:
on private images each try would, and so would the choice. Nothing in a sweep may
be private. The same command goes on where it was interrupted, and runs
rows that were changed again.`,
		Example: "  scumble sweep recipes/sweeps/levers.yaml --out sweeps/levers",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" {
				return misuse(errors.New("--out is missing, want the folder for images, runs and the card"))
			}
			file, err := sweep.Read(args[0])
			if err != nil {
				return invalid(err)
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			defer s.close()
			w := &sweeping{session: s, sweep: file, path: args[0], dir: filepath.Clean(out), keep: keep}
			defer w.close()
			all, err := w.run(c.Context())
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(c, map[string]any{"rows": all, "card": filepath.Join(w.dir, cardFile)})
			}
			_, err = fmt.Fprint(c.OutOrStdout(), sweep.Table(all))
			return err
		},
	}
	c.Flags().StringVar(&out, "out", "", "`DIR` for images, runs and card.md; a sweep that was interrupted goes on there")
	c.Flags().BoolVar(&keep, "keep", false, "keep the run directories")
	flags.add(c)
	return c
}

const (
	sweepResults = "results.jsonl" // A line for each run that was scored.
	cardFile     = "card.md"
)

// sweeping is a sweep in its folder.
type sweeping struct {
	session *session
	sweep   *sweep.Sweep
	path    string // Of the sweep's file.
	dir     string
	keep    bool
	test    *dataset.Set
	results []sweep.Result

	network *eval.Extractor // For FID and KID.
	real    *eval.Features  // Of the test images.
}

// run makes the runs that are missing and returns the table.
func (w *sweeping) run(ctx context.Context) ([]sweep.Summary, error) {
	if err := w.open(); err != nil {
		return nil, err
	}
	jobs, missing := w.jobs()
	for _, j := range jobs {
		if err := checkPublic(w.sweep.Public, j.config.Data.Path); err != nil {
			return nil, err
		}
	}
	for i, j := range missing {
		w.session.talk.say("sweep: run %d of %d: %s, repeat %d of %d", len(jobs)-len(missing)+i+1, len(jobs), j.row.Name, j.repeat, w.sweep.Repeats)
		r, err := w.one(ctx, j)
		if err != nil {
			if errors.Is(err, context.Canceled) {
				err = withHint(err, "runs that are done are kept; the same command goes on")
			}
			return nil, err
		}
		if err := w.append(r); err != nil {
			return nil, err
		}
	}
	var current []sweep.Result
	for _, j := range jobs {
		i := slices.IndexFunc(w.results, func(r sweep.Result) bool { return r.Setting == j.setting && r.Repeat == j.repeat })
		current = append(current, w.results[i])
	}
	all := sweep.Summarise(w.sweep.Rows, current)
	return all, wholefile.Write(filepath.Join(w.dir, cardFile), 0o644, []byte(w.card(all)))
}

// job is one run of a row.
type job struct {
	row     sweep.Row
	repeat  int
	config  *finetune.Config
	setting string
}

// jobs returns all runs, each row once before any is run again, and those without a
// result.
func (w *sweeping) jobs() (all, missing []job) {
	for repeat := 1; repeat <= w.sweep.Repeats; repeat++ {
		for _, row := range w.sweep.Rows {
			c, _ := w.sweep.ConfigOf(row) // Read has made it once.
			text, _ := json.Marshal([]any{row, c, w.sweep.Public, w.sweep.ClassifierSteps, w.sweep.Metrics})
			sum := sha256.Sum256(text)
			j := job{row: row, repeat: repeat, config: c, setting: fmt.Sprintf("%x", sum[:8])}
			all = append(all, j)
			if !slices.ContainsFunc(w.results, func(r sweep.Result) bool { return r.Setting == j.setting && r.Repeat == j.repeat }) {
				missing = append(missing, j)
			}
		}
	}
	return all, missing
}

// open makes the folder, or reads what an earlier sitting left there.
func (w *sweeping) open() error {
	text, err := os.ReadFile(filepath.Join(w.dir, sweepResults))
	if errors.Is(err, fs.ErrNotExist) {
		if entries, err := os.ReadDir(w.dir); err == nil && len(entries) > 0 {
			return invalid(fmt.Errorf("%s exists and is no sweep's folder; choose another", w.dir))
		}
		if err := os.MkdirAll(w.dir, 0o755); err != nil {
			return err
		}
		return wholefile.Write(filepath.Join(w.dir, sweepResults), 0o644, nil)
	}
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		var r sweep.Result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return invalid(fmt.Errorf("%s: line %d: %w", sweepResults, len(w.results)+1, err))
		}
		w.results = append(w.results, r)
	}
	return lines.Err()
}

func (w *sweeping) append(r sweep.Result) error {
	w.results = append(w.results, r)
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for _, r := range w.results {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return wholefile.Write(filepath.Join(w.dir, sweepResults), 0o644, b.Bytes())
}

// one makes and scores a run.
func (w *sweeping) one(ctx context.Context, j job) (sweep.Result, error) {
	none := sweep.Result{}
	base, err := loadBase(j.config.Base)
	if err != nil {
		return none, err
	}
	c := *j.config
	plan, _, err := finetune.NewPlan(w.session.backend, &c, base)
	if err != nil {
		return none, err
	}
	if plan.Text {
		return none, invalid(errors.New("the base model takes text, a sweep's classifier takes classes"))
	}
	if err := w.images(ctx, &c, plan); err != nil {
		return none, err
	}
	r := sweep.Result{Row: j.row.Name, Setting: j.setting, Repeat: j.repeat}
	var synthetic *dataset.Set
	if j.row.PublicModel {
		synthetic, err = w.session.samplePublic(ctx, base, plan.Classes, c.Sampling)
	} else {
		synthetic, err = w.fineTune(ctx, &c, &r, base)
	}
	if err != nil {
		return none, err
	}
	score, err := eval.TrainAndScore(ctx, w.session.backend, synthetic, w.test, eval.ClassifierOptions{
		Seed: uint64(j.repeat), Steps: w.sweep.ClassifierSteps, Lowering: w.session.lowering, Workers: w.session.workers})
	if err != nil {
		return none, err
	}
	r.Accuracy, r.PerClass = score.Accuracy, score.PerClass
	if w.sweep.Metrics {
		err = w.distances(ctx, &r, synthetic)
	}
	return r, err
}

// fineTune makes the run of a config and its synthetic images.
func (w *sweeping) fineTune(ctx context.Context, c *finetune.Config, r *sweep.Result, base *checkpoint.Model) (*dataset.Set, error) {
	dir := filepath.Join(w.dir, "runs", fmt.Sprintf("%s-%d", r.Setting, r.Repeat))
	if err := os.RemoveAll(dir); err != nil { // Of a sitting that was interrupted.
		return nil, err
	}
	start := time.Now()
	result, kept, err := w.session.train(ctx, c, trainOptions{dir: dir})
	if err != nil {
		return nil, err
	}
	r.Seconds, r.Epsilon, r.TrainableParameters = time.Since(start).Seconds(), result.Claim.Epsilon, result.Plan.TrainableParameters
	second, err := recount.Epsilon(result.Ledger.Events(), accountant.AddOrRemove, result.Plan.Delta)
	switch {
	case err == nil:
		r.EpsilonSecond = second.Epsilon
	case !errors.Is(err, recount.ErrUnsettled) && !errors.Is(err, recount.ErrUnknown):
		return nil, err
	}
	set, err := w.session.synthesise(ctx, dir, result.Model, c, kept)
	if err == nil && !w.keep {
		err = os.RemoveAll(dir)
	}
	return set, err
}

// images puts the images that play the private ones where a config reads them.
func (w *sweeping) images(ctx context.Context, c *finetune.Config, plan *finetune.Plan) error {
	from := w.sweep.Public.Train
	options := dataset.Options{Size: plan.Size, Channels: plan.Channels, Classes: plan.Classes}
	if w.test == nil {
		of := w.sweep.Public.Test
		test := options
		test.Split = dataset.Test
		var err error
		if w.test, err = publicImages(ctx, of, of.Count, test); err != nil {
			return fmt.Errorf("public.test: %w", err)
		}
	}
	what, _ := json.Marshal([]any{from, plan.Classes, plan.Size, plan.Channels})
	sum := sha256.Sum256(what)
	dir := filepath.Join(w.dir, "images", fmt.Sprintf("train-%d-%x", c.Data.Examples, sum[:6]))
	c.Data = finetune.Data{Path: dir, Examples: c.Data.Examples, Size: plan.Size, Channels: plan.Channels, Classes: plan.Classes}
	if dirExists(dir) {
		return nil
	}
	set, err := publicImages(ctx, from, c.Data.Examples, options)
	if err == nil {
		err = sweep.Apart(set, w.test)
	}
	if err == nil {
		set, err = sweep.Subset(set, c.Data.Examples)
	}
	if errors.Is(err, sweep.ErrInvalid) {
		return invalid(fmt.Errorf("public.train: %w", err))
	}
	if err != nil {
		return fmt.Errorf("public.train: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	return place(ctx, dir, false, func(path string) error { return writeSet(path, "idx", dataset.Train, set) })
}

// publicImages draws or reads images.
func publicImages(ctx context.Context, i sweep.Images, count int, o dataset.Options) (*dataset.Set, error) {
	switch i.Renderer {
	case "glyphs":
		g, err := glyphs.NewRenderer(glyphs.Options{Size: o.Size, Channels: o.Channels, Seed: i.Seed, Classes: o.Classes, Held: i.Held})
		if err != nil {
			return nil, invalid(err)
		}
		return dataset.Draw(ctx, g, count)
	case "shapes":
		g, err := shapes.NewRenderer(shapes.Options{Size: o.Size, Channels: o.Channels, Seed: i.Seed, Classes: o.Classes, Held: i.Held})
		if err != nil {
			return nil, invalid(err)
		}
		return dataset.Draw(ctx, g, count)
	}
	set, err := dataset.Open(i.Path, o)
	if err == nil && set.Labels == nil {
		err = fmt.Errorf("%w: %s has no labels, want images of named classes", dataset.ErrInvalid, i.Path)
	}
	return set, err
}

// checkPublic refuses images of a sweep that are those of the config, in them or around
// them: a run on them is charged to a ledger that nobody keeps, and a score on them to none.
func checkPublic(p sweep.Public, private string) error {
	for name, path := range map[string]string{"public.train": p.Train.Path, "public.test": p.Test.Path} {
		if path == "" {
			continue
		}
		same := path == private
		for _, pair := range [][2]string{{path, private}, {private, path}} {
			inside, err := within(resolved(pair[0]), resolved(pair[1]))
			if err != nil {
				return err
			}
			same = same || inside
		}
		if same {
			return invalid(fmt.Errorf("%s is data.path of the config, %s, or in it, or around it: a sweep takes public images that play the private ones", name, private))
		}
	}
	return nil
}

// resolved follows the links of a path, as far as it is there.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}
