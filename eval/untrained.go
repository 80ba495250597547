package eval

import (
	"context"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/nn"
)

// Untrained is the convolutional classifier before its training, for those who
// train it in a way of their own.
type Untrained struct{ network *network }

// NewUntrained draws the weights of a classifier for images like those of a set.
// Of the set it uses the shape and the names of the classes only.
func NewUntrained(backend compute.Backend, like *dataset.Set, o ClassifierOptions) (*Untrained, error) {
	n, err := newNetwork(backend, CNN, like, o)
	if err != nil {
		return nil, err
	}
	return &Untrained{n}, nil
}

// Weights returns the weights, which may be changed until Predictor is called.
func (u *Untrained) Weights() *nn.Weights { return u.network.weights }

// Fit trains it on images as [TrainClassifier] does, without privacy: on public images,
// before another training.
func (u *Untrained) Fit(ctx context.Context, public *dataset.Set, steps, workers int) error {
	if err := checkTraining(public); err != nil {
		return err
	}
	if err := checkKind(u.network.train, public); err != nil {
		return err
	}
	n := *u.network // Its weights are the same.
	n.train, n.options.Steps, n.options.Workers = public, steps, workers
	return n.fit(ctx, n.usual(CNN))
}

// Losses returns the cross-entropy of each example, [examples], from pixels in
// [-1, 1], [examples, height, width, channels], and labels, [examples] int32.
func (u *Untrained) Losses(s *nn.Scope, inputs []*graph.Node) *graph.Node {
	target := graph.OneHot(inputs[1], len(u.network.train.Classes), dtypes.Float32)
	return graph.Neg(graph.ReduceSum(graph.Mul(target, graph.LogSoftmax(u.network.build(s, inputs[0]))), -1))
}

// Predictor compiles the classifier with its weights as they are now.
func (u *Untrained) Predictor() (*Predictor, error) { return u.network.predictor() }
