package finetune

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
	"github.com/scumble-dp/scumble/pipeline"
)

// warmUp trains what the run trains on images that the claim covers already, as
// public images are trained on: no clipping, no noise, nothing in the ledger. Its
// random numbers need no secret.
func (r *run) warmUp(ctx context.Context, backend compute.Backend, t *target, canvas pipeline.Canvas, w WarmStart, m *meanImages, o Options) error {
	schedule, err := diffusion.NewSchedule(t.model.Scheduler)
	if err != nil {
		return err
	}
	training := r.config.Training
	training.Multiplicity = 1
	if w.NoiseAware { // Shifted edges would repeat noise.
		training.Augment = Augment{}
	}
	d, err := newDraws(t.model, canvas, schedule, training, 1)
	if err != nil {
		return err
	}
	first, deviation := int(w.MinTimestep*float64(schedule.Steps())), 0.0
	if w.NoiseAware {
		deviation = w.deviation(r.plan.query(meansRun), r.config.Data.Examples, m.classes)
		if first, err = aboveNoise(t.model, canvas, schedule, deviation, max(first, 0), d.timesteps.limit); err != nil {
			return err
		}
	}
	if first > 0 {
		if d.timesteps, err = d.timesteps.above(first); err != nil {
			return err
		}
	}
	images := m.images(r.plan.Size, r.plan.Classes)
	if w.NoiseAware { // Not cut to what a byte holds.
		d.grids = canvas.ToGrid(m.values, t.model.PixelUnshuffle)
	} else if d.grids, err = encode(ctx, backend, t.model, canvas, images, training.Augment, o); err != nil {
		return err
	}
	d.byPlace, d.known, d.schedule = true, deviation, schedule
	d.told = labels{images.Labels, t.model.NullClass()}
	loss, err := t.loss(schedule, d, training)
	if err != nil {
		return err
	}
	shard := 16
	for w.BatchSize%shard != 0 {
		shard--
	}
	trainer, err := optim.NewTrainer(backend, optim.TrainerOptions{
		NN: nn.Options{Lowering: o.Lowering, Compute: training.Compute, Recompute: training.Recompute, Adapter: t.adapter}, Weights: t.weights(), Trainable: t.trainable, Loss: loss,
		ShardSize: shard, Workers: o.Workers, ClipNorm: 1,
		Adam: optim.AdamW{LearningRate: w.LearningRate, Beta2: 0.99},
	})
	if err != nil {
		return err
	}
	defer trainer.Close()
	rng := rand.New(rand.NewPCG(1, 4))
	for step := range w.Steps {
		batch := make([]int, w.BatchSize)
		for i := range batch {
			batch[i] = rng.IntN(images.Len())
		}
		fetch := func(positions []int) ([]*tensors.Tensor, error) {
			return d.fetch(step, batch)(positions, len(positions))
		}
		if _, err := trainer.Step(ctx, w.BatchSize, optim.Cosine.Factor(step, w.Steps, 0), fetch); err != nil {
			return err
		}
	}
	trainer.Finish()
	return nil
}

// aboveNoise returns the first timestep from first on at which at most half of the
// variance of the noise is that of the means.
func aboveNoise(m *checkpoint.Model, canvas pipeline.Canvas, schedule *diffusion.Schedule, deviation float64, first, limit int) (int, error) {
	if m.Autoencoder != nil {
		return 0, fmt.Errorf("%w: noise_aware needs a pixel model: an autoencoder does to noise what nobody can take off", ErrConfig)
	}
	if canvas.Padded != canvas.Image {
		return 0, fmt.Errorf("%w: noise_aware needs images of a size that the base model does not pad, %d is padded to %d", ErrConfig, canvas.Image, canvas.Padded)
	}
	for first < limit && logSigma(schedule, first) < math.Log(deviation)+math.Ln2/2 {
		first++
	}
	if first >= limit {
		return 0, fmt.Errorf("%w: noise_aware: the means have noise of deviation %.3g, above that of every timestep: take more images to a mean, or less noise", ErrConfig, deviation)
	}
	return first, nil
}

// aware writes a clean image and a noise such that √ᾱ_t·clean + √(1-ᾱ_t)·noise is a
// draw x_t from the forward process on the image without the known noise, and the
// expectation of noise given x_t is that of the true one: what the network
// should learn (denoising score matching from y to x_t; Vincent 2011, and Daras et al.
// 2024, https://arxiv.org/abs/2404.10177, for noisy data).
//
// With y = x_0 + τ·e known, x_t = a·y + s·ε, s² = b² - a²·τ², has the law that it should, and
// the score of x_t given y is -ε/s. So noise = b·ε/s, and clean = (x_t - b·noise)/a.
//
//   - y: the noisy image. known: τ.
//   - a, b: √ᾱ_t and √(1-ᾱ_t), with b > a·τ.
//   - noise holds ε at first.
func aware(clean, noise, y []float32, a, b, known float64) {
	s := math.Sqrt(b*b - a*a*known*known)
	for i, v := range noise {
		clean[i] = float32(float64(y[i]) - a*known*known/s*float64(v))
		noise[i] = float32(b / s * float64(v))
	}
}
