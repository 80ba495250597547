package eval

import (
	"cmp"
	"context"
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/nn"
)

// Untrained is a classifier before its training, for those who train it in a way of
// their own.
type Untrained struct{ network *network }

// NewUntrained draws the weights of a classifier, [CNN] or [Scattering] as the options say, for
// images like those of a set. Of the set it uses the shape and the names of the classes only.
func NewUntrained(backend compute.Backend, like *dataset.Set, o ClassifierOptions) (*Untrained, error) {
	kind := cmp.Or(o.Kind, CNN)
	if kind != CNN && kind != Scattering {
		return nil, fmt.Errorf("classifier is %q, want %s or %s: %w", kind, CNN, Scattering, ErrInvalid)
	}
	n, err := newNetwork(backend, kind, like, o)
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
	return n.fit(ctx, n.usual(n.kind))
}

// Losses returns the cross-entropy of each example, [examples], from the two tensors of
// [Examples.Batch].
func (u *Untrained) Losses(s *nn.Scope, inputs []*graph.Node) *graph.Node {
	classes := len(u.network.train.Classes)
	if u.network.kind == Scattering {
		return crossEntropy(scatteringHead(s, inputs[0], classes), inputs[1], classes)
	}
	return crossEntropy(u.network.build(s, inputs[0]), inputs[1], classes)
}

// Kind says which classifier it is.
func (u *Untrained) Kind() Classifier { return u.network.kind }

// Predictor compiles the classifier with its weights as they are now.
func (u *Untrained) Predictor() (*Predictor, error) { return u.network.predictor() }

// crossEntropy is that of each example, [examples], labels being int32.
func crossEntropy(logits, labels *graph.Node, classes int) *graph.Node {
	target := graph.OneHot(labels, classes, dtypes.Float32)
	return graph.Neg(graph.ReduceSum(graph.Mul(target, graph.LogSoftmax(logits)), -1))
}
