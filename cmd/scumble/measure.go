package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/generate"
)

// measureSamples is how many samples of the base model gradients are measured on.
const measureSamples = 64

// measure compiles a step and measures it on samples of the public base model.
func (s *session) measure(ctx context.Context, c *finetune.Config) (*finetune.Measured, error) {
	base, err := loadBase(c.Base)
	if err != nil {
		return nil, err
	}
	size := c.Data.Size
	if size == 0 {
		size = base.Size
	}
	options := generate.Options{Steps: 16, Seed: sampleSeed, Lowering: s.lowering, Workers: s.workers}
	var set *dataset.Set
	if base.TextEncoder != nil {
		set, err = generate.Prompts(ctx, s.backend, base, size, spreadPrompts(finetune.Sampling{Count: measureSamples, Prompts: c.Sampling.Prompts}), options)
	} else {
		set, err = generate.Images(ctx, s.backend, base, size, generate.Balanced(measureSamples, len(base.Classes)), options)
	}
	if err != nil {
		return nil, fmt.Errorf("sample the base model: %w", err)
	}
	m, err := finetune.Measure(ctx, s.backend, c, base, set, finetune.Options{Lowering: s.lowering, Workers: s.workers, TuneCache: tuneCache()})
	if err != nil {
		return nil, err
	}
	m.PeakBytes = peakBytes()
	return m, nil
}

// tuneCache is the folder that keeps which engine is the faster one here; "" where
// this user has none.
func tuneCache() string {
	folder, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(folder, "scumble", "engine")
}

// measuredText says what was measured, and how the clipping norm fits.
func measuredText(m *finetune.Measured) string {
	text := fmt.Sprintf("takes        %s for all steps on this machine, %.1f GiB of memory\n", short(time.Duration(m.Seconds*float64(time.Second))), float64(m.PeakBytes)/(1<<30)) +
		fmt.Sprintf("engine       %s\n", m.Engine) +
		fmt.Sprintf("gradients    mean norm %.3g on %d samples of the public base model, %.0f %% clipped\n", m.MeanNorm, m.Examples, 100*m.Clipped)
	if m.ClippingNorm > 2*m.MeanNorm {
		text += fmt.Sprintf("             noise grows with the clipping norm: try %.1g in place of %g\n", m.MeanNorm/2, m.ClippingNorm)
	}
	return text
}
