package accountant

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Case is one line of a table of accounting problems, in the schema of
// testdata/accounting_vectors.json. Fields that the schema has beyond these
// (expected answers, notes) are ignored.
type Case struct {
	ID              string      `json:"id"`
	Task            string      `json:"task"` // "" or "epsilon", or "calibrate_sigma".
	Mechanism       string      `json:"mechanism"`
	Adjacency       string      `json:"adjacency"` // "add_or_remove_one" or "replace_one".
	Delta           *float64    `json:"delta"`
	TargetEpsilon   *float64    `json:"target_eps"`
	SamplingProb    *float64    `json:"sampling_prob"`
	NoiseMultiplier *float64    `json:"noise_multiplier"`
	Steps           *int        `json:"steps"`
	Phases          []CasePhase `json:"phases"`
}

// CasePhase is one event of a case.
type CasePhase struct {
	Type  string   `json:"type"` // "dpsgd", "gaussian", "laplace", "subsampled_laplace" or "discrete_gaussian".
	Q     *float64 `json:"q"`
	Sigma *float64 `json:"sigma"`
	Scale *float64 `json:"scale"`
	Steps *int     `json:"steps"`
	Count *int     `json:"count"`
}

// CaseResult answers one case.
type CaseResult struct {
	ID              string       `json:"id"`
	Epsilon         *CaseEpsilon `json:"epsilon,omitempty"`
	NoiseMultiplier *CaseNoise   `json:"noise_multiplier,omitempty"`
	Error           string       `json:"error,omitempty"` // Why there is no answer.
	Seconds         float64      `json:"seconds"`         // Wall time of the whole case.
}

// CaseEpsilon is the epsilon of each accountant.
type CaseEpsilon struct {
	PLD      float64 `json:"pld"`
	PLDLower float64 `json:"pld_lower"`
	RDP      float64 `json:"rdp"`
}

// CaseNoise is the noise multiplier by each accountant.
type CaseNoise struct {
	PLD float64 `json:"pld"`
	RDP float64 `json:"rdp"`
}

// ReadCases parses a JSON array of cases.
func ReadCases(data []byte) ([]Case, error) {
	var cases []Case
	if err := json.Unmarshal(data, &cases); err != nil {
		return nil, fmt.Errorf("read cases: want a JSON array of objects with id, adjacency, delta and phases: %w", err)
	}
	if cases == nil {
		return nil, errors.New("read cases: got null, want a JSON array")
	}
	return cases, nil
}

// RunCases answers cases in order. A case that cannot be answered gets its
// error in the result; the others are answered all the same.
func RunCases(cases []Case) []CaseResult {
	results := make([]CaseResult, 0, len(cases))
	for i := range cases {
		results = append(results, cases[i].Run())
	}
	return results
}

// Run answers one case.
func (c *Case) Run() CaseResult {
	start := time.Now()
	r := CaseResult{ID: c.ID}
	if err := c.run(&r); err != nil {
		r.Error = err.Error()
		r.Epsilon, r.NoiseMultiplier = nil, nil
	}
	r.Seconds = time.Since(start).Seconds()
	return r
}

func (c *Case) run(r *CaseResult) error {
	n, err := c.neighboring()
	if err != nil {
		return err
	}
	if c.Delta == nil {
		return errors.New("case has no delta, want one in (0, 1)")
	}
	switch c.Task {
	case "", "epsilon":
		events, err := c.events()
		if err != nil {
			return err
		}
		pld, err := PLD{}.Epsilon(events, n, *c.Delta)
		if err != nil {
			return err
		}
		rdp, err := RDP{}.Epsilon(events, n, *c.Delta)
		if err != nil {
			return err
		}
		r.Epsilon = &CaseEpsilon{PLD: pld.Epsilon, PLDLower: pld.Lower, RDP: rdp.Epsilon}
		return nil
	case "calibrate_sigma":
		return c.calibrate(r, n)
	}
	return fmt.Errorf("task is %q, want epsilon or calibrate_sigma", c.Task)
}

func (c *Case) calibrate(r *CaseResult, n Neighboring) error {
	if c.TargetEpsilon == nil {
		return errors.New("calibration has no target_eps")
	}
	spent, err := phaseEvents(c.Phases) // Usually none.
	if err != nil {
		return err
	}
	one := 1.0
	plan, err := CasePhase{Type: "dpsgd", Q: c.SamplingProb, Sigma: &one, Steps: c.Steps}.event()
	if err != nil {
		return err
	}
	pld, err := CalibrateNoiseMultiplier(PLD{}, spent, plan, n, *c.TargetEpsilon, *c.Delta)
	if err != nil {
		return err
	}
	rdp, err := CalibrateNoiseMultiplier(RDP{}, spent, plan, n, *c.TargetEpsilon, *c.Delta)
	if err != nil {
		return err
	}
	r.NoiseMultiplier = &CaseNoise{PLD: pld, RDP: rdp}
	return nil
}

func (c *Case) neighboring() (Neighboring, error) {
	switch c.Adjacency {
	case "add_or_remove_one", "add-or-remove":
		return AddOrRemove, nil
	case "replace_one", "replace-one":
		return ReplaceOne, nil
	case "zero_out", "zero-out":
		return ZeroOut, nil
	}
	return 0, fmt.Errorf("adjacency is %q, want add_or_remove_one, replace_one or zero_out", c.Adjacency)
}

// events returns the phases, or the one phase that the flat fields describe.
func (c *Case) events() ([]Event, error) {
	if len(c.Phases) > 0 {
		return phaseEvents(c.Phases)
	}
	p := CasePhase{Q: c.SamplingProb, Sigma: c.NoiseMultiplier, Scale: c.NoiseMultiplier, Steps: c.Steps, Count: c.Steps}
	switch c.Mechanism {
	case "poisson_subsampled_gaussian":
		p.Type = "dpsgd"
	case "poisson_subsampled_laplace":
		p.Type = "subsampled_laplace"
	default:
		p.Type = c.Mechanism
	}
	return phaseEvents([]CasePhase{p})
}

func phaseEvents(phases []CasePhase) ([]Event, error) {
	var events []Event
	for i, p := range phases {
		e, err := p.event()
		if err != nil {
			return nil, fmt.Errorf("phase %d: %w", i, err)
		}
		events = append(events, e)
	}
	return events, nil
}

func (p CasePhase) event() (Event, error) {
	e := Event{SamplingProbability: 1}
	noise, count, name, counter := p.Sigma, p.Count, "sigma", "count"
	sampled := false
	switch p.Type {
	case "dpsgd":
		e.Mechanism, sampled, count, counter = PoissonGaussian, true, p.Steps, "steps"
	case "gaussian":
		e.Mechanism = Gaussian
	case "laplace":
		e.Mechanism, noise, name = Laplace, p.Scale, "scale"
	case "subsampled_laplace":
		e.Mechanism, sampled, noise, name = PoissonLaplace, true, p.Scale, "scale"
	case "discrete_gaussian":
		e.Mechanism = DiscreteGaussian
	default:
		return Event{}, fmt.Errorf("type is %q, want dpsgd, gaussian, laplace, subsampled_laplace or discrete_gaussian", p.Type)
	}
	if count == nil { // Both words are used for both.
		if count = p.Count; count == nil {
			count = p.Steps
		}
	}
	switch {
	case noise == nil:
		return Event{}, fmt.Errorf("%s has no %s", p.Type, name)
	case count == nil:
		return Event{}, fmt.Errorf("%s has no %s", p.Type, counter)
	case sampled && p.Q == nil:
		return Event{}, fmt.Errorf("%s has no q", p.Type)
	}
	if sampled {
		e.SamplingProbability = *p.Q
	}
	e.NoiseMultiplier, e.Count = *noise, *count
	return e, e.Validate()
}
