package bench

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"

	devices "github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
)

// StepOptions of Step.
type StepOptions struct {
	Workload     string
	Set          Set
	Batch        int // Examples of a step. Required.
	Multiplicity int // Draws per example. Zero means 1.

	Rounds  int // Timed steps of each kind. Zero means 3.
	Workers int // Calls to the backend at the same time. Zero means 1.
	// PhysicalBatch is the examples per call, of both kinds of step; the largest
	// divisor of Batch that is not above it is used. Zero means 16 draws,
	// or less where that would leave workers idle; auto then finds the DP step's.
	PhysicalBatch int
	Engine        dpsgd.Method // "" or auto times both first and takes the faster.
	TuneCache     string       // Folder that keeps which was the faster; "" is none.
	Lowering      nn.Lowering
	Compute       nn.Precision // Of the DP step's dense products; "" means float32.

	// FreezeEmbedder leaves the conditioning embedder of a published model as it
	// is, also where it trained with the attention modules.
	FreezeEmbedder bool
	// BasePrecision that weights which do not train are kept in by the DP step: see
	// nn.BaseOptions. "" means float32.
	BasePrecision nn.Precision
	// Recompute has the DP step's backward pass compute blocks again: see nn.Options.
	Recompute bool

	// PrivateOnly leaves the ordinary step out: for the memory of the other.
	PrivateOnly bool
	// Report, if not nil, is told what comes next.
	Report func(what string)

	search bool // The choice of the engine finds the physical batch, too.

	model *Published // Tests take one of their own.
}

// StepResult is what Step measured. Seconds are medians over the rounds. A nil
// pointer is a figure that was not asked for.
type StepResult struct {
	SecondsNonPrivate *float64 `json:"seconds_nonprivate"` // Ordinary training of all parameters.
	SecondsDP         *float64 `json:"seconds_dp"`         // DP-SGD on the trainable set.
	Ratio             *float64 `json:"ratio"`              // SecondsDP / SecondsNonPrivate.

	// The same in processor time, user and system: on a machine that is busy
	// with other work this is the steadier figure.
	CPUSecondsNonPrivate *float64 `json:"cpu_seconds_nonprivate"`
	CPUSecondsDP         *float64 `json:"cpu_seconds_dp"`
	CPURatio             *float64 `json:"cpu_ratio"`

	PeakRSS             int64   `json:"peak_rss_bytes"` // Of the process so far; 0 where the system does not say.
	Parameters          int     `json:"parameters"`     // Of the model, without adapters.
	TrainableParameters int     `json:"trainable_parameters"`
	GFLOPPerStep        float64 `json:"gflop_per_step"` // Of ordinary training of the trainable set: see Workload.Flops.
	GFLOPS              float64 `json:"gflops"`         // GFLOPPerStep per second of the DP step, or the ordinary one without.
	Backend             string  `json:"backend"`
	PhysicalBatch       int     `json:"physical_batch"`
	// CompileSeconds is the first call: build, compile and one physical batch.
	CompileSeconds           float64  `json:"compile_seconds"` // Of the DP step, or the ordinary one without.
	CompileSecondsNonPrivate *float64 `json:"compile_seconds_nonprivate"`

	Workload     string        `json:"workload"`
	Set          Set           `json:"trainable"`
	Batch        int           `json:"batch"`
	Multiplicity int           `json:"multiplicity"`
	Engine       string        `json:"engine"`           // Of the DP step: what auto chose, or what was asked for.
	Choice       *dpsgd.Choice `json:"choice,omitempty"` // With auto.
	Workers      int           `json:"workers"`
	Mimalloc     bool          `json:"mimalloc"` // Whether that allocates: see backend.UseAllocator.
	Compute      nn.Precision  `json:"compute,omitempty"`

	BasePrecision  nn.Precision `json:"base_precision,omitempty"`
	FreezeEmbedder bool         `json:"freeze_embedder,omitempty"`
	Recompute      bool         `json:"recompute,omitempty"`

	Rounds int `json:"rounds"`
}

// Validate reports the first number that is out of range.
func (o *StepOptions) Validate() error {
	switch {
	case o.Batch < 1:
		return fmt.Errorf("batch is %d, want at least 1", o.Batch)
	case o.Multiplicity < 0:
		return fmt.Errorf("multiplicity is %d, want at least 1, or zero for 1", o.Multiplicity)
	case o.Rounds < 0:
		return fmt.Errorf("rounds is %d, want at least 1, or zero for 3", o.Rounds)
	case o.Workers < 0:
		return fmt.Errorf("workers is %d, want at least 1, or zero for 1", o.Workers)
	case o.PhysicalBatch < 0:
		return fmt.Errorf("physical batch is %d, want at least 1, or zero for 16 draws", o.PhysicalBatch)
	case o.Engine != "" && o.Engine != dpsgd.Auto && o.Engine != dpsgd.BookKeeping && o.Engine != dpsgd.PerExampleLoop:
		return fmt.Errorf("clipping method is %q, want %q, %q or %q", o.Engine, dpsgd.BookKeeping, dpsgd.PerExampleLoop, dpsgd.Auto)
	case o.BasePrecision != "" && o.BasePrecision != nn.Float32 && o.BasePrecision != nn.BFloat16:
		return fmt.Errorf("precision of frozen weights is %q, want %q or %q", o.BasePrecision, nn.Float32, nn.BFloat16)
	case o.Set == None && o.PrivateOnly:
		return fmt.Errorf("trainable set %q has no private step, want another", None)
	}
	return nil
}

func (o *StepOptions) setDefaults() {
	for _, field := range []struct {
		value *int
		zero  int
	}{{&o.Multiplicity, 1}, {&o.Rounds, 3}, {&o.Workers, 1}} {
		if *field.value == 0 {
			*field.value = field.zero
		}
	}
	if o.Engine == "" {
		o.Engine = dpsgd.Auto
	}
	o.search = o.PhysicalBatch == 0 && o.Engine == dpsgd.Auto
	if o.PhysicalBatch == 0 { // As a run begins its search, with work for every worker.
		o.PhysicalBatch = max(1, min(firstDraws/o.Multiplicity, o.Batch/o.Workers))
	}
	o.PhysicalBatch = divisor(o.Batch, o.PhysicalBatch)
}

// divisor of batch that is at most size: ordinary training takes whole shards.
func divisor(batch, size int) int {
	size = min(size, batch)
	for batch%size != 0 {
		size--
	}
	return size
}

// Step times one step of DP-SGD on the trainable set and one of ordinary
// training of the whole model, alternately: everything from the noising of the
// images to the Adam update, with data and draws in memory. The clipping norm is
// 1, the noise multiplier 1, the learning rate 1e-4.
func Step(ctx context.Context, backend compute.Backend, o StepOptions) (*StepResult, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.setDefaults()
	say := func(what string) {
		if o.Report != nil {
			o.Report(what)
		}
	}
	w, err := o.open(backend)
	if err != nil {
		return nil, err
	}
	if w.published() { // A heap of a few huge arrays must not double before it is swept.
		defer debug.SetGCPercent(debug.SetGCPercent(10))
	}
	_, flops := w.Flops(backend)
	r := &StepResult{
		Parameters: w.Parameters(), TrainableParameters: w.TrainableParameters(),
		GFLOPPerStep: flops * float64(o.Batch*o.Multiplicity) / 1e9, PhysicalBatch: o.PhysicalBatch,
		Workload: o.Workload, Set: o.Set, Batch: o.Batch, Multiplicity: o.Multiplicity, Workers: o.Workers, Rounds: o.Rounds, Mimalloc: devices.UsesMimalloc(), Compute: o.Compute,
		BasePrecision: o.BasePrecision, FreezeEmbedder: o.FreezeEmbedder, Recompute: o.Recompute,
	}
	d := w.newData(o.Batch, o.Multiplicity)

	var ordinary, private stopwatch
	if !o.PrivateOnly {
		say("compiling the ordinary step")
		step, close, err := ordinaryStep(ctx, backend, d, o)
		if err != nil {
			return nil, fmt.Errorf("ordinary step: %w", err)
		}
		defer close()
		if err := ordinary.time(func() error { return step(o.PhysicalBatch) }); err != nil {
			return nil, fmt.Errorf("ordinary step: %w", err)
		}
		ordinary.run = func() error { return step(o.Batch) }
		first := ordinary.first()
		r.CompileSecondsNonPrivate, r.CompileSeconds = &first, first
	}
	if o.Set != None {
		if o.Engine == dpsgd.Auto {
			say("timing both engines")
			if r.Choice, err = w.choose(ctx, backend, d, o); err != nil {
				return nil, fmt.Errorf("choose the engine: %w", err)
			}
			o.Engine = r.Choice.Method
			o.PhysicalBatch = divisor(o.Batch, r.Choice.Size)
			r.PhysicalBatch = o.PhysicalBatch
		}
		r.Engine = string(o.Engine)
		say("compiling the private step")
		step, close, err := w.privateStep(ctx, backend, d, o)
		if err != nil {
			return nil, fmt.Errorf("private step: %w", err)
		}
		defer close()
		if err := private.time(func() error { return step(o.PhysicalBatch) }); err != nil {
			return nil, fmt.Errorf("private step: %w", err)
		}
		private.run = func() error { return step(o.Batch) }
		if o.Engine == dpsgd.PerExampleLoop {
			r.PhysicalBatch = 1
		}
		r.CompileSeconds = private.first()
	}
	devices.TrimMemory() // What trials and compiling left.
	for round := range o.Rounds {
		say(fmt.Sprintf("round %d of %d", round+1, o.Rounds))
		for _, watch := range []*stopwatch{&ordinary, &private} {
			if watch.run == nil {
				continue
			}
			if err := watch.time(watch.run); err != nil {
				return nil, err
			}
		}
	}
	r.SecondsNonPrivate, r.CPUSecondsNonPrivate = ordinary.medians()
	r.SecondsDP, r.CPUSecondsDP = private.medians()
	if o.Set != None && !o.PrivateOnly {
		wall, cpu := *r.SecondsDP / *r.SecondsNonPrivate, *r.CPUSecondsDP / *r.CPUSecondsNonPrivate
		r.Ratio, r.CPURatio = &wall, &cpu
	}
	seconds := r.SecondsDP
	if seconds == nil {
		seconds = r.SecondsNonPrivate
	}
	r.GFLOPS = r.GFLOPPerStep / *seconds
	r.PeakRSS = peakRSS()
	return r, nil
}

// open makes the workload of the DP step.
func (o *StepOptions) open(backend compute.Backend) (*Workload, error) {
	if o.model != nil {
		return newPublished(backend, o.model, o.Set, o.FreezeEmbedder)
	}
	if !slices.Contains(PublishedModels, o.Workload) {
		return NewWorkload(backend, o.Workload, o.Set)
	}
	devices.ReturnMemory()
	p, err := OpenPublished(o.Workload)
	if err != nil {
		return nil, err
	}
	return newPublished(backend, p, o.Set, o.FreezeEmbedder)
}

// ordinaryStep returns a step of ordinary training of all parameters on the
// first n examples.
func ordinaryStep(ctx context.Context, backend compute.Backend, d *data, o StepOptions) (step func(n int) error, close func(), err error) {
	w, err := NewWorkload(backend, o.Workload, None)
	if err != nil {
		return nil, nil, err
	}
	t, err := optim.NewTrainer(backend, optim.TrainerOptions{
		NN: nn.Options{Lowering: o.Lowering}, Weights: w.weights, Trainable: w.Trainable, Loss: w.loss,
		ShardSize: o.PhysicalBatch, Workers: o.Workers, Adam: optim.AdamW{LearningRate: learningRate},
	})
	if err != nil {
		return nil, nil, err
	}
	fetch := func(positions []int) ([]*tensors.Tensor, error) { return d.fetch(positions, o.PhysicalBatch) }
	return func(n int) error {
		_, err := t.Step(ctx, n, 1, fetch)
		return err
	}, t.Close, nil
}

// Of both workloads.
const (
	firstDraws      = 16 // Of a call: 64 take a quarter longer where calls run side by side.
	learningRate    = 1e-4
	clippingNorm    = 1
	noiseMultiplier = 1
)

func (w *Workload) engineOptions(o StepOptions) dpsgd.EngineOptions {
	return dpsgd.EngineOptions{
		Method: o.Engine, ClippingNorm: clippingNorm, NN: nn.Options{Lowering: o.Lowering, Compute: o.Compute, Recompute: o.Recompute, Adapter: w.adapter},
		Weights: w.weights, Trainable: w.Trainable, Loss: w.loss, PhysicalBatchSize: o.PhysicalBatch, Workers: o.Workers,
		Base: nn.BaseOptions{Precision: o.BasePrecision, Release: true}, // As a run does (finetune.releaseFrom).
	}
}

// choose times both engines as a run of these steps would, at the physical batch
// that was given, or at what is worth trying for so short a run.
func (w *Workload) choose(ctx context.Context, backend compute.Backend, d *data, o StepOptions) (*dpsgd.Choice, error) {
	options := w.engineOptions(o)
	if o.search {
		options.PhysicalBatchSize = 0
	}
	e, choice, err := dpsgd.Tune(ctx, backend, dpsgd.TuneOptions{
		Engine: options, Vector: w.weights.Flatten(w.Trainable), Public: d.around(o.Batch),
		Draws: o.Multiplicity, ExpectedBatchSize: float64(o.Batch), Examples: float64(o.Batch * o.Rounds), Cache: o.TuneCache,
	})
	if err != nil {
		return nil, err
	}
	e.Close()
	return choice, nil
}

// privateStep returns a step of DP-SGD on the first n examples.
func (w *Workload) privateStep(ctx context.Context, backend compute.Backend, d *data, o StepOptions) (step func(n int) error, close func(), err error) {
	e, err := dpsgd.NewEngine(backend, w.engineOptions(o))
	if err != nil {
		return nil, nil, err
	}
	vector := w.weights.Flatten(w.Trainable)
	if w.published() {
		for _, name := range w.Trainable {
			w.weights.Get(name).Data = nil // The vector has them.
		}
	}
	noise, err := dpsgd.NewNoise()
	if err != nil {
		e.Close()
		return nil, nil, err
	}
	adam := optim.AdamW{LearningRate: learningRate}
	return func(n int) error {
		sum, _, err := e.Sum(ctx, vector, n, d.fetch)
		if err != nil {
			return err
		}
		// There is no ledger: the data are random numbers.
		gradient, err := sum.Release(noise, noiseMultiplier, func() error { return nil })
		if err != nil {
			return err
		}
		for i := range gradient {
			gradient[i] /= float64(o.Batch)
		}
		return adam.Update(vector, gradient, 1)
	}, e.Close, nil
}

// stopwatch times one kind of step. Its first time is that of the first call.
type stopwatch struct {
	run       func() error
	wall, cpu []float64
}

func (s *stopwatch) time(f func() error) error {
	start, used := time.Now(), cpuTime()
	if err := f(); err != nil {
		return err
	}
	s.cpu = append(s.cpu, (cpuTime() - used).Seconds())
	s.wall = append(s.wall, time.Since(start).Seconds())
	return nil
}

func (s *stopwatch) first() float64 { return s.wall[0] }

// medians of all but the first, nil without.
func (s *stopwatch) medians() (wall, cpu *float64) {
	if len(s.wall) < 2 {
		return nil, nil
	}
	w, c := median(s.wall[1:]), median(s.cpu[1:])
	return &w, &c
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}
