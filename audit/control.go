package audit

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
	"github.com/scumble-dp/scumble/pipeline"
)

// ControlOptions of TrainControl.
type ControlOptions struct {
	Steps        int     // Updates. Required.
	BatchSize    int     // Images per update; at most half of them at a time are computed. Zero means 32.
	LearningRate float64 // Of AdamW. Zero means 1e-3.

	Lowering nn.Lowering
	Adapter  nn.Adapter // Of the model's weights, if they carry one.
	Workers  int        // Calls to the backend at the same time. Zero means 1.
	Seed     uint64
	Report   func(step, steps int)
}

// TrainControl trains every weight of the model's denoiser on a few images for many
// steps, without clipping and without noise: what comes out remembers the images,
// and an attack that does not see that sees nothing. It changes m.
//
// What it makes of private images is NOT PRIVATE: attack it, and throw it away.
func TrainControl(ctx context.Context, backend compute.Backend, m *checkpoint.Model, images *dataset.Set, o ControlOptions) error {
	if err := classOnly(m); err != nil {
		return err
	}
	if o.BatchSize == 0 {
		o.BatchSize = 32
	}
	if o.LearningRate == 0 {
		o.LearningRate = 1e-3
	}
	switch {
	case o.Steps < 1 || o.BatchSize < 2 || o.BatchSize%2 != 0:
		return fmt.Errorf("control of %d steps with batches of %d, want at least 1 and an even batch", o.Steps, o.BatchSize)
	case images.Len() == 0 || images.Labels == nil:
		return fmt.Errorf("%w: control needs labelled images", dataset.ErrInvalid)
	}
	canvas, err := pipeline.NewCanvas(m, images.Height, images.Channels)
	if err != nil {
		return err
	}
	codec, err := pipeline.NewCodec(backend, o.Lowering, o.Workers, m, canvas)
	if err != nil {
		return err
	}
	grids, err := codec.Encode(ctx, images)
	codec.Close()
	if err != nil {
		return err
	}
	schedule, err := diffusion.NewSchedule(m.Scheduler)
	if err != nil {
		return err
	}
	weights := pipeline.Component(m.Weights, "unet", "class_embedder")
	trainer, err := optim.NewTrainer(backend, optim.TrainerOptions{
		NN: nn.Options{Lowering: o.Lowering, Adapter: o.Adapter}, Weights: weights, Trainable: weights.Names(),
		Loss: func(s *nn.Scope, inputs []*graph.Node) *graph.Node {
			return pipeline.ExampleLoss(m, schedule, s, pipeline.NewLossInputs(inputs))
		},
		ShardSize: o.BatchSize / 2, Workers: o.Workers, ClipNorm: 1,
		Adam: optim.AdamW{LearningRate: o.LearningRate, Beta2: 0.99},
	})
	if err != nil {
		return err
	}
	defer trainer.Close()
	size := canvas.Size()
	for step := range o.Steps {
		if _, err := trainer.Step(ctx, o.BatchSize, optim.Cosine.Factor(step, o.Steps, 0), func(positions []int) ([]*tensors.Tensor, error) {
			n := len(positions)
			rng := rand.New(rand.NewPCG(o.Seed, uint64(step*o.BatchSize+positions[0])))
			clean, noise := make([]float32, n*size), make([]float32, n*size)
			t, class := make([]int32, n), make([]int32, n)
			for i := range n {
				example := rng.IntN(images.Len())
				copy(clean[i*size:], grids[example*size:(example+1)*size])
				t[i], class[i] = int32(rng.IntN(schedule.Steps())), int32(images.Labels[example])
			}
			for i := range noise {
				noise[i] = float32(rng.NormFloat64())
			}
			g := canvas.Grid
			return []*tensors.Tensor{
				tensors.FromFlatDataAndDimensions(clean, n, g, g, canvas.Depth),
				tensors.FromFlatDataAndDimensions(noise, n, g, g, canvas.Depth),
				tensors.FromFlatDataAndDimensions(t, n),
				tensors.FromFlatDataAndDimensions(class, n),
			}, nil
		}); err != nil {
			return err
		}
		if o.Report != nil {
			o.Report(step+1, o.Steps)
		}
	}
	trainer.Finish()
	return nil
}
