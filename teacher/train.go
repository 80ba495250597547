package teacher

import (
	"context"
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
	"github.com/scumble-dp/scumble/subsample"
)

// Options of Train. All are public.
type Options struct {
	Steps             int     // Required.
	ExpectedBatchSize float64 // Mean logical batch: the divisor of the gradients. Required.
	ClippingNorm      float64 // Required.
	LearningRate      float64 // Of AdamW, on gradients in units of the clipping norm. Required.
	EMA               float64 // Decay per step of the average that is returned. Zero is none.
	Seed              uint64  // Of the weights at the start.

	// Classifier is what is trained: [eval.CNN], or [eval.Scattering], which is linear in features that
	// have no weights and learns more from few noisy steps. Empty means CNN.
	Classifier eval.Classifier

	// Public images, if not nil, are learned first, without noise. They have the private ones'
	// shape and classes.
	Public *dataset.Set

	Lowering nn.Lowering
	Workers  int // Calls to the backend at the same time. Zero means 1.
	Report   func(step, steps int)
	Prepare  func(percent int) // Hears how much of the features of [eval.Scattering] is computed. It gets nothing private.
}

// Validate reports the first option that is out of range, for a public number of
// examples.
func (o Options) Validate(examples int) error {
	switch {
	case examples < 1:
		return fmt.Errorf("examples is %d, want the public number of private images", examples)
	case o.Steps < 1:
		return fmt.Errorf("steps is %d, want at least 1", o.Steps)
	case !(o.ExpectedBatchSize > 0 && o.ExpectedBatchSize <= float64(examples)):
		return fmt.Errorf("expected batch size is %g, want above 0 and at most the %d examples", o.ExpectedBatchSize, examples)
	case !(o.ClippingNorm >= 1e-6 && o.ClippingNorm <= 1e6):
		return fmt.Errorf("clipping norm is %g, want 1e-6 to 1e6", o.ClippingNorm)
	case !(o.LearningRate > 0 && o.LearningRate < 1e3):
		return fmt.Errorf("learning rate is %g, want positive and below 1e3", o.LearningRate)
	case !(o.EMA >= 0 && o.EMA < 1):
		return fmt.Errorf("EMA decay is %g, want in [0, 1)", o.EMA)
	case o.Classifier != "" && o.Classifier != eval.CNN && o.Classifier != eval.Scattering:
		return fmt.Errorf("classifier is %q, want %s or %s", o.Classifier, eval.CNN, eval.Scattering)
	}
	return nil
}

// Mechanism is what makes the training private, chosen by whoever accounts for it.
type Mechanism struct {
	NoiseMultiplier float64
	Noise           *dpsgd.Noise
	Sampler         *subsample.Poisson // Over the private images, with probability ExpectedBatchSize / public number of examples.
	Record          func() error       // Charges one step. It is called before that step's noise exists.
}

// Train trains a classifier of package eval on labelled private images.
//
// Guarantee: see the package comment. An image adds one gradient of norm at most the
// clipping norm to the sum of a step it is drawn for; the sum is divided by public numbers.
func Train(ctx context.Context, backend compute.Backend, private *dataset.Set, m Mechanism, o Options) (*eval.Untrained, error) {
	net, err := eval.NewUntrained(backend, private, eval.ClassifierOptions{Kind: o.Classifier, Seed: o.Seed, Lowering: o.Lowering})
	if err != nil {
		return nil, err
	}
	if o.Public != nil {
		if err := net.Fit(ctx, o.Public, publicSteps(o.Public.Len()), o.Workers); err != nil {
			return nil, fmt.Errorf("public images of the teacher: %w", err)
		}
	}
	examples, err := net.Examples(ctx, private, o.Workers, o.Prepare)
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
	vector := weights.Flatten(weights.Names())
	adam, average := optim.AdamW{LearningRate: o.LearningRate, Beta2: 0.99}, optim.EMA{Decay: o.EMA}
	for step := range o.Steps {
		batch := m.Sampler.Draw()
		sum, _, err := engine.Sum(ctx, vector, len(batch), func(positions []int, size int) ([]*tensors.Tensor, error) {
			images := make([]int, len(positions))
			for k, p := range positions {
				images[k] = batch[p]
			}
			return examples.Batch(images, size), nil
		})
		if err != nil {
			return nil, err
		}
		gradient, err := sum.Release(m.Noise, m.NoiseMultiplier, m.Record)
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
	return net, nil
}

// publicSteps is the number of updates on public images, 64 each: thirty passes, as many
// as the classifier takes by default at most.
func publicSteps(images int) int { return min(max(images*30/64, 1), 1200) }
