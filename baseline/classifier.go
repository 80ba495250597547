package baseline

import (
	"context"
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
	"github.com/scumble-dp/scumble/subsample"
)

// ClassifierOptions of TrainClassifier. All are public.
type ClassifierOptions struct {
	Examples          int     // Public number of private images. Required.
	Steps             int     // Required.
	ExpectedBatchSize float64 // Required, at most Examples.
	ClippingNorm      float64 // Required.
	LearningRate      float64 // Of AdamW, on gradients in units of the clipping norm. Required.
	EMA               float64 // Decay per step of the average that is scored. Zero is none.
	Seed              uint64  // Of the weights at the start.

	Lowering nn.Lowering
	Workers  int // Calls to the backend at the same time. Zero means 1.
	Report   func(step, steps int)
}

func (o ClassifierOptions) validate() error {
	switch {
	case o.Examples < 1:
		return fmt.Errorf("examples is %d, want the public number of private images", o.Examples)
	case o.Steps < 1:
		return fmt.Errorf("steps is %d, want at least 1", o.Steps)
	case !(o.ExpectedBatchSize > 0 && o.ExpectedBatchSize <= float64(o.Examples)):
		return fmt.Errorf("expected batch size is %g, want above 0 and at most the %d examples", o.ExpectedBatchSize, o.Examples)
	case !(o.LearningRate > 0 && o.LearningRate < 1e3):
		return fmt.Errorf("learning rate is %g, want positive", o.LearningRate)
	case !(o.EMA >= 0 && o.EMA < 1):
		return fmt.Errorf("EMA decay is %g, want in [0, 1)", o.EMA)
	}
	return nil
}

// TrainClassifier trains the small convolutional classifier of package eval on the
// private images by DP-SGD, and returns it. Close it after use.
//
// Guarantee: see the package comment. The classifier may be shown; its accuracy on
// other private images is a query of those.
func TrainClassifier(ctx context.Context, backend compute.Backend, private *dataset.Set, b Budget, o ClassifierOptions) (*eval.Predictor, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	net, err := eval.NewUntrained(backend, private, eval.ClassifierOptions{Seed: o.Seed, Lowering: o.Lowering})
	if err != nil {
		return nil, err
	}
	weights := net.Weights()
	engine, err := dpsgd.NewEngine(backend, dpsgd.EngineOptions{Method: dpsgd.BookKeeping, ClippingNorm: o.ClippingNorm,
		NN: nn.Options{Lowering: o.Lowering}, Weights: weights, Trainable: weights.Names(), Loss: net.Losses, PhysicalBatchSize: 128, Workers: o.Workers})
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	probability := o.ExpectedBatchSize / float64(o.Examples)
	noiseMultiplier, record, err := b.spend(accountant.DPSGD(0, probability, o.Steps), "baseline: a classifier by DP-SGD")
	if err != nil {
		return nil, err
	}
	noise, err := dpsgd.NewNoise()
	if err != nil {
		return nil, err
	}
	sampler, err := subsample.NewPoisson(private.Len(), probability)
	if err != nil {
		return nil, err
	}
	vector := weights.Flatten(weights.Names())
	adam, average := optim.AdamW{LearningRate: o.LearningRate, Beta2: 0.99}, optim.EMA{Decay: o.EMA}
	for step := range o.Steps {
		batch := sampler.Draw()
		sum, _, err := engine.Sum(ctx, vector, len(batch), func(positions []int, size int) ([]*tensors.Tensor, error) {
			return inputs(private, batch, positions, size), nil
		})
		if err != nil {
			return nil, err
		}
		gradient, err := sum.Release(noise, noiseMultiplier, record)
		if err != nil {
			return nil, err
		}
		for i := range gradient {
			gradient[i] /= o.ExpectedBatchSize * o.ClippingNorm
		}
		if err := adam.Update(vector, gradient, optim.Cosine.Factor(step, o.Steps, 0)); err != nil {
			return nil, err
		}
		average.Update(vector)
		if o.Report != nil {
			o.Report(step+1, o.Steps)
		}
	}
	if o.EMA > 0 {
		vector = average.Weights()
	}
	weights.SetFlat(weights.Names(), vector)
	return net.Predictor()
}

// inputs are the pixels and labels of a physical batch, filled up with grey.
func inputs(set *dataset.Set, batch, positions []int, size int) []*tensors.Tensor {
	pixels := make([]float32, size*set.ImageSize())
	labels := make([]int32, size)
	for k, p := range positions {
		i := batch[p]
		for j, b := range set.Image(i) {
			pixels[k*set.ImageSize()+j] = float32(b)/127.5 - 1
		}
		labels[k] = int32(set.Labels[i])
	}
	return []*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(pixels, size, set.Height, set.Width, set.Channels),
		tensors.FromFlatDataAndDimensions(labels, size),
	}
}
