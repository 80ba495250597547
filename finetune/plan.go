package finetune

import (
	"fmt"
	"os"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/pipeline"
)

// Plan is what a run will do and cost, computed from public inputs before a
// private image is opened.
type Plan struct {
	Method               Method          `json:"method"`
	Epsilon              float64         `json:"epsilon"`          // Of this run and all earlier ones together, at most the one asked for.
	EpsilonAlone         float64         `json:"epsilon_alone"`    // Of this run alone.
	EpsilonPrevious      float64         `json:"epsilon_previous"` // Of all earlier runs together.
	EpsilonRDP           float64         `json:"epsilon_rdp"`      // Epsilon by the Rényi accountant, as a cross-check.
	Delta                float64         `json:"delta"`
	Neighboring          string          `json:"neighboring"`
	Mechanism            dpsgd.Mechanism `json:"mechanism"`
	Multiplicity         int             `json:"multiplicity"`
	Classes              []string        `json:"classes"`
	Text                 bool            `json:"text,omitempty"` // The model is conditioned on text: captions, not classes.
	Size                 int             `json:"size"`
	Channels             int             `json:"channels"`
	TrainableParameters  int             `json:"trainable_parameters"`
	TotalParameters      int             `json:"total_parameters"` // Of the denoiser.
	AttentionModules     []string        `json:"attention_modules,omitempty"`
	ExpectedDrawsPerStep float64         `json:"expected_draws_per_step"`
	Previous             []Previous      `json:"previous_runs,omitempty"`
	Queries              []Query         `json:"queries,omitempty"` // Of this run, before its first step.

	ledgers       []previousLedger // That Previous was read from.
	previousPaths []string         // As the config names them.
}

// Event returns the accounting event of the given number of steps.
func (p *Plan) Event(steps int) accountant.Event {
	return accountant.DPSGD(p.Mechanism.NoiseMultiplier, p.Mechanism.SamplingProbability, steps)
}

// events returns what earlier runs, and the queries and a number of steps of this
// one do.
func (p *Plan) events(steps int) []accountant.Event {
	events := append(earlierEvents(p.Previous), queryEvents(p.Queries)...)
	if steps > 0 {
		events = accountant.Group(append(events, p.Event(steps)))
	}
	return events
}

// Spent returns the claim after a number of steps, earlier runs included.
func (p *Plan) Spent(steps int) (accountant.Result, error) {
	events := p.events(steps)
	if len(events) == 0 {
		return accountant.Result{Delta: p.Delta}, nil
	}
	return accountant.PLD{}.Epsilon(events, accountant.AddOrRemove, p.Delta)
}

// NewPlan computes the plan of a config, and prepares the model for it. It
// reads the ledgers of earlier runs and the names of class folders, which are
// public, and no image. The error wraps [accountant.ErrBudget] when earlier
// runs have left nothing to spend.
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
	if err := plan.loadPrevious(p); err != nil {
		return nil, nil, err
	}
	var err error
	if err := checkText(c, base); err != nil {
		return nil, nil, err
	}
	plan.Text = base.TextEncoder != nil
	if !plan.Text {
		if plan.Classes, err = classNames(c); err != nil {
			return nil, nil, err
		}
	}
	plan.AttentionModules = base.UNet.AttentionModules()
	target, err := newTarget(backend, base, plan.Classes, c)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range target.trainable {
		plan.TrainableParameters += len(base.Weights.Get(name).Data)
	}
	for _, w := range pipeline.Component(base.Weights, "unet", "class_embedder", textPrefix).All() {
		plan.TotalParameters += len(w.Data)
	}

	if err := plan.calibrate(c); err != nil {
		return nil, nil, err
	}
	return plan, target, nil
}

// calibrate finds the least noise that keeps this run and all earlier ones
// together within the budget, less what is kept back for figures.
func (plan *Plan) calibrate(c *Config) error {
	t, p := c.Training, c.Privacy
	plan.Mechanism = dpsgd.Mechanism{ClippingNorm: t.ClippingNorm, SamplingProbability: t.ExpectedBatchSize / float64(c.Data.Examples),
		ExpectedBatchSize: t.ExpectedBatchSize, Steps: t.Steps}
	var err error
	if plan.Queries, err = c.queries(plan); err != nil {
		return err
	}
	event := accountant.DPSGD(1, plan.Mechanism.SamplingProbability, t.Steps)
	noise, err := accountant.CalibrateNoiseMultiplier(accountant.PLD{}, plan.events(0), event, accountant.AddOrRemove, p.Epsilon-p.Reserve, p.Delta)
	if err != nil {
		return fmt.Errorf("%w: privacy: %w", ErrConfig, err)
	}
	return plan.price(noise, p.Epsilon)
}

// price sets the noise and computes what the run then costs, at most budget.
func (plan *Plan) price(noise, budget float64) error {
	plan.Mechanism.NoiseMultiplier = noise
	if err := plan.Mechanism.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	steps := plan.Mechanism.Steps
	claim, err := plan.Spent(steps)
	if err != nil {
		return err
	}
	if claim.Epsilon > budget {
		return fmt.Errorf("%d steps with noise multiplier %g cost epsilon %.6g with earlier runs, privacy.epsilon is %g: %w", steps, noise, claim.Epsilon, budget, accountant.ErrBudget)
	}
	plan.Epsilon, plan.EpsilonAlone = claim.Epsilon, claim.Epsilon
	if len(plan.Previous) > 0 {
		own := append(queryEvents(plan.Queries), plan.Event(steps))
		alone, err := accountant.PLD{}.Epsilon(own, accountant.AddOrRemove, plan.Delta)
		if err != nil {
			return err
		}
		plan.EpsilonAlone = alone.Epsilon
	}
	rdp, err := accountant.RDP{}.Epsilon(plan.events(steps), accountant.AddOrRemove, plan.Delta)
	if err != nil {
		return err
	}
	plan.EpsilonRDP = rdp.Epsilon
	return nil
}

// classNames returns the public class names: of the config, or of the class
// folders.
func classNames(c *Config) ([]string, error) {
	if len(c.Data.Classes) > 0 {
		return c.Data.Classes, nil
	}
	names, err := dataset.ClassNamesOf(c.Data.Path, c.Data.Options(0, 0, nil))
	if err != nil {
		return nil, err
	}
	if names == nil {
		return nil, fmt.Errorf("%w: data.classes is missing; IDX files have numbers only, so name the classes in the order of the labels", ErrConfig)
	}
	if err := checkClassNames(names); err != nil {
		return nil, fmt.Errorf("%w: class folders of data.path: %w", ErrConfig, err)
	}
	return names, nil
}

// exists reports whether path is there, whatever it is.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
