package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/release"
	"github.com/scumble-dp/scumble/report"
)

// paidKind names a figure that eval buys.
type paidKind string

const (
	paidHistogram paidKind = "histogram"
	paidAccuracy  paidKind = "accuracy"
)

// paidFlags ask for a figure about private images that the ledger pays for.
type paidFlags struct {
	kind  string
	noise float64
	key   string
}

func (p *paidFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.kind, "paid", "", "`FIGURE` about private images to pay for: accuracy or histogram")
	f.Float64Var(&p.noise, "paid-noise", 0, "standard deviation of its noise, in `IMAGES`; it decides the cost")
	f.StringVar(&p.key, "key", "", "PEM `FILE` to sign the release with again, after a figure was paid for")
}

// paidFigure is what the ledger paid for: all of it may be released.
type paidFigure struct {
	Kind       paidKind        `json:"figure"`
	Entry      string          `json:"ledger_entry"`
	Noise      float64         `json:"noise"` // Standard deviation on each count, in images.
	Counts     []float64       `json:"counts"`
	Bins       []string        `json:"bins"`                 // What each of Counts is of.
	Classifier eval.Classifier `json:"classifier,omitempty"` // Of an accuracy.
	Training   int             `json:"training_images,omitempty"`
	Images     string          `json:"images"` // Which private images, in words.
}

// boughtFigure is what eval --paid prints.
type boughtFigure struct {
	paidFigure
	Accuracy      *float64  `json:"accuracy,omitempty"`
	Interval      []float64 `json:"interval,omitempty"` // Of the accuracy, 95 %.
	Covered       bool      `json:"covered"`
	EpsilonBefore float64   `json:"epsilon_before"`
	Epsilon       float64   `json:"epsilon"`
	Delta         float64   `json:"delta"`
	Signed        bool      `json:"signed"`
	Note          string    `json:"note"`
}

// check refuses flags that make no sense together.
func (p *paidFlags) check(e *evaluating) error {
	switch {
	case p.kind == "" && (p.noise != 0 || p.key != ""):
		return misuse(errors.New("--paid-noise and --key go with --paid"))
	case p.kind == "":
		return nil
	case p.kind != string(paidHistogram) && p.kind != string(paidAccuracy):
		return misuse(fmt.Errorf("--paid is %q, want accuracy or histogram", p.kind))
	case !(p.noise > 0) || math.IsInf(p.noise, 1): // !(x > 0) also catches NaN.
		return misuse(fmt.Errorf("--paid-noise is %g, want the standard deviation of the noise in images, above 0: there is no default, as it decides what the figure costs", p.noise))
	case len(e.labelOf) > 0:
		return misuse(errors.New("--paid is about the run's own classes; --label-of is not for it"))
	case e.public:
		return misuse(errors.New("--paid is about private images, and --reference-public says that they are not; leave one away"))
	case e.protocol != "" || len(e.subgroups) > 0:
		return misuse(errors.New("--paid buys one figure; leave --protocol and --subgroup away"))
	case p.kind == string(paidAccuracy) && (len(e.classifiers) != 1 || e.seeds != 1):
		return misuse(fmt.Errorf("--paid accuracy is that of one classifier trained once, got %d of %d seeds; each other is a figure of its own", len(e.classifiers), e.seeds))
	}
	return nil
}

// pay buys a figure for the run in dir and writes its release again.
func (e *evaluating) pay(c *cobra.Command, dir string) error {
	if !dirExists(filepath.Join(dir, finetune.PrivateDir)) {
		return invalid(fmt.Errorf("%s is not a run directory, and --paid needs the ledger of one", dir))
	}
	var key ed25519.PrivateKey
	if e.paid.key != "" { // Before anything is paid for.
		var err error
		if key, err = readKey(e.paid.key); err != nil {
			return err
		}
	}
	config, err := finetune.ReadConfig(filepath.Join(dir, finetune.ConfigFile))
	if err != nil {
		return err
	}
	r, err := loadResults(dir)
	if err != nil {
		return err
	}
	if r.Insecure {
		return invalid(fmt.Errorf("%s is a run in test mode, %s: a figure would have no guarantee to be covered by; run again without --insecure-seed", dir, release.TestMode))
	}
	run, err := reportRun(dir)
	if err != nil {
		return err
	}
	if unmet := run.Unmet(); len(unmet) > 0 {
		return invalid(fmt.Errorf("%s has no guarantee that a figure could be covered by: %s; run again where that holds", dir, strings.Join(unmet, "; ")))
	}
	payment, err := finetune.OpenFigure(dir, config, e.paid.noise)
	if err != nil {
		return err
	}
	defer payment.Close()
	before, err := spentOf(dir, config)
	if err != nil {
		return err
	}
	bins, f, err := e.bins(c, dir, payment, r)
	if err != nil && e.session.json {
		place := e.reference
		if place == "" {
			place = config.Data.Path
		}
		err = conceal(err, place, r.Plan)
	}
	if err != nil {
		return err
	}
	if f.Counts, f.Entry, err = payment.Count(f.words(), len(f.Bins), bins); err != nil {
		return err
	}
	r.Paid = append(r.Paid, *f)
	if err := r.save(dir); err != nil {
		return fmt.Errorf("the figure is paid for and was lost: %w", err)
	}
	wasSigned := fileExists(filepath.Join(dir, finetune.ReleaseDir, release.SignatureFile))
	if err := writeReports(dir); err != nil {
		return err
	}
	if key != nil {
		if err := release.Sign(filepath.Join(dir, finetune.ReleaseDir), key); err != nil {
			return err
		}
	}
	out := boughtFigure{paidFigure: *f, Covered: true, EpsilonBefore: before, Epsilon: payment.Claim().Epsilon, Delta: payment.Claim().Delta, Signed: key != nil,
		Note: "covered by the privacy claim: paid for in the ledger"}
	if wasSigned && key == nil {
		out.Note += "; the release changed, so its signature was removed: sign it again with scumble sign"
	}
	if f.Kind == paidAccuracy {
		share, low, high := f.accuracy()
		out.Accuracy, out.Interval = &share, []float64{low, high}
	}
	if e.session.json {
		return printJSON(c, out)
	}
	return out.print(c)
}

// spentOf is what the ledger of a run costs so far.
func spentOf(dir string, config *finetune.Config) (float64, error) {
	record, err := accountant.ReadLedger(filepath.Join(dir, finetune.LedgerFile))
	if err != nil {
		return 0, err
	}
	claim, err := accountant.PLD{}.Epsilon(record.Events(), accountant.AddOrRemove, config.Privacy.Delta)
	return claim.Epsilon, err
}

// bins opens the private images and says which bin each is in.
func (e *evaluating) bins(c *cobra.Command, dir string, payment *finetune.Payment, r *results) ([]int, *paidFigure, error) {
	f := &paidFigure{Kind: paidKind(e.paid.kind), Noise: e.paid.noise, Images: "private training images"}
	open := func() (*dataset.Set, error) { return payment.TrainingImages(r.Plan, "") }
	if e.reference != "" {
		f.Images = "private reference images"
		open = func() (*dataset.Set, error) {
			set, err := dataset.Open(e.reference, dataset.Options{Size: r.Plan.Size, Channels: r.Plan.Channels, Classes: r.Plan.Classes,
				AllowEmpty: true, Labels: e.labels, Split: dataset.Test})
			return set, err
		}
	}
	open = labelled(open)
	if f.Kind == paidHistogram {
		set, err := open()
		if err != nil {
			return nil, nil, err
		}
		f.Bins = r.Plan.Classes
		return set.Labels, f, nil
	}
	synthetic, err := dataset.Open(filepath.Join(dir, finetune.ReleaseDir, syntheticDir), dataset.Options{Classes: r.Plan.Classes, AllowEmpty: true})
	if err != nil {
		return nil, nil, err
	}
	f.Bins, f.Classifier, f.Training = []string{"right", "wrong"}, eval.Classifier(e.classifiers[0]), synthetic.Len()
	private, err := open()
	if err != nil {
		return nil, nil, err
	}
	bins, err := e.wrong(c, f.Classifier, synthetic, private)
	return bins, f, err
}

// labelled refuses images without classes.
func labelled(open func() (*dataset.Set, error)) func() (*dataset.Set, error) {
	return func() (*dataset.Set, error) {
		set, err := open()
		if err == nil && (set.Labels == nil || len(set.Classes) == 0) {
			return nil, fmt.Errorf("%w: the private images have no labels, want images of named classes", dataset.ErrInvalid)
		}
		return set, err
	}
}

// wrong trains a classifier on the synthetic images and says of each private
// image whether it is wrong about it: 0 or 1. Training sees no private image.
func (e *evaluating) wrong(c *cobra.Command, kind eval.Classifier, synthetic, private *dataset.Set) ([]int, error) {
	s, err := e.session.open(c)
	if err != nil {
		return nil, err
	}
	defer s.close()
	p, err := eval.TrainClassifier(c.Context(), s.backend, kind, synthetic, s.classifierOptions(kind, e, 1))
	if err != nil {
		return nil, err
	}
	defer p.Close()
	predicted, err := p.Predict(c.Context(), private)
	if err != nil {
		return nil, err
	}
	bins := make([]int, len(predicted))
	for i, p := range predicted {
		if p != private.Labels[i] {
			bins[i] = 1
		}
	}
	return bins, nil
}

// words say what was asked, in the ledger. They are public.
func (f *paidFigure) words() string {
	if f.Kind == paidAccuracy {
		return fmt.Sprintf("noisy accuracy of classifier %s, trained on the synthetic images, on the %s", f.Classifier, f.Images)
	}
	return "noisy histogram of the classes of the " + f.Images
}

// accuracy is the share of right answers, with an interval.
func (f *paidFigure) accuracy() (share, low, high float64) {
	return finetune.ShareOf(f.Counts[0], f.Counts[1], f.Noise)
}

// score shows the figure in the reports.
func (f *paidFigure) score() report.Score {
	s := report.Score{Covered: report.Paid, LedgerEntry: f.Entry, TestedOn: f.Images,
		Note: fmt.Sprintf("Gaussian noise of standard deviation %g on a lattice, on %d counts of images (%s). Each image is in one of them, so one image more or less "+
			"changes one count by 1: the L2 sensitivity is 1, and the noise multiplier %g.", f.Noise, len(f.Counts), shortList(f.Bins), f.Noise)}
	if f.Kind == paidAccuracy {
		share, low, high := f.accuracy()
		s.Name, s.Value, s.Interval = fmt.Sprintf("Classifier %s trained on synthetic images, noisy accuracy", f.Classifier), share, []float64{low, high}
		s.TrainedOn = fmt.Sprintf("%d synthetic images of the released model", f.Training)
		return s
	}
	s.Name, s.Scale = "Private images by class, noisy count", report.Plain
	for _, v := range f.Counts {
		s.PerClass = append(s.PerClass, math.Round(v))
		s.Value += math.Round(v)
	}
	half := math.Ceil(1.96 * f.Noise * math.Sqrt(float64(len(f.Counts))))
	s.Interval = []float64{s.Value - half, s.Value + half}
	return s
}

func shortList(names []string) string {
	const shown = 4
	if len(names) > shown {
		names = append(slices.Clone(names[:shown]), "…")
	}
	return strings.Join(names, ", ")
}

func (b *boughtFigure) print(c *cobra.Command) error {
	out := c.OutOrStdout()
	if b.Accuracy != nil {
		fmt.Fprintf(out, "%s accuracy %.4f, 95 %% interval %.4f to %.4f, noise %g images (%s)\n", b.Classifier, *b.Accuracy, b.Interval[0], b.Interval[1], b.Noise, b.Note)
	} else {
		fmt.Fprintf(out, "noisy histogram of the %s, noise %g images (%s)\n", b.Images, b.Noise, b.Note)
		for i, name := range b.Bins {
			fmt.Fprintf(out, "  %-20s %.0f\n", name, b.Counts[i])
		}
	}
	_, err := fmt.Fprintf(out, "epsilon %s at delta %g, before it %s\n", above(b.Epsilon), b.Delta, above(b.EpsilonBefore))
	return err
}

func fileExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
