package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/internal/wholefile"
)

// evaluationFile keeps what eval found for a run: in private/, and in release/
// too where the reference images were declared public.
const evaluationFile = "evaluation.json"

// evaluation is what eval prints and keeps. It holds no path: where images lie
// is nobody's business.
type evaluation struct {
	*eval.Fidelity
	Accuracy    *float64            `json:"accuracy,omitempty"`  // Of the first classifier.
	PerClass    []float64           `json:"per_class,omitempty"` // Of the first classifier.
	Best        *float64            `json:"accuracy_best_classifier,omitempty"`
	Classifiers []*eval.Accuracy    `json:"classifiers,omitempty"`
	Protocol    *eval.ProtocolScore `json:"protocol,omitempty"`
	Classes     []string            `json:"classes,omitempty"`
	Tests       int                 `json:"tests,omitempty"`
	Training    int                 `json:"training_images,omitempty"`
	Covered     bool                `json:"covered"`               // All of it.
	NotCovered  []string            `json:"not_covered,omitempty"` // Names of the figures that may not leave.
	Note        string              `json:"note"`
	Seconds     float64             `json:"seconds,omitempty"`
}

// mark says which figures the privacy claim covers.
func (v *evaluation) mark(public bool) {
	v.Covered, v.Note = public, "reference images declared public"
	if public {
		return
	}
	v.Note = "not covered by the privacy claim: computed from reference images that were not declared public"
	for _, f := range v.Figures() {
		if !f.Metric.OfSyntheticAlone() {
			v.NotCovered = append(v.NotCovered, f.Name)
		}
	}
	if len(v.Classifiers) > 0 {
		v.NotCovered = append(v.NotCovered, "accuracy", "per_class", "accuracy_best_classifier", "classifiers")
	}
	if v.Protocol != nil {
		v.NotCovered = append(v.NotCovered, "protocol")
	}
}

// keep saves the evaluation in a run, and the accuracy for its reports. Only what
// was taken against public images is written outside private/.
func (v *evaluation) keep(run string) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	folders := []string{finetune.PrivateDir}
	if v.Covered {
		folders = append(folders, finetune.ReleaseDir)
	}
	for _, folder := range folders {
		if err := writeEvaluation(filepath.Join(run, folder, evaluationFile), append(data, '\n'), folder == finetune.PrivateDir); err != nil {
			return fmt.Errorf("keep evaluation: %w", err)
		}
	}
	return writeReports(run)
}

// print writes the figures for people.
func (v *evaluation) print(out io.Writer) {
	set := v.Settings
	if figures := v.Figures(); len(figures) > 0 {
		network := set.Network.Name
		if set.Network.SHA256 != "" {
			network += " " + set.Network.SHA256[:12]
		}
		if set.Network.Resize != "" {
			network += fmt.Sprintf(", %s resizing to %d pixels", set.Network.Resize, set.Network.Pixels)
		}
		fmt.Fprintf(out, "%d synthetic and %d reference images, %d features of %s\n", set.SyntheticImages, set.ReferenceImages, set.Network.Dim, network)
		for _, f := range figures {
			mark := ""
			if slices.Contains(v.NotCovered, f.Name) {
				mark = "  (not covered)"
			}
			fmt.Fprintf(out, "  %-32s %10.5g%s\n", f.Name, f.Value, mark)
		}
	}
	for _, a := range v.Classifiers {
		spread := ""
		if a.Seeds > 1 {
			spread = fmt.Sprintf(" ± %.4f over %d seeds, best %.4f,", a.Std, a.Seeds, a.Best)
		}
		fmt.Fprintf(out, "%s accuracy %.4f%s on %d images (%s)\n", a.Classifier, a.Mean, spread, a.Tests, v.Note)
		fmt.Fprintf(out, "  %-20s %.4f to %.4f\n", "95 % interval", a.Low, a.High)
		for i, name := range v.Classes {
			fmt.Fprintf(out, "  %-20s %.4f", name, a.PerClass[i])
			if a.Seeds > 1 {
				fmt.Fprintf(out, " ± %.4f", a.PerClassStd[i])
			}
			fmt.Fprintln(out)
		}
		for _, g := range a.Subgroups {
			fmt.Fprintf(out, "  subgroup %-11s %.4f, 95 %% interval %.4f to %.4f, %d images\n", g.Subgroup, g.Mean, g.Low, g.High, g.Tests)
		}
	}
	v.printProtocol(out)
	for _, n := range v.Notes {
		fmt.Fprintf(out, "note: %s\n", n)
	}
	if len(v.Classifiers) == 0 {
		fmt.Fprintf(out, "note: %s\n", v.Note)
	}
}

// printProtocol writes what a benchmark's protocol found.
func (v *evaluation) printProtocol(out io.Writer) {
	p := v.Protocol
	if p == nil {
		return
	}
	how := "as published"
	if !p.AsPublished {
		how = "not at the published size: do not compare"
	}
	fmt.Fprintf(out, "%s protocol, %d images, %d to choose the epoch, %d epochs (%s; %s)\n", p.Name, p.Images, p.Held, p.Epochs, how, v.Note)
	for i, a := range p.Classifiers {
		fmt.Fprintf(out, "  %-20s %.4f, 95 %% interval %.4f to %.4f, epoch %d\n", a.Classifier, a.Mean, a.Low, a.High, p.Epoch[i])
		for k, name := range v.Classes {
			fmt.Fprintf(out, "    %-18s %.4f\n", name, a.PerClass[k])
		}
	}
	fmt.Fprintf(out, "  %-20s %.4f ± %.4f\n  %-20s %.4f\n", "mean", p.Mean, p.Std, "best", p.Best)
}

// writeEvaluation writes the figures. A private file is for its owner only.
func writeEvaluation(path string, data []byte, private bool) error {
	mode := os.FileMode(0o644)
	if private {
		mode = 0o600
	}
	return wholefile.Write(path, mode, data)
}
