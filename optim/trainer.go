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
		NN: o.NN, Weights: o.Weights, Trainable: o.Trainable,
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
	shards := n / size
	sums := make([][]float32, shards)
	losses := make([]float64, shards)
	errs := make([]error, shards)
	limit := make(chan struct{}, t.options.Workers)
	var wg sync.WaitGroup
	for b := range shards {
		limit <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-limit }()
			sums[b], losses[b], errs[b] = t.shard(vector, b, fetch)
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	gradient := make([]float64, len(t.vector))
	var loss float64
	for b := range shards {
		if errs[b] != nil {
			return 0, errs[b]
		}
		for i, v := range sums[b] {
			gradient[i] += float64(v) / float64(n)
		}
		loss += losses[b] / float64(n)
	}
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

func (t *Trainer) shard(vector *tensors.Tensor, b int, fetch func([]int) ([]*tensors.Tensor, error)) ([]float32, float64, error) {
	positions := make([]int, t.options.ShardSize)
	for i := range positions {
		positions[i] = b*t.options.ShardSize + i
	}
	inputs, err := fetch(positions)
	if err != nil {
		return nil, 0, err
	}
	outputs, err := t.program.Run(vector, inputs...)
	if err != nil {
		return nil, 0, err
	}
	sum, err := tensors.CopyFlatData[float32](outputs[0])
	if err != nil {
		return nil, 0, err
	}
	loss := tensors.ToScalar[float32](outputs[1])
	for _, x := range append(outputs, inputs...) {
		_ = x.FinalizeAll()
	}
	return sum, float64(loss), nil
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
