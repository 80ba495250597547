package main

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/report"
)

// publicGridFile keeps the sheet of the public model's samples for the report.
const publicGridFile = "public-samples.png"

func newReport() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "report RUN",
		Short: "Write the reports and the statement of a run again",
		Long: `report writes release/report.html, release/report.md and the statement, which may
leave the building, and private/report.html with everything that the claim does
not cover, from what the run directory holds.`,
		Example: "  scumble report runs/demo",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if !dirExists(filepath.Join(args[0], finetune.PrivateDir)) {
				return invalid(fmt.Errorf("%s is not a run directory, want the --out of scumble finetune", args[0]))
			}
			if err := writeReports(args[0]); err != nil {
				return err
			}
			release, private := filepath.Join(args[0], finetune.ReleaseDir, "report.html"), filepath.Join(args[0], finetune.PrivateDir, "report.html")
			if asJSON {
				return printJSON(c, map[string]string{"release": release, "private": private})
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n%s\n", release, private)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object on standard output")
	return c
}

// writeReports makes both editions of a run's report.
func writeReports(dir string) error {
	run, err := reportRun(dir)
	if err != nil {
		return fmt.Errorf("report of run %s: %w", dir, err)
	}
	if err := writeRelease(dir, run); err != nil {
		return fmt.Errorf("report of run %s: %w", dir, err)
	}
	return report.WritePrivate(filepath.Join(dir, finetune.PrivateDir), run)
}

// reportRun gathers what the reports show from a run directory.
func reportRun(dir string) (*report.Run, error) {
	config, err := finetune.ReadConfig(filepath.Join(dir, finetune.ConfigFile))
	if err != nil {
		return nil, err
	}
	r, err := loadResults(dir)
	if err != nil {
		return nil, err
	}
	record, err := accountant.ReadLedger(filepath.Join(dir, finetune.LedgerFile))
	if err != nil {
		return nil, err
	}
	text, err := config.Released().YAML()
	if err != nil {
		return nil, err
	}
	plan := r.Plan
	run := &report.Run{
		Title: "Synthetic images by scumble", Version: versionText(), Created: time.Now().UTC().Truncate(time.Second),
		Method: string(config.Method), Base: config.Released().Base, BaseProvenance: provenance(config.Base),
		Weights: slices.Clone(r.Weights),
		Classes: plan.Classes, ImageSize: plan.Size, Channels: plan.Channels,
		PublicInputs: []report.Item{
			{Name: "number of examples", Value: fmt.Sprintf("%d (declared; never counted)", config.Data.Examples)},
			{Name: "image size", Value: fmt.Sprintf("%dx%d pixels, %d channels", plan.Size, plan.Size, plan.Channels)},
			{Name: "class names", Value: strings.Join(plan.Classes, ", ")},
			{Name: "hyperparameters", Value: "every number of the config"},
		},
		Limits: []string{
			"Class names and the declared number of examples are public inputs, not protected.",
			"Running time and memory of the training are side channels outside the claim.",
		},
		Config: string(text), TrainableParameters: plan.TrainableParameters, TotalParameters: plan.TotalParameters,
	}
	if err := fillClaim(run, config, r, record); err != nil {
		return nil, err
	}
	if err := checkAssumptions(run, config, r, record); err != nil {
		return nil, err
	}
	if err := fillPictures(run, dir); err != nil {
		return nil, err
	}
	fillFigures(run, r)
	if err := fillAudits(run, dir); err != nil {
		return nil, err
	}
	evaluations, err := readEvaluations(dir)
	if err != nil {
		return nil, err
	}
	for _, v := range evaluations {
		run.Scores = append(run.Scores, v.scores(run.Classes)...)
	}
	return run, nil
}

// fillClaim computes the claim from the ledger, not from the plan.
func fillClaim(run *report.Run, config *finetune.Config, r *results, record *accountant.Record) error {
	events := record.Events()
	claim, err := accountant.PLD{}.Epsilon(events, accountant.AddOrRemove, config.Privacy.Delta)
	if err != nil {
		return err
	}
	rdp, err := accountant.RDP{}.Epsilon(events, accountant.AddOrRemove, config.Privacy.Delta)
	if err != nil {
		return err
	}
	points, err := accountant.RDP{}.Curve(events, accountant.AddOrRemove, accountant.CurveOrders())
	if err != nil {
		return err
	}
	steps := 0
	for _, e := range finetune.Own(record) {
		steps += e.Count
	}
	m := r.Plan.Mechanism
	run.Claim = report.Claim{
		Epsilon: claim.Epsilon, EpsilonLower: claim.Lower, EpsilonRDP: rdp.Epsilon, Delta: config.Privacy.Delta,
		Neighboring: accountant.AddOrRemove, Unit: "image",
		NoiseMultiplier: m.NoiseMultiplier, SamplingProbability: m.SamplingProbability, ExpectedBatchSize: m.ExpectedBatchSize,
		ClippingNorm: m.ClippingNorm, Steps: steps, StepsPlanned: m.Steps, Multiplicity: r.Plan.Multiplicity,
		Accountant: accountantName, Slack: claim.Slack, Mesh: claim.Mesh,
		PublicExamples: config.Data.Examples, Insecure: r.Insecure,
	}
	for _, p := range points {
		if math.IsInf(p.Epsilon, 1) { // High orders of little noise: nothing is claimed there.
			continue
		}
		run.Claim.RDP = append(run.Claim.RDP, report.RDP{Order: p.Order, Epsilon: p.Epsilon})
	}
	const shown = 20
	for i := 1; i <= shown; i++ {
		step := max(1, steps*i/shown)
		at, err := r.Plan.Spent(step)
		if err != nil {
			return err
		}
		run.Claim.Spent = append(run.Claim.Spent, report.Spent{Step: step, Epsilon: at.Epsilon})
	}
	run.Ledger = report.Ledger{Entries: record.Count(), Head: record.Head()}
	earlier, err := finetune.EarlierRuns(record, config.Privacy.Delta)
	if err != nil {
		return err
	}
	for _, p := range earlier {
		// As the row is also in statement.json, whoever holds the release can find
		// the ledger that it stands for: release/previous/HASH.jsonl.
		what := fmt.Sprintf("earlier run %s of ledger %s, epsilon %.4f alone", p.Run, p.Ledger, p.Epsilon)
		addRows(run, record, p.ID(), what, p.Events)
	}
	for _, q := range finetune.Queries(record) {
		addRows(run, record, q.ID, q.ID+": "+q.Note, q.Spent)
	}
	addRows(run, record, finetune.RunID, "DP-SGD steps", finetune.Own(record))
	for _, f := range finetune.Figures(record) {
		addRows(run, record, f.ID, finetune.FigureEntry(f.ID, f.Note), f.Spent)
	}
	if n := len(run.Claim.Spent); n > 0 && len(finetune.Figures(record)) > 0 {
		run.Claim.Spent = append(run.Claim.Spent, report.Spent{Step: run.Claim.Spent[n-1].Step, Epsilon: claim.Epsilon})
	}
	run.Tuning = "none is declared. Hyperparameters that were chosen on the private images would not be covered."
	if n := len(earlier); n > 0 {
		run.Tuning = fmt.Sprintf("the %s that the ledger lists, by the hash of their own, are inside the claim: epsilon is the total of all. "+
			"Others are not declared.", earlierRuns(n))
	}
	return nil
}

// addRows adds the events of one run in the ledger.
func addRows(run *report.Run, record *accountant.Record, id, what string, events []accountant.Event) {
	for _, e := range events {
		row := report.LedgerRow{What: what, Event: e}
		for _, entry := range record.Entries() {
			if entry.Event == nil || entry.Run != id {
				continue
			}
			if row.First.IsZero() {
				row.First = entry.Time
			}
			row.Last = entry.Time
		}
		run.Ledger.Rows = append(run.Ledger.Rows, row)
	}
}

// fillPictures makes the sheet of synthetic images from the released folder.
func fillPictures(run *report.Run, dir string) error {
	folder := filepath.Join(dir, finetune.ReleaseDir, syntheticDir)
	if !dirExists(folder) {
		return nil
	}
	set, err := dataset.Open(folder, dataset.Options{})
	if err != nil {
		return err
	}
	rows, kind := set.Classes, "classes"
	if set.Captions != nil {
		rows, kind = promptsOf(set), "prompts"
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, sheetOf(set, len(rows))); err != nil {
		return err
	}
	run.Grid = &report.Picture{PNG: buf.Bytes(), Covered: report.PostProcessing, RowLabels: rows,
		Alt:     fmt.Sprintf("Synthetic images, one row for each of the %s %s.", kind, strings.Join(rows, ", ")),
		Caption: "Synthetic images drawn from the released model; none is a private image."}
	if fileExists(teacherPath(dir)) {
		run.Grid.Caption += " A teacher, which the ledger pays for, chose among those that were drawn, or said which class they show."
	}
	if set.Captions != nil { // Prompts are sentences: they stand under the picture.
		run.Grid.Caption += " Public prompts, from the top:"
		numbers := make([]string, len(rows))
		for i, prompt := range rows {
			numbers[i] = strconv.Itoa(i + 1)
			run.Grid.Caption += fmt.Sprintf(" (%d) %q", i+1, prompt)
		}
		run.Grid.RowLabels = numbers
	}
	if run.Neighbors, err = nearestPublic(set, run.Base); err != nil {
		return err
	}
	public, err := os.ReadFile(filepath.Join(dir, finetune.PrivateDir, publicGridFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	run.PublicGrid = &report.Picture{PNG: public, Covered: report.Public, RowLabels: set.Classes,
		Alt:     "Images of the same classes drawn from the public base model.",
		Caption: "The same classes drawn from the public base model, before it saw a private image."}
	return nil
}

// fillFigures adds scores and facts.
func fillFigures(run *report.Run, r *results) {
	titles := map[string]string{
		"synthetic":    "Classifier trained on synthetic images",
		"public_model": "Classifier trained on samples of the public model alone",
		"real":         "Classifier trained on the private images",
	}
	for _, s := range r.Scores {
		covered := report.NotCovered
		if s.Covered {
			covered = report.PostProcessing
			if s.Name == "public_model" {
				covered = report.Public
			}
		}
		run.Scores = append(run.Scores, report.Score{Name: titles[s.Name], Value: s.Score.Accuracy, PerClass: s.Score.PerClass,
			TrainedOn: fmt.Sprintf("%d %s", s.Training, s.Trained), TestedOn: s.Tested, Tests: s.Score.Tests, Covered: covered})
	}
	for i := range r.Paid {
		run.Scores = append(run.Scores, r.Paid[i].score())
	}
	// Time and memory of the training depend on how many private images there are
	// and how many joined each step; those of sampling on the release alone.
	for _, stage := range []struct {
		key, name string
		covered   report.Coverage
	}{
		{"finetune", "fine-tuning", report.NotCovered}, {"sample", "sampling", report.PostProcessing},
		{"classifier", "classifiers", report.NotCovered}, {"total", "in all", report.NotCovered},
	} {
		if seconds, ok := r.Seconds[stage.key]; ok {
			run.Facts = append(run.Facts, report.Fact{Name: "Time, " + stage.name, Value: short(time.Duration(seconds * float64(time.Second))), Covered: stage.covered})
		}
	}
	if r.ExpectedSeconds > 0 {
		run.Facts = append(run.Facts,
			report.Fact{Name: "Time, fine-tuning as planned", Covered: report.Public,
				Value: short(time.Duration(r.ExpectedSeconds*float64(time.Second))) + ", by the pace of an empty batch"},
			report.Fact{Name: "Memory, ready to train", Covered: report.Public,
				Value: fmt.Sprintf("%.1f GiB, before a private image was opened", float64(r.ReadyBytes)/(1<<30))})
	}
	run.Facts = append(run.Facts,
		report.Fact{Name: "Peak memory", Value: fmt.Sprintf("%.1f GiB", float64(r.PeakBytes)/(1<<30))},
		report.Fact{Name: "Backend", Value: r.Backend, Covered: report.Public},
		report.Fact{Name: "Machine", Value: fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()), Covered: report.Public})
}

// provenance says what a base model was trained on.
func provenance(base string) string {
	m, err := loadBase(base)
	if err != nil || m.Info["public_data"] == "" {
		return "declared public by the person who started the run"
	}
	return m.Info["public_data"]
}

// accountantName says what computed epsilon; its version is the software's.
const accountantName = "scumble PLD, pessimistic, both directions"

// versionText is the software's version with its commit.
func versionText() string {
	b := thisBuild()
	text := "scumble " + b.Version
	if b.Revision != "" {
		text += ", commit " + b.revision()
	}
	return text + ", " + b.Go
}
