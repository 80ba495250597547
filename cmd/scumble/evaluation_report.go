package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/report"
)

// readEvaluations returns what eval kept in a run: the latest, and the released
// one where that is another.
func readEvaluations(run string) ([]*evaluation, error) {
	var all []*evaluation
	for _, folder := range []string{finetune.PrivateDir, finetune.ReleaseDir} {
		data, err := os.ReadFile(filepath.Join(run, folder, evaluationFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read evaluation: %w", err)
		}
		var v evaluation
		if err := json.Unmarshal(data, &v); err != nil {
			return nil, fmt.Errorf("read evaluation in %s: %w", folder, err)
		}
		if folder == finetune.ReleaseDir && len(all) > 0 && all[0].Covered {
			continue // It is the same.
		}
		all = append(all, &v)
	}
	return all, nil
}

// scores are the figures of an evaluation as the reports show them. classes are
// those of the run: values per class are left out where they are others.
func (v *evaluation) scores(classes []string) []report.Score {
	covered, tested := report.NotCovered, "reference images"
	if v.Covered {
		covered, tested = report.PostProcessing, "reference images, declared public"
	}
	same := slices.Equal(v.Classes, classes)
	var all []report.Score
	add := func(name, note string, a *eval.Accuracy) {
		s := report.Score{Name: name, Value: a.Mean, Spread: a.Std, Seeds: a.Seeds, Tests: a.Tests, Covered: covered, Note: note,
			TrainedOn: fmt.Sprintf("%d synthetic images of the released model", a.Training), TestedOn: fmt.Sprintf("%d %s", a.Tests, tested)}
		if same {
			s.PerClass = a.PerClass
		}
		for _, g := range a.Subgroups {
			s.Subgroups = append(s.Subgroups, report.Subgroup{Name: g.Subgroup, Value: g.Mean, Spread: g.Std, Tests: g.Tests})
		}
		all = append(all, s)
	}
	for _, a := range v.Classifiers {
		add(fmt.Sprintf("Classifier %s trained on synthetic images", a.Classifier), "", a)
	}
	if p := v.Protocol; p != nil {
		note := "not at the size that DPImageBench publishes: do not compare"
		if p.AsPublished {
			note = "images, split, epochs and networks of DPImageBench, with group normalisation"
		}
		for _, a := range p.Classifiers {
			add(fmt.Sprintf("%s protocol, %s", p.Name, a.Classifier), note, a)
		}
		of := report.Score{Covered: covered, TestedOn: tested, Note: note}
		of.Name, of.Value = p.Name+" protocol, mean of its classifiers", p.Mean
		all = append(all, of)
		of.Name, of.Value = p.Name+" protocol, best of its classifiers", p.Best
		all = append(all, of)
	}
	if v.Fidelity == nil {
		return all
	}
	for _, f := range v.Figures() {
		s := report.Score{Name: f.Name, Value: f.Value, Scale: report.Plain, Covered: covered, TestedOn: tested,
			TrainedOn: "features of " + v.Settings.Network.Name}
		if f.Metric.OfSyntheticAlone() {
			s.Covered, s.TestedOn = report.PostProcessing, "synthetic images alone"
		}
		all = append(all, s)
	}
	return all
}
