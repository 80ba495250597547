package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/generate"
	"github.com/scumble-dp/scumble/teacher"
)

// teacherRounds is how often an image is drawn until the teacher agrees, or has named enough of each class.
const teacherRounds = 8

// teacherPath is the place of a run's teacher, if it has one. It is in the release,
// so that whoever has that can draw what the run drew.
func teacherPath(run string) string {
	return filepath.Join(run, finetune.ReleaseDir, finetune.TeacherFile)
}

// taught makes one image per label and has the teacher of that file choose among what is
// drawn, or label it. It reads released files only, so it costs no privacy.
func (s *session) taught(ctx context.Context, what, path string, m *checkpoint.Model, labels []int, seed uint64, c finetune.Sampling) (*dataset.Set, *generate.Agreement, error) {
	judge, err := teacher.Load(s.backend, s.lowering, path)
	if err != nil {
		return nil, nil, err
	}
	defer judge.Close()
	known, err := places(judge.Classes(), m.Classes, labels)
	if err != nil {
		return nil, nil, err
	}
	classify := func(set *dataset.Set) ([]int, error) {
		seen := *set
		seen.Classes, seen.Labels = judge.Classes(), make([]int, set.Len())
		said, err := judge.Label(ctx, &seen)
		for i := range said {
			said[i] = known[said[i]]
		}
		return said, err
	}
	sample, stop, err := s.drawer(what, m, c)
	if err != nil {
		return nil, nil, err
	}
	defer stop()
	draw := func(labels []int, round int) (*dataset.Set, error) {
		return sample(ctx, labels, seed+uint64(round)<<32)
	}
	if judge.Role() == teacher.Label {
		set, a, err := generate.Relabel(labels, teacherRounds, draw, classify)
		if err != nil {
			return nil, nil, err
		}
		s.talk.say("the teacher labelled %d images of %d that were drawn, %d of them with another class than they were drawn for, and disputes %d", set.Len(), a.Drawn, a.Labelled, a.Disputed)
		return set, &a, nil
	}
	set, a, err := generate.Agreeing(labels, teacherRounds, draw, classify)
	if err != nil {
		return nil, nil, err
	}
	s.talk.say("the teacher chose %d images of %d that were drawn, and disputes %d of them", set.Len(), a.Drawn, a.Disputed)
	return set, &a, nil
}

// places returns where the classes that a teacher tells apart stand among those of a model.
// All that are drawn, by their labels, must be among them.
func places(teacher, model []string, labels []int) ([]int, error) {
	at := make([]int, len(teacher))
	for i, name := range teacher {
		if at[i] = slices.Index(model, name); at[i] < 0 {
			return nil, invalid(fmt.Errorf("the teacher knows class %q, the model draws %s", name, strings.Join(model, ", ")))
		}
	}
	for _, label := range labels {
		if !slices.Contains(at, label) {
			return nil, invalid(fmt.Errorf("the teacher does not know class %q, want some of %s", model[label], strings.Join(teacher, ",")))
		}
	}
	return at, nil
}
