package optim

import (
	"context"
	"fmt"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/nn"
)

// TrainerOptions of NewTrainer.
type TrainerOptions struct {
	NN        nn.Options
	Weights   *nn.Weights
	Trainable []string

	// Loss builds the loss of each example, [examples].
	Loss func(s *nn.Scope, inputs []*graph.Node) *graph.Node

	ShardSize int // Examples per call. Required.
	Workers   int // Calls at the same time. Zero means 1.

	Adam     AdamW
	EMADecay float64
	// ClipNorm bounds the norm of the mean gradient, against early blow-ups;
	// zero is none. It has nothing to do with privacy.
	ClipNorm float64
}

// Trainer is ordinary training, without privacy: public data, and classifiers
// on synthetic images.
type Trainer struct {
	options TrainerOptions
	program *nn.Program
	vector  []float32
	ema     EMA
}

// NewTrainer prepares training from the weights' present values.
func NewTrainer(backend compute.Backend, o TrainerOptions) (*Trainer, error) {
	if o.ShardSize <= 0 {
		return nil, fmt.Errorf("shard size is %d, want at least 1", o.ShardSize)
	}
	if o.Workers == 0 {
		o.Workers = 1
	}
	program, err := nn.NewProgram(backend, nn.ProgramOptions{
		NN: o.NN, Weights: o.Weights, Trainable: o.Trainable, ManyCalls: true,
		Build: func(s *nn.Scope, trainable, inputs []*graph.Node) []*graph.Node {
			loss := graph.ReduceAllSum(o.Loss(s, inputs))
			gradients := graph.Gradient(loss, trainable...)
			flat := make([]*graph.Node, len(gradients))
			for i, g := range gradients {
				flat[i] = graph.Reshape(g, -1)
			}
			return []*graph.Node{graph.Concatenate(flat, 0), loss}
		},
	})
	if err != nil {
		return nil, err
	}
	t := &Trainer{options: o, program: program, vector: o.Weights.Flatten(o.Trainable)}
	t.ema.Decay = o.EMADecay
	return t, nil
}

// Step makes one update from n examples, a multiple of the shard size, and
// returns their mean loss. fetch returns the inputs for the positions of a
// shard; several goroutines call it.
func (t *Trainer) Step(ctx context.Context, n int, factor float64, fetch func(positions []int) ([]*tensors.Tensor, error)) (float64, error) {
	size := t.options.ShardSize
	if n%size != 0 {
		return 0, fmt.Errorf("batch of %d is not a multiple of the shard size %d", n, size)
	}
	vector, err := t.program.Vector(t.vector)
	if err != nil {
		return 0, err
	}
	defer func() { _ = vector.FinalizeAll() }()
	parts := fold{gradient: make([]float64, len(t.vector)), examples: float64(n), early: map[int]*shard{}}
	limit := make(chan struct{}, t.options.Workers)
	parts.window = make(chan struct{}, 2*t.options.Workers)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for b := range n / size {
		select {
		case parts.window <- struct{}{}:
		case <-ctx.Done():
		}
		limit <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-limit }()
			p, err := t.shard(vector, b, fetch)
			if err != nil {
				cancel(err)
				return
			}
			parts.add(b, p)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	gradient, loss := parts.gradient, parts.loss
	if loss-loss != 0 {
		return loss, fmt.Errorf("training loss is %g; lower the learning rate", loss)
	}
	clip(gradient, t.options.ClipNorm)
	if err := t.options.Adam.Update(t.vector, gradient, factor); err != nil {
		return loss, err
	}
	t.ema.Update(t.vector)
	return loss, nil
}

// shard is what one call gives.
type shard struct {
	sum  []float32 // Of the gradients.
	loss float64   // Sum of the losses.
}

// fold adds shards in the order of the batch, so that the mean gradient does
// not depend on timing, and keeps only those that are early, which the window
// bounds: memory does not grow with the number of shards.
type fold struct {
	mu       sync.Mutex
	gradient []float64 // Mean so far.
	loss     float64
	examples float64
	next     int
	early    map[int]*shard
	window   chan struct{} // Holds one for each shard that is begun and not added.
}

func (f *fold) add(at int, p *shard) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.early[at] = p
	for p := f.early[f.next]; p != nil; p = f.early[f.next] {
		delete(f.early, f.next)
		f.next++
		for i, v := range p.sum {
			f.gradient[i] += float64(v) / f.examples
		}
		f.loss += p.loss / f.examples
		<-f.window
	}
}

func (t *Trainer) shard(vector *nn.Vector, b int, fetch func([]int) ([]*tensors.Tensor, error)) (*shard, error) {
	positions := make([]int, t.options.ShardSize)
	for i := range positions {
		positions[i] = b*t.options.ShardSize + i
	}
	inputs, err := fetch(positions)
	if err != nil {
		return nil, err
	}
	outputs, err := t.program.Run(vector, inputs...)
	if err != nil {
		return nil, err
	}
	sum, err := tensors.CopyFlatData[float32](outputs[0])
	if err != nil {
		return nil, err
	}
	loss := tensors.ToScalar[float32](outputs[1])
	for _, x := range append(outputs, inputs...) {
		_ = x.FinalizeAll()
	}
	return &shard{sum, float64(loss)}, nil
}

// TrainerState is what training goes on from.
type TrainerState struct {
	Vector []float32
	Adam   AdamState
	EMA    EMA
}

// State returns the state after the last whole step. It shares memory with the
// trainer, so it is to be written before the next step.
func (t *Trainer) State() TrainerState { return TrainerState{t.vector, t.options.Adam.State, t.ema} }

// Restore goes on from a state of a trainer with the same options, which it takes over.
func (t *Trainer) Restore(s TrainerState) error {
	n := len(t.vector)
	for what, have := range map[string]int{"weights": len(s.Vector), "first moments": len(s.Adam.First), "second moments": len(s.Adam.Second), "averages": len(s.EMA.Values)} {
		if have != n && !(have == 0 && s.Adam.Step == 0 && what != "weights") {
			return fmt.Errorf("training state has %d %s, want %d", have, what, n)
		}
	}
	s.EMA.Decay = t.options.EMADecay
	t.vector, t.options.Adam.State, t.ema = s.Vector, s.Adam, s.EMA
	return nil
}

// Finish writes the averaged weights (the latest ones when there is no
// averaging) back into the weights given to NewTrainer.
func (t *Trainer) Finish() {
	vector := t.vector
	if t.options.EMADecay > 0 && t.ema.Step > 0 {
		vector = t.ema.Weights()
	}
	t.options.Weights.SetFlat(t.options.Trainable, vector)
}

// Close frees the compiled graphs.
func (t *Trainer) Close() { t.program.Close() }

func clip(gradient []float64, bound float64) {
	if bound <= 0 {
		return
	}
	norm := Norm(gradient)
	if norm <= bound {
		return
	}
	for i := range gradient {
		gradient[i] *= bound / norm
	}
}
