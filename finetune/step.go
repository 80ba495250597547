package finetune

import (
	"context"

	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/optim"
	"github.com/scumble-dp/scumble/subsample"
)

// steps makes noisy steps: all that a step's guarantee rests on meets in
// gradient, which runs and audits share.
type steps struct {
	trainer   *trainer
	mechanism dpsgd.Mechanism
	training  Training
	noise     *dpsgd.Noise
	sampler   *subsample.Poisson
	adam      optim.AdamW
	state     *state
	wrong     mistake // Tests inject one.
}

// gradient draws a batch, sums its clipped gradients, has the step recorded and
// returns the noised sum, divided by the public batch size and in units of the
// clipping norm, so that Adam's epsilon is relative to it.
func (p *steps) gradient(ctx context.Context, record func() error) ([]float64, error) {
	t, m := p.trainer, p.mechanism
	batch := p.wrong.batch(p.sampler.Draw())
	fetch := t.draws.fetch(p.state.Step, batch)
	if t.canaries != nil {
		fetch = t.canaries.join(fetch, batch)
	}
	sum, private, err := t.engine.Sum(ctx, p.state.Vector, len(batch), fetch)
	if err != nil {
		return nil, err
	}
	noised, err := sum.Release(p.noise, m.NoiseMultiplier, p.wrong.recorder(p.state.Step, record))
	if err != nil {
		return nil, err
	}
	divisor := p.wrong.divisor(m.ExpectedBatchSize, private)
	for i := range noised {
		noised[i] /= divisor * m.ClippingNorm
	}
	return noised, nil
}

// update moves the weights along a noised gradient.
func (p *steps) update(noised []float64) error {
	s := p.state
	if err := p.adam.Update(s.Vector, noised, p.training.Schedule.Factor(s.Step, p.mechanism.Steps, p.training.Warmup)); err != nil {
		return err
	}
	s.EMA.Update(s.Vector)
	s.Step++
	return nil
}
