package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"strings"
	"time"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/generate"
)

// toldWord says what a run's images come with.
func toldWord(p *finetune.Plan) string {
	if p.Text {
		return "captions"
	}
	return fmt.Sprintf("%d classes", len(p.Classes))
}

// checkPrompts says whether flags that choose classes or prompts fit the model.
func checkPrompts(m *checkpoint.Model, o finetune.Sampling, classes string) error {
	switch {
	case m.TextEncoder == nil && (len(o.Prompts) > 0 || o.NegativePrompt != ""):
		return misuse(fmt.Errorf("--prompt and --negative-prompt go with models that take text; this one has the classes %s", strings.Join(m.Classes, ", ")))
	case m.TextEncoder == nil:
		return nil
	case classes != "":
		return misuse(errors.New("--classes is set, but the model takes text; use --prompt"))
	case len(o.Prompts) == 0:
		return misuse(errors.New("--prompt is missing: the model takes text, for example --prompt \"a bold seven\""))
	case o.NegativePrompt != "" && o.GuidanceScale == 1:
		return misuse(errors.New("--negative-prompt does nothing without guidance; set --guidance above 1"))
	}
	return nil
}

// spreadPrompts returns a prompt for each of o.Count images, each as often as any
// other; without prompts, no text.
func spreadPrompts(o finetune.Sampling) []generate.Prompt {
	prompts := make([]generate.Prompt, o.Count)
	for i := range prompts {
		prompts[i].Negative = o.NegativePrompt
		if n := len(o.Prompts); n > 0 {
			prompts[i].Text = o.Prompts[i%n]
		}
	}
	return prompts
}

// draw makes the images that o asks for: one per label, or for its prompts where
// the model takes text.
func (s *session) draw(ctx context.Context, what string, m *checkpoint.Model, labels []int, seed uint64, o finetune.Sampling) (*dataset.Set, error) {
	if m.TextEncoder == nil {
		return s.sample(ctx, what, m, labels, seed, o)
	}
	branches, err := finetune.Branches(m)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	return generate.Prompts(ctx, s.backend, m, m.Size, spreadPrompts(o), generate.Options{
		Sampler: o.Sampler, Steps: o.Steps, Eta: o.Eta, Churn: o.Churn, GuidanceScale: o.GuidanceScale, Seed: seed,
		Lowering: s.lowering, Adapter: branches, Workers: s.workers,
		Report: func(done, total int) {
			left := time.Since(start).Seconds() / float64(done) * float64(total-done)
			s.talk.progress(done == total, "%s: image %d/%d, %s left", what, done, total, short(time.Duration(left*float64(time.Second))))
		},
	})
}

// writeSamples writes images by class, or with their public prompts.
func writeSamples(dir string, set *dataset.Set) error {
	if set.Captions != nil {
		return dataset.WriteCaptions(dir, set)
	}
	return dataset.WriteFolder(dir, set)
}

// promptsOf returns the prompts of images that were spread evenly over them, in
// their order.
func promptsOf(set *dataset.Set) []string {
	n := 1
	for n < set.Len() && set.Captions[n] != set.Captions[0] {
		n++
	}
	return set.Captions[:min(n, set.Len())]
}

// sheetOf shows the first images of each class, or of each of a number of prompts.
func sheetOf(set *dataset.Set, prompts int) image.Image {
	if set.Captions == nil {
		return dataset.Grid(firstPerClass(set, gridColumns), gridColumns)
	}
	var order []int
	for p := range prompts {
		for k := range gridColumns {
			if i := k*prompts + p; i < set.Len() {
				order = append(order, i)
			}
		}
	}
	return dataset.Grid(set.Subset(order), min(gridColumns, max(1, set.Len()/max(1, prompts))))
}
