package baseline

import (
	"context"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/subsample"
	"github.com/scumble-dp/scumble/teacher"
)

// ClassifierOptions of TrainClassifier. All are public.
type ClassifierOptions struct {
	Examples          int             // Public number of private images. Required.
	Steps             int             // Required.
	ExpectedBatchSize float64         // Required, at most Examples.
	ClippingNorm      float64         // Required.
	LearningRate      float64         // Of AdamW, on gradients in units of the clipping norm. Required.
	EMA               float64         // Decay per step of the average that is scored. Zero is none.
	Seed              uint64          // Of the weights at the start.
	Classifier        eval.Classifier // What is trained: see [teacher.Options]. Empty means [eval.CNN].

	Lowering nn.Lowering
	Workers  int // Calls to the backend at the same time. Zero means 1.
	Report   func(step, steps int)
	Prepare  func(percent int) // As [teacher.Options] has it.
}

func (o ClassifierOptions) teacher() teacher.Options {
	return teacher.Options{Steps: o.Steps, ExpectedBatchSize: o.ExpectedBatchSize, ClippingNorm: o.ClippingNorm, LearningRate: o.LearningRate,
		EMA: o.EMA, Seed: o.Seed, Classifier: o.Classifier, Lowering: o.Lowering, Workers: o.Workers, Report: o.Report, Prepare: o.Prepare}
}

// TrainClassifier trains a classifier of package eval on the private images by DP-SGD, and returns it. Close it after use.
//
// Guarantee: see the package comment. The classifier may be shown; its accuracy on
// other private images is a query of those.
func TrainClassifier(ctx context.Context, backend compute.Backend, private *dataset.Set, b Budget, o ClassifierOptions) (*eval.Predictor, error) {
	if err := o.teacher().Validate(o.Examples); err != nil {
		return nil, err
	}
	if err := o.Classifier.Takes(private.Height, private.Width); err != nil {
		return nil, err
	}
	probability := o.ExpectedBatchSize / float64(o.Examples)
	noise, err := dpsgd.NewNoise()
	if err != nil {
		return nil, err
	}
	sampler, err := subsample.NewPoisson(private.Len(), probability)
	if err != nil {
		return nil, err
	}
	noiseMultiplier, record, err := b.spend(accountant.DPSGD(0, probability, o.Steps), "baseline: a classifier by DP-SGD")
	if err != nil {
		return nil, err
	}
	net, err := teacher.Train(ctx, backend, private, teacher.Mechanism{NoiseMultiplier: noiseMultiplier, Noise: noise, Sampler: sampler, Record: record}, o.teacher())
	if err != nil {
		return nil, err
	}
	return net.Predictor()
}
