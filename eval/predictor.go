package eval

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
)

// Predictor is a classifier that was trained. Close it after use.
type Predictor struct {
	train   *dataset.Set
	predict func(ctx context.Context, test *dataset.Set) ([]int, error)
	close   func()
}

// Predict returns the label that the classifier gives to each image.
func (p *Predictor) Predict(ctx context.Context, test *dataset.Set) ([]int, error) {
	if test.Len() == 0 {
		return nil, errors.New("classifier has no image to label, want at least one")
	}
	if err := checkKind(p.train, test); err != nil {
		return nil, err
	}
	return p.predict(ctx, test)
}

// Score is Predict, counted.
func (p *Predictor) Score(ctx context.Context, test *dataset.Set) (Score, error) {
	predicted, err := p.Predict(ctx, test)
	if err != nil {
		return Score{}, err
	}
	return scoreOf(predicted, test), nil
}

// Close frees the compiled network.
func (p *Predictor) Close() {
	if p.close != nil {
		p.close()
	}
}

// TrainClassifier trains a classifier of a kind on labelled images.
func TrainClassifier(ctx context.Context, backend compute.Backend, kind Classifier, train *dataset.Set, o ClassifierOptions) (*Predictor, error) {
	if err := checkTraining(train); err != nil {
		return nil, err
	}
	if !kind.Trained() {
		return &Predictor{train: train, predict: func(ctx context.Context, test *dataset.Set) ([]int, error) {
			return predictBaseline(ctx, kind, train, test)
		}}, nil
	}
	o.Kind = kind
	n, err := newNetwork(backend, kind, train, o)
	if err != nil {
		return nil, err
	}
	if err := n.fit(ctx, n.usual(kind)); err != nil {
		return nil, err
	}
	return n.predictor()
}

// usual is the training of a kind of classifier on the images of the network's set.
func (n *network) usual(kind Classifier) lesson {
	o, train := n.options, n.train
	steps, batch, rate := orInt(o.Steps, kind.steps()), orInt(o.BatchSize, 64), o.LearningRate
	if rate == 0 {
		rate = 2e-3
	}
	return lesson{
		steps: steps, batch: batch, smoothing: 0.05, ema: 0.99, clip: 5,
		adam:   optim.AdamW{LearningRate: rate, WeightDecay: 1e-2},
		factor: func(step int) float64 { return optim.Cosine.Factor(step, steps, 20) },
		example: func(dst []float32, step, position int) ([]float32, int) {
			rng := rand.New(rand.NewPCG(o.Seed+2, uint64(step*batch+position)))
			i := rng.IntN(train.Len())
			return augment(dst, train, i, rng), i
		},
	}
}

// network is a classifier that is trained by gradients.
type network struct {
	kind    Classifier
	backend compute.Backend
	options ClassifierOptions
	train   *dataset.Set
	weights *nn.Weights
	build   func(s *nn.Scope, x *graph.Node) *graph.Node
}

// newNetwork draws the weights of a network for the images of a set.
func newNetwork(backend compute.Backend, kind Classifier, train *dataset.Set, o ClassifierOptions) (*network, error) {
	geometry, err := kind.geometry(o.Geometry)
	if err != nil {
		return nil, err
	}
	if err := kind.Takes(train.Height, train.Width); err != nil {
		return nil, err
	}
	classes := len(train.Classes)
	n := &network{kind: kind, backend: backend, options: o, train: train,
		build: func(s *nn.Scope, x *graph.Node) *graph.Node { return kind.network(s, x, classes, geometry) }}
	specs, err := nn.Collect(backend, nn.Options{Lowering: o.Lowering}, func(s *nn.Scope) {
		n.build(s, graph.Zeros(s.Graph(), shapes.Make(dtypes.Float32, 1, train.Height, train.Width, train.Channels)))
	})
	if err != nil {
		return nil, err
	}
	n.weights = nn.InitWeights(specs, rand.New(rand.NewPCG(o.Seed, 1)))
	return n, nil
}

// lesson is how a network is trained.
type lesson struct {
	steps, batch  int
	smoothing     float64 // Share of a label that goes to all classes.
	ema, clip     float64
	adam          optim.AdamW
	factor        func(step int) float64 // Of the learning rate.
	example       func(dst []float32, step, position int) (pixels []float32, index int)
	epoch         int                               // Steps between two calls of after. Zero means never.
	after         func(epoch int, p *network) error // Sees the averaged weights.
	shardExamples int                               // Examples per call, at most. Zero means a worker's share.
}

// fit trains the network. Its weights are then the averaged ones.
func (n *network) fit(ctx context.Context, l lesson) error {
	o, train, classes := n.options, n.train, len(n.train.Classes)
	workers := max(1, o.Workers)
	shard := l.batch
	if l.batch%workers == 0 {
		shard = l.batch / workers
	}
	for l.shardExamples > 0 && shard > l.shardExamples && shard%2 == 0 {
		shard /= 2
	}
	trainer, err := optim.NewTrainer(n.backend, optim.TrainerOptions{
		NN: nn.Options{Lowering: o.Lowering}, Weights: n.weights, Trainable: n.weights.Names(),
		Loss: func(s *nn.Scope, in []*graph.Node) *graph.Node {
			target := graph.OneHot(in[1], classes, dtypes.Float32)
			target = graph.AddScalar(graph.MulScalar(target, 1-l.smoothing), l.smoothing/float64(classes))
			return graph.Neg(graph.ReduceSum(graph.Mul(target, graph.LogSoftmax(n.build(s, in[0]))), -1))
		},
		ShardSize: shard, Workers: workers, EMADecay: l.ema, ClipNorm: l.clip, Adam: l.adam,
	})
	if err != nil {
		return err
	}
	defer trainer.Close()
	for step := range l.steps {
		_, err := trainer.Step(ctx, l.batch, l.factor(step), func(positions []int) ([]*tensors.Tensor, error) {
			pixels := make([]float32, 0, len(positions)*train.ImageSize())
			labels := make([]int32, len(positions))
			for k, p := range positions {
				var i int
				pixels, i = l.example(pixels, step, p)
				labels[k] = int32(train.Labels[i])
			}
			return []*tensors.Tensor{
				tensors.FromFlatDataAndDimensions(pixels, len(positions), train.Height, train.Width, train.Channels),
				tensors.FromFlatDataAndDimensions(labels, len(positions)),
			}, nil
		})
		if err != nil {
			return fmt.Errorf("classifier step %d: %w", step+1, err)
		}
		if o.Report != nil {
			o.Report(step+1, l.steps)
		}
		if l.epoch > 0 && (step+1)%l.epoch == 0 {
			trainer.Finish()
			if err := l.after((step+1)/l.epoch, n); err != nil {
				return err
			}
		}
	}
	trainer.Finish()
	return nil
}

// predictor compiles the network with its weights as they are now.
func (n *network) predictor() (*Predictor, error) {
	program, err := nn.NewProgram(n.backend, nn.ProgramOptions{NN: nn.Options{Lowering: n.options.Lowering}, Weights: n.weights,
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node { return []*graph.Node{n.build(s, in[0])} }})
	if err != nil {
		return nil, err
	}
	classes := len(n.train.Classes)
	return &Predictor{train: n.train, close: program.Close, predict: func(ctx context.Context, test *dataset.Set) ([]int, error) {
		batch := min(64, test.Len())
		predicted := make([]int, 0, test.Len())
		for at := 0; at < test.Len(); at += batch {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			count := min(batch, test.Len()-at)
			pixels := make([]float32, 0, batch*test.ImageSize())
			for i := range count {
				pixels = plainPixels(pixels, test, at+i)
			}
			pixels = pixels[:cap(pixels)] // The last batch is filled up with grey.
			out, err := program.Run(nil, tensors.FromFlatDataAndDimensions(pixels, batch, test.Height, test.Width, test.Channels))
			if err != nil {
				return nil, err
			}
			logits, err := tensors.CopyFlatData[float32](out[0])
			if err != nil {
				return nil, err
			}
			for k := range count {
				predicted = append(predicted, largest(logits[k*classes:(k+1)*classes]))
			}
		}
		return predicted, nil
	}}, nil
}

// plainPixels appends image i as values in [-1, 1].
func plainPixels(dst []float32, set *dataset.Set, i int) []float32 {
	for _, b := range set.Image(i) {
		dst = append(dst, float32(b)/127.5-1)
	}
	return dst
}

// largest returns the index of the largest value, the first among equals.
func largest(values []float32) int {
	best := 0
	for i, v := range values {
		if v > values[best] {
			best = i
		}
	}
	return best
}
