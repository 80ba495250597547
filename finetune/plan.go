package finetune

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
)

// Plan is what a run will do and cost, computed from public inputs before a
// private image is opened.
type Plan struct {
	Method               Method          `json:"method"`
	Epsilon              float64         `json:"epsilon"` // Of the whole run, at most the one asked for.
	EpsilonRDP           float64         `json:"epsilon_rdp"`
	Delta                float64         `json:"delta"`
	Neighboring          string          `json:"neighboring"`
	Mechanism            dpsgd.Mechanism `json:"mechanism"`
	Multiplicity         int             `json:"multiplicity"`
	Classes              []string        `json:"classes"`
	Size                 int             `json:"size"`
	Channels             int             `json:"channels"`
	TrainableParameters  int             `json:"trainable_parameters"`
	TotalParameters      int             `json:"total_parameters"` // Of the denoiser.
	AttentionModules     []string        `json:"attention_modules,omitempty"`
	ExpectedDrawsPerStep float64         `json:"expected_draws_per_step"`
}

// Event returns the accounting event of the given number of steps.
func (p *Plan) Event(steps int) accountant.Event {
	return accountant.DPSGD(p.Mechanism.NoiseMultiplier, p.Mechanism.SamplingProbability, steps)
}

// Spent returns the claim after a number of steps.
func (p *Plan) Spent(steps int) (accountant.Result, error) {
	if steps == 0 {
		return accountant.Result{Delta: p.Delta}, nil
	}
	return accountant.PLD{}.Epsilon([]accountant.Event{p.Event(steps)}, accountant.AddOrRemove, p.Delta)
}

// NewPlan computes the plan of a config, and prepares the model for it. It
// reads the names of class folders, which are public, and no image.
func NewPlan(backend compute.Backend, c *Config, base *checkpoint.Model) (*Plan, *target, error) {
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	t, p := c.Training, c.Privacy
	plan := &Plan{Method: c.Method, Delta: p.Delta, Neighboring: p.Neighboring, Multiplicity: t.Multiplicity,
		Size: c.Data.Size, Channels: c.Data.Channels, ExpectedDrawsPerStep: t.ExpectedBatchSize * float64(t.Multiplicity)}
	if plan.Size == 0 {
		plan.Size = base.Size
	}
	if plan.Channels == 0 {
		plan.Channels = base.Channels
	}
	var err error
	if plan.Classes, err = classNames(c, base); err != nil {
		return nil, nil, err
	}
	plan.AttentionModules = base.UNet.AttentionModules()
	target, err := newTarget(backend, base, plan.Classes, c)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range target.trainable {
		plan.TrainableParameters += len(base.Weights.Get(name).Data)
	}
	for _, w := range denoiserWeights(base).All() {
		plan.TotalParameters += len(w.Data)
	}

	m := dpsgd.Mechanism{ClippingNorm: t.ClippingNorm, SamplingProbability: t.ExpectedBatchSize / float64(c.Data.Examples),
		ExpectedBatchSize: t.ExpectedBatchSize, Steps: t.Steps}
	event := accountant.DPSGD(1, m.SamplingProbability, m.Steps)
	m.NoiseMultiplier, err = accountant.CalibrateNoiseMultiplier(accountant.PLD{}, nil, event, accountant.AddOrRemove, p.Epsilon, p.Delta)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: privacy: %w", ErrConfig, err)
	}
	plan.Mechanism = m
	if err := m.Validate(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	claim, err := plan.Spent(m.Steps)
	if err != nil {
		return nil, nil, err
	}
	if claim.Epsilon > p.Epsilon {
		return nil, nil, fmt.Errorf("calibrated run costs epsilon %g, more than %g; this is a mistake in scumble", claim.Epsilon, p.Epsilon)
	}
	plan.Epsilon = claim.Epsilon
	rdp, err := accountant.RDP{}.Epsilon([]accountant.Event{plan.Event(m.Steps)}, accountant.AddOrRemove, p.Delta)
	if err != nil {
		return nil, nil, err
	}
	plan.EpsilonRDP = rdp.Epsilon
	return plan, target, nil
}

// classNames returns the public class names: of the config, of the class
// folders, or of the base model for IDX files.
func classNames(c *Config, base *checkpoint.Model) ([]string, error) {
	if len(c.Data.Classes) > 0 {
		if len(c.Data.Classes) < dataset.MinClasses || len(c.Data.Classes) > dataset.MaxClasses {
			return nil, fmt.Errorf("%w: data.classes has %d names, want %d to %d", ErrConfig, len(c.Data.Classes), dataset.MinClasses, dataset.MaxClasses)
		}
		return c.Data.Classes, nil
	}
	names, err := dataset.ClassNames(c.Data.Path)
	if err != nil {
		return nil, err
	}
	if names == nil {
		return nil, fmt.Errorf("%w: data.classes is missing; %s holds no class folders, so name the classes in the order of the labels", ErrConfig, filepath.Base(c.Data.Path))
	}
	return names, nil
}

// exists reports whether path is there, whatever it is.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
