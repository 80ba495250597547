package main

import (
	"context"
	"fmt"

	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/generate"
)

// normSamples is how many samples of the base model gradient norms are measured on.
const normSamples = 64

// publicNorms measures gradient norms on samples of the public base model.
func (s *session) publicNorms(ctx context.Context, c *finetune.Config) (*finetune.Norms, error) {
	base, err := loadBase(c.Base)
	if err != nil {
		return nil, err
	}
	size := c.Data.Size
	if size == 0 {
		size = base.Size
	}
	set, err := generate.Images(ctx, s.backend, base, size, generate.Balanced(normSamples, len(base.Classes)), generate.Options{
		Steps: 16, Seed: sampleSeed, Lowering: s.lowering, Workers: s.workers})
	if err != nil {
		return nil, fmt.Errorf("sample the base model: %w", err)
	}
	return finetune.PublicNorms(ctx, s.backend, c, base, set, finetune.Options{Lowering: s.lowering, Workers: s.workers})
}

// normAdvice is a sentence on how a clipping norm fits.
func normAdvice(n *finetune.Norms) string {
	text := fmt.Sprintf("on %d samples of the public base model an example's gradient has mean norm %.3g; %.0f %% are clipped",
		n.Examples, n.Mean, 100*n.Clipped)
	if n.ClippingNorm > 2*n.Mean {
		text += fmt.Sprintf("; noise grows with the clipping norm: try about %.1g", n.Mean/2)
	}
	return text
}
