package finetune

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
	"github.com/scumble-dp/scumble/pipeline"
	"github.com/scumble-dp/scumble/subsample"
)

// Options of Run: nothing here changes the privacy of the run, except
// InsecureSeed, which ends it.
type Options struct {
	Dir    string // Run directory. Created; must not exist unless Resume is set.
	Resume bool

	// DataPath is where the images lie, if not at the config's data.path.
	DataPath string

	Lowering          nn.Lowering
	Workers           int          // Calls to the backend at the same time. Zero means 1.
	PhysicalBatchSize int          // Examples per call. Zero finds it by trial and memory.
	Engine            dpsgd.Method // "" or auto means the one that is faster here.
	// TuneCache is the folder that keeps which engine was the faster; "" is none.
	TuneCache string

	// InsecureSeed, if not zero, makes noise and sampling reproducible for
	// tests. What is trained is NOT PRIVATE and is marked so.
	InsecureSeed uint64

	// Planned is called once, before a private image is opened.
	Planned func(*Plan)
	// Tuned is called once, with the engine that was chosen, before a private
	// image is opened.
	Tuned func(*dpsgd.Choice)
	// Ready is called once, when the step is compiled and before a private image
	// is opened, with the time that all steps should take: measured on an empty
	// batch, it may be released, as the time they took may not.
	Ready func(expected time.Duration)
	// Taught is called after every step of the teacher. It gets nothing private.
	Taught func(step, steps int)

	// Prepared is called while features of the teacher's classifier are computed, before its
	// first step. It gets nothing private.
	Prepared func(percent int)
	// Report is called after every step. It gets nothing private.
	Report func(Progress)

	wrong    mistake   // Tests inject one.
	canaries *canaries // Of an audit, which releases nothing.

	releaseFrom int // Tests take another: see baseOptions.
}

// Progress of a run. It holds public numbers and the claim only.
type Progress struct {
	Step, Steps    int
	SecondsPerStep float64
	Left           time.Duration
	Epsilon        float64 // Spent so far.
}

// Result of a run.
type Result struct {
	Plan    *Plan
	Model   *checkpoint.Model // Covered by the claim.
	Claim   accountant.Result
	Ledger  *accountant.Record
	Seconds float64 // Training, over all sittings.
	Lost    int     // Steps charged to the ledger whose update was lost to an interruption.

	Engine *dpsgd.Choice // Made before an image was opened; its size is the last one, smaller where memory ran out.
}

// Run fine-tunes the base model of c on its private images.
//
// Guarantee: see the package comment.
func Run(ctx context.Context, backend compute.Backend, c *Config, base *checkpoint.Model, o Options) (*Result, error) {
	if !o.Resume && exists(o.Dir) {
		return nil, fmt.Errorf("%w: run directory %s exists; choose another, or go on with --resume", ErrConfig, o.Dir)
	}
	if o.Resume {
		c = c.Resolve(o.Dir)
	}
	plan, target, err := NewPlan(backend, c, base)
	if err != nil {
		return nil, err
	}
	if o.Resume {
		if err := plan.authorise(c, o.Dir); err != nil {
			return nil, err
		}
	} else if err := checkPlace(o.Dir); err != nil {
		return nil, err
	}
	if o.Planned != nil {
		o.Planned(plan)
	}
	canvas, err := pipeline.NewCanvas(base, plan.Size, plan.Channels)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	trainer, err := newTrainer(ctx, backend, c, plan, target, canvas, o)
	if err != nil {
		return nil, err
	}
	defer trainer.engine.Close()
	if o.Tuned != nil {
		o.Tuned(trainer.choice)
	}
	if o.Ready != nil {
		pace, err := trainer.engine.Pace(trainer.initial, trainer.draws.fetch(0, nil))
		if err != nil {
			return nil, err
		}
		steps := float64(plan.Mechanism.Steps) * plan.Mechanism.ExpectedBatchSize
		o.Ready(time.Duration(pace * steps * float64(time.Second)))
	}
	// All that can fail on the data fails before the run directory is made.
	set, err := openData(c, plan, o.DataPath)
	if err != nil {
		return nil, err
	}
	data, err := target.encodeData(ctx, backend, canvas, set, c.Training.Augment, o)
	if err != nil {
		return nil, err
	}
	r, err := openRun(c, plan, set, o)
	if err != nil {
		return nil, err
	}
	defer r.ledger.Close()
	if err := data.save(base, r.private); err != nil {
		return nil, err
	}
	trainer.draws.grids, trainer.draws.told = data.grids, data.told
	if err := r.prepare(ctx, backend, target, trainer, canvas, set, o); err != nil {
		return nil, err
	}
	if err := r.train(ctx, trainer, o); err != nil {
		return nil, err
	}
	claim, err := accountant.PLD{}.Epsilon(r.ledger.Record().Events(), accountant.AddOrRemove, plan.Delta)
	if err != nil {
		return nil, fmt.Errorf("account for the ledger: %w", err)
	}
	if claim.Epsilon > c.Privacy.Epsilon {
		return nil, fmt.Errorf("the ledger of %s holds epsilon %.6g, privacy.epsilon is %g, so no model is released: %w", o.Dir, claim.Epsilon, c.Privacy.Epsilon, accountant.ErrBudget)
	}
	trainer.engine.Close() // Which gives the model its frozen weights back.
	model, err := r.release(target)
	if err != nil {
		return nil, err
	}
	trainer.choice.Size = trainer.engine.PhysicalBatchSize()
	return &Result{Plan: plan, Model: model, Claim: claim, Ledger: r.ledger.Record(), Seconds: r.state.Seconds, Lost: r.lost, Engine: trainer.choice}, nil
}

// openData reads the private images the way the public inputs say.
func openData(c *Config, plan *Plan, path string) (*dataset.Set, error) {
	if path == "" {
		path = c.Data.Path
	}
	set, err := dataset.Open(path, c.Data.Options(plan.Size, plan.Channels, plan.Classes))
	if err != nil && c.Data.Size == 0 {
		return nil, fmt.Errorf("%w (data.size is not set, so it is the base model's %d pixels)", err, plan.Size)
	}
	if err != nil {
		return nil, err
	}
	if plan.Text && set.Captions == nil {
		return nil, fmt.Errorf("%w: %s has no captions, want a file metadata.jsonl with file_name and text, or Parquet with image and text: the base model takes text", dataset.ErrInvalid, path)
	}
	if !plan.Text && set.Labels == nil {
		return nil, fmt.Errorf("%w: %s has no labels, want images of named classes", dataset.ErrInvalid, path)
	}
	return set, nil
}

// encode returns the images in the form that draws take: all variants of them, of
// which a pixel model needs one.
func encode(ctx context.Context, backend compute.Backend, m *checkpoint.Model, canvas pipeline.Canvas, set *dataset.Set, a Augment, o Options) ([]float32, error) {
	codec, err := pipeline.NewCodec(backend, o.Lowering, o.Workers, m, canvas)
	if err != nil {
		return nil, err
	}
	defer codec.Close()
	codec.Apart = true
	var grids []float32
	for v := range a.cached(m.Autoencoder != nil) {
		some, err := codec.Encode(ctx, a.variant(set, v))
		if err != nil {
			return nil, err
		}
		grids = append(grids, some...)
	}
	return grids, nil
}

// Branches returns the adapter branches of a model, nil without.
func Branches(m *checkpoint.Model) (nn.Adapter, error) {
	if m.Adapter == nil {
		return nil, nil
	}
	return m.Adapter.Adapter("unet")
}

// denoiserWeights returns the weights that the denoiser uses.
func denoiserWeights(m *checkpoint.Model) *nn.Weights {
	return pipeline.Component(m.Weights, "unet", "class_embedder")
}

// run is a run directory that is open for training.
type run struct {
	config  *Config
	plan    *Plan
	dir     string
	private string
	hash    string
	ledger  *accountant.Ledger
	state   *state
	lost    int
}

// trainer is what computes a step, ready before an image is opened.
type trainer struct {
	engine  *dpsgd.Engine
	choice  *dpsgd.Choice
	draws   *draws
	initial []float32 // Trainable vector at the start.

	canaries *canaries // Of an audit.
}

// train makes the steps that the ledger has room for.
func (r *run) train(ctx context.Context, t *trainer, o Options) error {
	training := r.config.Training
	noise, sampler, err := r.secrets(t.draws.examples(), o)
	if err != nil {
		return err
	}
	if r.state != nil && len(r.state.Vector) != len(t.initial) {
		return fmt.Errorf("checkpoint has %d trainable parameters, want %d", len(r.state.Vector), len(t.initial))
	}
	if r.state == nil {
		r.state = &state{ConfigHash: r.hash, Vector: t.initial, EMA: optim.EMA{Decay: training.EMA}}
	}
	s := r.state
	// Steps that the ledger has and the checkpoint has not were released, or may
	// have been: they stay charged and are not made again.
	recorded := r.steps()
	r.lost += recorded - s.Step
	s.Step = recorded
	m := r.plan.Mechanism
	p := &steps{trainer: t, mechanism: m, training: training, noise: noise, sampler: sampler, state: s, wrong: o.wrong,
		adam: optim.AdamW{LearningRate: training.LearningRate, Beta2: 0.99, State: s.Adam}}
	meter := newMeter(r.plan, s.Step)
	saved := time.Now()
	for s.Step < m.Steps {
		start := time.Now()
		noised, err := p.gradient(ctx, r.record)
		if err != nil {
			return errors.Join(err, r.save(&p.adam))
		}
		if err := p.update(noised); err != nil {
			return err
		}
		s.Seconds += time.Since(start).Seconds()
		if time.Since(saved) > time.Second || s.Step == m.Steps {
			if err := r.save(&p.adam); err != nil {
				return err
			}
			saved = time.Now()
		}
		if o.Report != nil {
			progress, err := meter.progress(s.Step)
			if err != nil {
				return err
			}
			o.Report(progress)
		}
	}
	return nil
}

// save writes the checkpoint.
func (r *run) save(adam *optim.AdamW) error {
	r.state.Adam = adam.State
	return saveState(r.private, r.state)
}

// secrets returns the sources of noise and of batches: fresh keys, never
// stored, unless a test asks for a seed.
func (r *run) secrets(n int, o Options) (*dpsgd.Noise, *subsample.Poisson, error) {
	q := r.plan.Mechanism.SamplingProbability
	if o.InsecureSeed != 0 {
		sampler, err := subsample.NewInsecurePoisson(n, q, o.InsecureSeed)
		return dpsgd.NewInsecureNoise(o.InsecureSeed + 1), sampler, err
	}
	noise, err := dpsgd.NewNoise()
	if err != nil {
		return nil, nil, err
	}
	sampler, err := subsample.NewPoisson(n, q)
	return noise, sampler, err
}

// release writes the model that the claim covers: the average of the weights
// over the steps, or the latest without averaging.
func (r *run) release(t *target) (*checkpoint.Model, error) {
	vector := r.state.Vector
	if r.config.Training.EMA > 0 && r.state.EMA.Step > 0 {
		vector = r.state.EMA.Weights()
	}
	t.model.Weights.SetFlat(t.trainable, vector)
	t.model.Size = r.plan.Size
	t.model.Card = ""
	if err := r.mark(t.model); err != nil {
		return nil, err
	}
	dir := filepath.Join(r.dir, "release", "model")
	if exists(dir) { // A run that is resumed after its end writes it again.
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	return t.model, checkpoint.Save(dir, t.model)
}

// mark says in the model itself that it is from private images, wherever its files
// go: it must not pass for a public base model.
func (r *run) mark(m *checkpoint.Model) error {
	lines, err := ReleasedLedger(r.ledger.Record())
	if err != nil {
		return err
	}
	released, err := accountant.ParseLedger(lines)
	if err != nil {
		return err
	}
	info := maps.Clone(m.Info)
	if info == nil {
		info = map[string]string{}
	}
	delete(info, "public_data")
	info[checkpoint.PrivateRun] = released.Head()
	m.Info = info
	return nil
}

// meter measures speed, and knows the claim after every step.
type meter struct {
	plan    *Plan
	first   int
	start   time.Time
	epsilon float64
	at      int // Step that epsilon holds for, or more.
}

func newMeter(plan *Plan, first int) *meter {
	return &meter{plan: plan, first: first, start: time.Now()}
}

// progress computes epsilon for a step at most a twentieth of the run ahead, so
// that what it shows is never less than what is spent.
func (m *meter) progress(step int) (Progress, error) {
	steps := m.plan.Mechanism.Steps
	if step > m.at {
		m.at = min(steps, step+steps/20)
		claim, err := m.plan.Spent(m.at)
		if err != nil {
			return Progress{}, err
		}
		m.epsilon = claim.Epsilon
	}
	per := time.Since(m.start).Seconds() / float64(step-m.first)
	return Progress{Step: step, Steps: steps, SecondsPerStep: per,
		Left: time.Duration(per * float64(steps-step) * float64(time.Second)), Epsilon: m.epsilon}, nil
}
