package finetune

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	devices "github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

// newTrainer chooses and compiles the clipping engine on random examples of the
// run's shapes: a trainable parameter without a per-example gradient rule stops
// the run here, by name, and no private image has been opened.
func newTrainer(ctx context.Context, backend compute.Backend, c *Config, plan *Plan, t *target, canvas pipeline.Canvas, o Options) (*trainer, error) {
	if c.Training.Compute == nn.BFloat16 && o.Lowering == nn.Patches {
		return nil, fmt.Errorf("%w: training.compute is %s, in which the go backend is slower than in %s; choose that, or XLA", ErrConfig, nn.BFloat16, nn.Float32)
	}
	schedule, err := diffusion.NewSchedule(t.model.Scheduler)
	if err != nil {
		return nil, err
	}
	weights := t.weights()
	tr := &trainer{initial: weights.Flatten(t.trainable)}
	if tr.draws, err = newDraws(t.model, canvas, schedule, c.Training, o.InsecureSeed); err != nil {
		return nil, err
	}
	loss, err := t.loss(schedule, tr.draws, c.Training)
	if err != nil {
		return nil, err
	}
	m := plan.Mechanism
	tune := dpsgd.TuneOptions{
		Engine: dpsgd.EngineOptions{
			Method: o.Engine, ClippingNorm: m.ClippingNorm,
			NN: nn.Options{Lowering: o.Lowering, Compute: c.Training.Compute, Recompute: c.Training.Recompute, Adapter: t.adapter}, Weights: weights, Trainable: t.trainable,
			Loss:              loss,
			PhysicalBatchSize: o.PhysicalBatchSize, Workers: o.Workers,
			Base: baseOptions(c, weights, t.trainable, o.releaseFrom),
		},
		Vector: tr.initial, Public: tr.draws.random(t), Draws: c.Training.Multiplicity,
		ExpectedBatchSize: m.ExpectedBatchSize, Examples: m.ExpectedBatchSize * float64(m.Steps), Cache: o.TuneCache,
	}
	if frozenValues(weights, t.trainable) >= returnFrom {
		devices.ReturnMemory()
	}
	if o.canaries != nil {
		if err := o.canaries.extend(tr, &tune); err != nil {
			return nil, err
		}
	}
	if o.InsecureSeed != 0 { // A seed asks for the same numbers again, which a choice by time would not give.
		if tune.Engine.Method == "" || tune.Engine.Method == dpsgd.Auto {
			tune.Engine.Method = dpsgd.BookKeeping
		}
		if tune.Engine.PhysicalBatchSize == 0 {
			tune.Engine.PhysicalBatchSize = max(1, 64/c.Training.Multiplicity)
		}
	}
	if tr.engine, tr.choice, err = dpsgd.Tune(ctx, backend, tune); err != nil {
		return nil, fmt.Errorf("prepare the clipping engine: %w", err)
	}
	return tr, nil
}

// loss returns the loss of each example, from the inputs that draws make.
func (t *target) loss(schedule *diffusion.Schedule, d *draws, c Training) (func(*nn.Scope, []*graph.Node) *graph.Node, error) {
	deviation := 1.0 // Of latents, which are normalised.
	if t.model.Autoencoder == nil {
		deviation = 0.5
	}
	weights, err := lossWeights(c.LossWeight, schedule, t.model.Scheduler.Prediction, d.timesteps, deviation)
	if err != nil {
		return nil, err
	}
	draws := d.cleanDraws()
	return func(s *nn.Scope, inputs []*graph.Node) *graph.Node {
		in := pipeline.NewLossInputs(inputs)
		in.Draws, in.Weights = draws, weights
		return pipeline.ExampleLoss(t.model, schedule, s, in)
	}, nil
}

// random returns the inputs of the loss for random images and labels or texts,
// which are public, at any positions. Until the private ones are there, they are
// those of d, too.
func (d *draws) random(t *target) dpsgd.Fetch {
	const n = 64
	public := *d
	public.key = 0
	rng := rand.New(rand.NewPCG(1, 2))
	d.told = t.randomConditions(n)
	public.grids, public.told = make([]float32, d.variants*n*d.canvas.Size()), d.told
	for i := range public.grids {
		public.grids[i] = float32(rng.NormFloat64())
	}
	batch := make([]int, n)
	for i := range batch {
		batch[i] = i
	}
	fetch := public.fetch(0, batch)
	return func(positions []int, size int) ([]*tensors.Tensor, error) {
		wrapped := make([]int, len(positions))
		for i, p := range positions {
			wrapped[i] = p % n
		}
		return fetch(wrapped, size)
	}
}
