package finetune

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/optim"
	"github.com/scumble-dp/scumble/pipeline"
)

// Audit trains as a run does, step by step through the same code, with canaries
// among the examples, and shows what each step released of them. It makes no run
// directory, writes no ledger and releases no model: what it trains is thrown
// away, and so is what it shows unless the caller keeps it.
//
// Without private images among its images it reads none.
type Audit struct {
	Plan *Plan // Mechanism and claim; of this run alone, EpsilonAlone.

	backend compute.Backend
	config  *Config
	base    *checkpoint.Model
	canvas  pipeline.Canvas
	trainer *trainer
	options Options
}

// NewAudit prepares an audit of the run that c describes. It opens no image.
//
//   - dir: a run directory whose ledger says how much noise there was; "" takes
//     as much as a new run would.
//   - count: canaries.
//   - norm: L2 norm of a canary's gradient. Zero means twice the clipping norm, or
//     its square root where that is larger: there a clip factor that lacks its
//     square root lets through most.
func NewAudit(ctx context.Context, backend compute.Backend, c *Config, base *checkpoint.Model, dir string, count int, norm float64, o Options) (*Audit, error) {
	if dir != "" {
		c = c.Resolve(dir)
	}
	plan, target, err := NewPlan(backend, c, base)
	if err != nil {
		return nil, err
	}
	if plan.Text {
		return nil, fmt.Errorf("%w: the base model takes text; audits are there for models of classes", ErrConfig)
	}
	if dir != "" {
		if err := plan.authorise(c, dir); err != nil {
			return nil, err
		}
	}
	a := &Audit{Plan: plan, backend: backend, config: c, base: base, options: o}
	if a.canvas, err = pipeline.NewCanvas(base, plan.Size, plan.Channels); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if norm == 0 {
		norm = max(2*plan.Mechanism.ClippingNorm, math.Sqrt(plan.Mechanism.ClippingNorm))
	}
	a.options.canaries = &canaries{Canaries: dpsgd.Canaries{Count: count, Norm: norm}}
	if a.trainer, err = newTrainer(ctx, backend, c, plan, target, a.canvas, a.options); err != nil {
		return nil, err
	}
	return a, nil
}

// Close frees the compiled graphs.
func (a *Audit) Close() { a.trainer.engine.Close() }

// Train makes all steps on the images and those canaries that are members, in
// increasing order. After each, see gets the canaries that joined it, and for every
// canary the coordinate of the noised sum along it, in units of the clipping norm.
func (a *Audit) Train(ctx context.Context, images *dataset.Set, members []int, see func(joined []int, noised []float64) error) error {
	if images.Labels == nil || images.Height != a.Plan.Size || images.Channels != a.Plan.Channels || len(images.Classes) != len(a.Plan.Classes) {
		return fmt.Errorf("%w: images to audit with are %dx%d with %d channels and %d classes, want %dx%d, %d and %d", dataset.ErrInvalid,
			images.Height, images.Width, images.Channels, len(images.Classes), a.Plan.Size, a.Plan.Size, a.Plan.Channels, len(a.Plan.Classes))
	}
	grids, err := encode(ctx, a.backend, a.base, a.canvas, images, a.config.Training.Augment, a.options)
	if err != nil {
		return err
	}
	t := a.trainer
	t.draws.grids, t.draws.told = grids, labels{images.Labels, len(images.Classes)}
	t.canaries.members, t.canaries.examples = members, images.Len()
	r := &run{config: a.config, plan: a.Plan}
	noise, sampler, err := r.secrets(images.Len()+len(members), a.options)
	if err != nil {
		return err
	}
	training := a.config.Training
	p := &steps{trainer: t, mechanism: a.Plan.Mechanism, training: training, noise: noise, sampler: sampler, wrong: a.options.wrong,
		adam:  optim.AdamW{LearningRate: training.LearningRate, Beta2: 0.99},
		state: &state{Vector: slices.Clone(t.initial), EMA: optim.EMA{Decay: training.EMA}}}
	for p.state.Step < p.mechanism.Steps {
		// Nothing is released, so nothing is recorded.
		noised, err := p.gradient(ctx, func() error { return nil })
		if err != nil {
			return err
		}
		seen := t.canaries.Coordinates(noised)
		for i := range seen { // As whoever knows the config would undo the division.
			seen[i] *= p.mechanism.ExpectedBatchSize
		}
		if err := see(t.canaries.joined, seen); err != nil {
			return err
		}
		if err := p.update(noised); err != nil {
			return err
		}
		if a.options.Report != nil {
			a.options.Report(Progress{Step: p.state.Step, Steps: p.mechanism.Steps})
		}
	}
	return nil
}

// canaries of an audit: examples beyond the images, of which a sampler's index
// says which.
type canaries struct {
	dpsgd.Canaries
	examples int   // Images; index examples + i is member i.
	members  []int // Canaries that are in.
	joined   []int // Canaries of the latest batch.
}

// join adds the canaries of a batch to what is fetched.
func (c *canaries) join(fetch dpsgd.Fetch, batch []int) dpsgd.Fetch {
	canary := func(position int) int {
		if example := batch[position]; example >= c.examples {
			return c.members[example-c.examples]
		}
		return -1
	}
	c.joined = c.joined[:0]
	for p := range batch {
		if k := canary(p); k >= 0 {
			c.joined = append(c.joined, k)
		}
	}
	c.joined = slices.Compact(c.joined)
	return c.Fetch(fetch, canary)
}

// extend adds the canaries to a trainer and to what its engine is chosen for.
func (c *canaries) extend(t *trainer, tune *dpsgd.TuneOptions) error {
	var err error
	if tune.Engine, err = c.Extend(tune.Engine); err != nil {
		return err
	}
	t.canaries = c
	t.initial = tune.Engine.Weights.Flatten(tune.Engine.Trainable)
	tune.Vector, tune.Public = t.initial, c.Fetch(tune.Public, func(int) int { return -1 })
	return nil
}
