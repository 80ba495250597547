package dpsgd

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	devices "github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/nn"
)

// Method selects how per-example gradients are clipped.
type Method string

const (
	BookKeeping    Method = "book-keeping"
	PerExampleLoop Method = "loop"
	Auto           Method = "auto" // The faster of both: see Tune.
)

// EngineOptions of NewEngine.
type EngineOptions struct {
	Method       Method  // "" means BookKeeping.
	ClippingNorm float64 // Required.

	NN        nn.Options  // Lowering and adapter.
	Weights   *nn.Weights // All parameters of the model.
	Trainable []string    // Those with a gradient, in the order of the flat vector.

	// Loss builds the loss of each example, [examples], averaged over its
	// draws, from the inputs that the step's fetch function returns.
	Loss func(s *nn.Scope, inputs []*graph.Node) *graph.Node

	// PhysicalBatchSize is the examples per call, halved whenever memory runs
	// out. Zero means 32; the loop always uses 1. See Tune.
	PhysicalBatchSize int
	Workers           int // Calls at the same time. Zero means 1.

	// Base says how the weights that do not train are kept. It changes what the
	// model computes where it rounds them, and never the bound.
	Base nn.BaseOptions

	base  *nn.Base // Shared with another engine; nil makes one.
	rule  Rule     // Tests force one.
	wrong mistake  // Tests inject one.
}

// Engine computes clipped sums of per-example gradients.
type Engine struct {
	program  program
	method   Method
	size     int          // Values of the trainable vector.
	examples atomic.Int64 // Per call; falls when memory runs out.
	workers  int
	clip     float64
	wrong    mistake
	first    int // Values of the first trainable tensor.

	took   atomic.Int64 // Nanoseconds of the last Sum: it decides about garbage, and nothing else.
	spare  buffers
	alone  sync.RWMutex // Held for writing by a call that others leave no memory for.
	memory memory
}

// program is what the engine runs: an [nn.Program], or one that fails on purpose.
type program interface {
	Vector(values []float32) (*nn.Vector, error)
	Run(vector *nn.Vector, inputs ...*tensors.Tensor) ([]*tensors.Tensor, error)
	Close()
}

func (o *EngineOptions) validate() error {
	switch {
	case o.Method != "" && o.Method != BookKeeping && o.Method != PerExampleLoop:
		return fmt.Errorf("clipping method is %q, want %q or %q", o.Method, BookKeeping, PerExampleLoop)
	case !(o.ClippingNorm >= 1e-12 && o.ClippingNorm <= 1e12): // Its square must be a float32; NaN fails, too.
		return fmt.Errorf("clipping norm is %g, want in [1e-12, 1e12]", o.ClippingNorm)
	case o.PhysicalBatchSize < 0:
		return fmt.Errorf("physical batch size is %d, want at least 1, or zero for 32", o.PhysicalBatchSize)
	case o.Workers < 0:
		return fmt.Errorf("workers is %d, want at least 1, or zero for 1", o.Workers)
	case o.NN.Compute != "" && o.NN.Compute != nn.Float32 && o.NN.Compute != nn.BFloat16:
		return fmt.Errorf("compute is %q, want %q or %q", o.NN.Compute, nn.Float32, nn.BFloat16)
	case o.NN.Compute == nn.BFloat16 && o.NN.Lowering == nn.Patches:
		return fmt.Errorf("compute is %q, in which the pure Go backend is slower than in %q; choose that, or XLA", nn.BFloat16, nn.Float32)
	case len(o.Trainable) == 0:
		return fmt.Errorf("no trainable parameters; choose a larger trainable set")
	}
	seen := map[string]bool{}
	for _, name := range o.Trainable {
		if o.Weights.Get(name) == nil {
			return fmt.Errorf("trainable parameter %q is not in the weights", name)
		}
		if seen[name] {
			return fmt.Errorf("trainable parameter %q is listed twice", name)
		}
		seen[name] = true
	}
	return nil
}

// NewEngine builds an engine. It opens no data.
func NewEngine(backend compute.Backend, o EngineOptions) (*Engine, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	e := &Engine{method: o.Method, clip: o.ClippingNorm, workers: orInt(o.Workers, 1), wrong: o.wrong}
	if e.method == "" {
		e.method = BookKeeping
	}
	e.examples.Store(int64(orInt(o.PhysicalBatchSize, 32)))
	if o.Method == PerExampleLoop {
		e.examples.Store(1)
	}
	for i, name := range o.Trainable {
		e.size += o.Weights.Get(name).Size()
		if i == 0 {
			e.first = e.size
		}
	}
	e.spare.size = e.size
	base := o.base
	if base == nil {
		var err error
		if base, err = nn.NewBase(backend, o.Weights, o.Trainable, o.Base); err != nil {
			return nil, err
		}
		defer base.Close() // The program holds it.
	}
	program, err := nn.NewProgram(backend, nn.ProgramOptions{
		NN: o.NN, Weights: o.Weights, Trainable: o.Trainable, Base: base, ManyCalls: true, Trim: devices.TrimMemory,
		Build: func(s *nn.Scope, trainable, inputs []*graph.Node) []*graph.Node {
			mask, inputs := inputs[0], inputs[1:]
			var keep *graph.Node
			var before []*graph.Node
			if o.Method == PerExampleLoop {
				keep, inputs = inputs[0], inputs[1:]
				before, inputs = inputs[:len(trainable)], inputs[len(trainable):]
			}
			losses := o.Loss(s, inputs)
			losses.AssertDims(mask.Shape().Dimensions[0])
			if err := nn.CheckCovered(s.Tape(), o.Trainable); err != nil {
				panic(err)
			}
			if o.Method == PerExampleLoop {
				return oneExample(s, trainable, before, keep, losses, mask, o.ClippingNorm, o.wrong)
			}
			return bookKeeping(s, o.Trainable, losses, mask, o.ClippingNorm, o.rule, o.wrong)
		},
	})
	if err != nil {
		return nil, err
	}
	e.program = program
	return e, nil
}

// Fetch returns the inputs of a physical batch for the given positions of the
// logical batch, padded to size examples with any finite values. It is called
// by several goroutines, and for one position must always return the same.
type Fetch func(positions []int, size int) ([]*tensors.Tensor, error)

// Stats of a clipped sum. They are computed from private data and not noised:
// they may be kept in a run's private folder only.
type Stats struct {
	Examples  int     // Drawn into the logical batch.
	Clipped   int     // Norm above the clipping norm.
	NonFinite int     // Gradient not finite: contributed zero.
	NormSum   float64 // Of the finite norms.
}

// Method returns how gradients are clipped.
func (e *Engine) Method() Method { return e.method }

// PhysicalBatchSize returns the examples per call, fewer than were asked for once
// memory has run out.
func (e *Engine) PhysicalBatchSize() int { return int(e.examples.Load()) }

// Prepare compiles the engine by running it on an empty batch, for which fetch
// is called without positions: it reads no example. It returns an error if a
// trainable parameter has no per-example gradient rule, if the model lacks one,
// or if a parameter is used twice.
func (e *Engine) Prepare(trainable []float32, fetch Fetch) error {
	vector, err := e.program.Vector(trainable)
	if err != nil {
		return err
	}
	defer func() { _ = vector.FinalizeAll() }()
	p, err := e.part(vector, nil, 1, fetch)
	e.spare.give(p)
	return err
}

// Pace measures how long an example takes, in seconds, with all workers busy
// on empty batches: it reads no example. Call it after Prepare.
func (e *Engine) Pace(trainable []float32, fetch Fetch) (float64, error) {
	vector, err := e.program.Vector(trainable)
	if err != nil {
		return 0, err
	}
	defer func() { _ = vector.FinalizeAll() }()
	const rounds = 2
	return e.rounds(vector, rounds, func(int) []int { return nil }, fetch)
}

// rounds has every worker compute a part a number of times, the same positions or
// none, and returns the seconds that took for each example.
func (e *Engine) rounds(vector *nn.Vector, n int, positions func(size int) []int, fetch Fetch) (float64, error) {
	size := e.partSize()
	if e.method == PerExampleLoop { // A chain as long as about half a second allows.
		start := time.Now()
		p, err := e.part(vector, nil, 1, fetch)
		if err != nil {
			return 0, err
		}
		e.spare.give(p)
		size = max(2, int(min(float64(size), 0.5/time.Since(start).Seconds())))
	}
	errs := make([]error, e.workers)
	start := time.Now()
	var wg sync.WaitGroup
	for w := range e.workers {
		wg.Go(func() {
			for range n {
				p, err := e.part(vector, positions(size), size, fetch)
				if err != nil {
					errs[w] = err
				}
				e.spare.give(p)
			}
		})
	}
	wg.Wait()
	return time.Since(start).Seconds() / float64(n*e.workers*size), errors.Join(errs...)
}

// Sum returns the clipped sum over a logical batch of n examples at the
// trainable vector. n may be zero: the sum of no examples is zero, and is
// released with noise as any other.
func (e *Engine) Sum(ctx context.Context, trainable []float32, n int, fetch Fetch) (*Sum, Stats, error) {
	switch {
	case e.size >= largeVector:
		debug.FreeOSMemory() // What the last step left is gigabytes.
		defer e.spare.drop()
	case time.Duration(e.took.Load()) >= longStep:
		runtime.GC() // What the last step left, this one can take again.
	}
	start := time.Now()
	defer func() { e.took.Store(int64(time.Since(start))) }()
	sum := newSum(e.size, e.clip)
	sum.wrong, sum.first, sum.examples = e.wrong, e.first, n
	stats := Stats{Examples: n}
	vector, err := e.program.Vector(trainable)
	if err != nil {
		return nil, stats, err
	}
	defer func() { _ = vector.FinalizeAll() }()

	e.makeRoom()
	size := e.partSize()
	if e.method == PerExampleLoop { // A few examples are for all workers.
		size = max(1, min(size, (n+e.workers-1)/e.workers))
	}
	batches := (n + size - 1) / size
	parts := fold{sum: sum, stats: &stats, early: map[int]*part{}, spare: &e.spare, window: make(chan struct{}, 2*e.workers)}
	work := make(chan int)
	failed := make(chan error, e.workers)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for range e.workers {
		wg.Go(func() {
			for b := range work {
				positions := make([]int, 0, size)
				for i := b * size; i < min(n, (b+1)*size); i++ {
					positions = append(positions, i)
				}
				p, err := e.part(vector, positions, len(positions), fetch)
				if err != nil {
					failed <- err
					cancel()
					return
				}
				parts.add(b, p)
			}
		})
	}
feed:
	for b := range batches {
		select {
		case parts.window <- struct{}{}:
		case <-ctx.Done():
			break feed
		}
		select {
		case work <- b:
		case <-ctx.Done():
			break feed
		}
	}
	close(work)
	wg.Wait()
	select {
	case err := <-failed:
		return nil, stats, err
	default:
	}
	if err := ctx.Err(); err != nil {
		return nil, stats, err
	}
	return sum, stats, nil
}

// fold adds parts in the order of the logical batch, so that the sum does not
// depend on timing, and keeps only those that are early, which the window bounds:
// memory does not grow with the number of parts.
type fold struct {
	mu    sync.Mutex
	sum   *Sum
	stats *Stats
	next  int
	early map[int]*part
	spare *buffers

	window chan struct{} // Holds one for each part that is begun and not added.
}

func (f *fold) add(at int, p *part) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.early[at] = p
	for p := f.early[f.next]; p != nil; p = f.early[f.next] {
		delete(f.early, f.next)
		f.next++
		f.sum.add(p.sum)
		f.stats.Clipped += p.stats.Clipped
		f.stats.NonFinite += p.stats.NonFinite
		f.stats.NormSum += p.stats.NormSum
		f.spare.give(p)
		<-f.window
	}
}

// Close frees the compiled graphs.
func (e *Engine) Close() { e.program.Close() }

func orInt(v, d int) int {
	if v == 0 {
		return d
	}
	return v
}
