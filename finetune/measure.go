package finetune

import (
	"context"
	"fmt"
	"slices"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/pipeline"
)

// Measured is what a plan measures without private images.
type Measured struct {
	Seconds      float64 `json:"seconds"`         // All steps, by the pace of an empty batch.
	Examples     int     `json:"public_examples"` // That gradients were measured on.
	MeanNorm     float64 `json:"mean_norm"`       // L2 norm of an example's gradient, averaged over its draws.
	Clipped      float64 `json:"clipped"`         // Share of the examples above the clipping norm.
	ClippingNorm float64 `json:"clipping_norm"`   // The config's.
	PeakBytes    int64   `json:"peak_rss_bytes"`  // Of the process so far; set by the caller.

	Engine *dpsgd.Choice `json:"engine"` // That a run would take.
}

// Measure compiles a step of c, and measures its time and the per-example
// gradients of the trainable set at its starting point on PUBLIC images, such as
// samples of the base model. The noise
// of every step is proportional to the clipping norm, so a clipping norm far
// above what gradients reach buys noise for nothing, and one far below makes
// every example count the same: half the mean is a fair first choice.
//
// Never call it with private images: its result has no noise and no ledger
// entry. base is changed as NewPlan changes it.
func Measure(ctx context.Context, backend compute.Backend, c *Config, base *checkpoint.Model, public *dataset.Set, o Options) (*Measured, error) {
	plan, target, err := NewPlan(backend, c, base)
	if err != nil {
		return nil, err
	}
	canvas, err := pipeline.NewCanvas(base, plan.Size, plan.Channels)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	t, err := newTrainer(ctx, backend, c, plan, target, canvas, o)
	if err != nil {
		return nil, err
	}
	defer t.engine.Close()
	pace, err := t.engine.Pace(t.initial, t.draws.fetch(0, nil))
	if err != nil {
		return nil, err
	}
	if t.draws.grids, err = encode(ctx, backend, base, canvas, public, c.Training.Augment, o); err != nil {
		return nil, err
	}
	batch := make([]int, public.Len())
	shown := *public // Its classes are the base model's.
	shown.Labels = slices.Clone(public.Labels)
	for i := range batch {
		batch[i] = i
		if shown.Labels != nil {
			shown.Labels[i] %= len(plan.Classes)
		}
	}
	if t.draws.told, err = target.conditions(ctx, backend, o.Lowering, &shown); err != nil {
		return nil, err
	}
	_, stats, err := t.engine.Sum(ctx, t.initial, len(batch), t.draws.fetch(0, batch))
	if err != nil {
		return nil, err
	}
	n := stats.Examples - stats.NonFinite
	if n == 0 {
		return nil, fmt.Errorf("no public image has a finite gradient: the base model is broken")
	}
	m := plan.Mechanism
	return &Measured{Seconds: pace * m.ExpectedBatchSize * float64(m.Steps),
		Examples: n, MeanNorm: stats.NormSum / float64(n), Clipped: float64(stats.Clipped) / float64(n), ClippingNorm: m.ClippingNorm,
		Engine: t.choice}, nil
}
