package audit

import (
	"errors"
	"fmt"
	"math"
)

// Bound is a lower bound on epsilon.
type Bound struct {
	Epsilon    float64 `json:"epsilon"`
	Confidence float64 `json:"confidence"` // The bound is above the truth with a probability of at most 1 minus this.
}

// Result of a canary audit.
type Result struct {
	Mechanism Mechanism `json:"mechanism"`
	Claim     float64   `json:"claim"` // Epsilon that the accountant claims for the mechanism.
	Canaries  int       `json:"canaries"`

	// AssumptionFree needs fair coins and nothing else.
	AssumptionFree Bound `json:"assumption_free"`
	// Curve assumes that the privacy curve is that of the mechanism with some noise.
	Curve Bound `json:"curve"`
	// Gaussian assumes, beside that, that canaries are independent of one another.
	Gaussian Bound `json:"gaussian"`
	// Steps assumes that each step is a sampled Gaussian, with the sampling
	// probability, signal and noise that were measured.
	Steps Bound `json:"steps"`

	Counts   Counts   `json:"counts"` // Behind Gaussian.
	OneRun   OneRun   `json:"one_run"`
	Measured Measured `json:"measured"` // Behind Steps.
	Broken   []string `json:"broken,omitempty"`
}

// Measured is what the steps did, next to what the claim says: 1 is as claimed.
type Measured struct {
	SamplingProbability float64 `json:"sampling_probability"` // Share of the claimed one.
	Signal              float64 `json:"signal"`               // Largest contribution of a canary, in clipping norms.
	Noise               float64 `json:"noise"`                // Share of the claimed noise, over all steps.
	Softest             Step    `json:"softest_step"`
	Loudest             Step    `json:"loudest_step"`
}

// alarm is the chance of a false alarm of what is checked step by step: so small
// that one means a mistake.
const alarm = 1e-6

// Result bounds epsilon by what was seen. confidence is in (0, 1), such as 0.95.
func (c *Canaries) Result(p *Plan, confidence float64) (*Result, error) {
	switch {
	case c.seen != c.mechanism.Steps:
		return nil, fmt.Errorf("%w: saw %d of %d steps", errUnfinished, c.seen, c.mechanism.Steps)
	case p.family.Mechanism != c.mechanism || p.count != len(c.in):
		return nil, errors.New("the plan is for another mechanism or number of canaries")
	case !(confidence > 0.5 && confidence < 1):
		return nil, fmt.Errorf("confidence is %g, want in (0.5, 1)", confidence)
	}
	claim, err := c.mechanism.Epsilon()
	if err != nil {
		return nil, err
	}
	r := &Result{Mechanism: c.mechanism, Claim: claim, Canaries: len(c.in), Counts: c.errors(p.threshold), OneRun: c.guess(p.guesses)}
	r.AssumptionFree = Bound{r.OneRun.Epsilon(c.mechanism.Delta, confidence), confidence}
	along, err := r.OneRun.epsilonAlong(p.family, confidence)
	if err != nil {
		return nil, err
	}
	r.Curve = Bound{along, confidence}
	gaussian, err := r.Counts.gaussian(p.family, confidence)
	if err != nil {
		return nil, err
	}
	r.Gaussian = Bound{gaussian, confidence}
	if err := c.steps(r); err != nil {
		return nil, err
	}
	for _, b := range []struct {
		name string
		Bound
	}{{"assumption-free", r.AssumptionFree}, {"curve", r.Curve}, {"Gaussian", r.Gaussian}, {"step-by-step", r.Steps}} {
		if b.Epsilon > r.Claim {
			r.Broken = append(r.Broken, fmt.Sprintf("the %s lower bound on epsilon is %.4g, above the claim of %.4g", b.name, b.Epsilon, r.Claim))
		}
	}
	return r, nil
}

// steps bounds epsilon by what single steps did, as an auditor sees it who knows
// which canaries joined: sampling probability from below, signal from below and
// noise from above, each with a third of the allowed error, through the accounting
// of the run (after Nasr et al. 2023, Sec. 5). It also looks for single steps whose
// noise is not what the claim says.
func (c *Canaries) steps(r *Result) error {
	m, members := c.mechanism, len(c.Members())
	coins := members * m.Steps
	r.Measured = Measured{SamplingProbability: float64(c.joined) / float64(coins) / m.SamplingProbability, Softest: c.softest, Loudest: c.loudest}
	if c.others > 0 {
		r.Measured.Noise = math.Sqrt(c.quiet/float64(c.others)) / m.NoiseMultiplier
	}
	r.Steps.Confidence = 1 - alarm
	if c.joined == 0 || c.others == 0 {
		return nil // Too few draws, or none left out: nothing can be said.
	}
	r.Measured.Signal = c.signal / float64(c.joined)

	probability := lowerShare(c.joined, coins, alarm/3)
	low, _ := chiSquareRange(c.others, alarm/3)
	noise := math.Sqrt(c.quiet / float64(c.others) / low)
	signal := r.Measured.Signal - normalQuantile(alarm/3)*noise/math.Sqrt(float64(c.joined))
	if probability > 0 && signal > 0 {
		var err error
		if r.Steps.Epsilon, err = epsilonOf(noise/signal, probability, m.Steps, m.Delta); err != nil {
			return err
		}
	}
	// A step's fewest coordinates are those of canaries that are out.
	low, high := chiSquareRange(len(c.in)-members, alarm/2/float64(m.Steps))
	if s := c.softest; s.Noise < math.Sqrt(low) {
		r.Broken = append(r.Broken, fmt.Sprintf("the noise of step %d is %.3g of what the claim says, want 1, and not below %.3g by chance", s.Step, s.Noise, math.Sqrt(low)))
	}
	if s := c.loudest; s.Noise > math.Sqrt(high) {
		r.Broken = append(r.Broken, fmt.Sprintf("the noise of step %d is %.3g of what the claim says, want 1, and not above %.3g by chance: noise that varies tells something", s.Step, s.Noise, math.Sqrt(high)))
	}
	return nil
}
