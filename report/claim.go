package report

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/scumble-dp/scumble/accountant"
)

// Claim is the guarantee of a run, and the mechanism it rests on, as it ran.
type Claim struct {
	Epsilon      float64 `json:"epsilon"` // Spent, as the ledger counts it.
	Delta        float64 `json:"delta"`
	EpsilonRDP   float64 `json:"epsilon_rdp,omitempty"`   // By the Rényi accountant, as a cross-check. Zero: not computed.
	EpsilonLower float64 `json:"epsilon_lower,omitempty"` // No accountant can claim less. Zero: not computed.
	// EpsilonRecount is epsilon counted a second time, by package recount, and
	// RecountError how well it knows it. Zero: not counted.
	EpsilonRecount float64                `json:"epsilon_recount,omitempty"`
	RecountError   float64                `json:"recount_error,omitempty"`
	Neighboring    accountant.Neighboring `json:"neighboring"`
	Unit           string                 `json:"unit"` // What one neighbour has more: "image", "patient".

	NoiseMultiplier     float64 `json:"noise_multiplier"`
	SamplingProbability float64 `json:"sampling_probability"`
	ExpectedBatchSize   float64 `json:"expected_batch_size"`
	ClippingNorm        float64 `json:"clipping_norm"`
	Steps               int     `json:"steps"`
	StepsPlanned        int     `json:"steps_planned"`
	Multiplicity        int     `json:"multiplicity"` // Noise draws of one example, averaged before the clip. Zero means 1.

	Accountant string  `json:"accountant"`      // Name and version.
	Slack      float64 `json:"slack,omitempty"` // Part of Epsilon that covers rounding.
	Mesh       float64 `json:"mesh,omitempty"`  // Distance of grid points of the privacy loss. Zero: no grid.
	RDP        []RDP   `json:"rdp,omitempty"`   // The Rényi curve, so that others can compose further.
	Spent      []Spent `json:"spent,omitempty"` // Epsilon on the way, for the chart.

	// PublicExamples is the declared number of private units. Zero: not declared.
	PublicExamples int `json:"public_examples,omitempty"`

	// Insecure says that noise or sampling came from a test seed.
	Insecure bool `json:"insecure,omitempty"`
	// Unmet lists assumptions that the run did not keep, such as "batches were
	// shuffled, not sampled". Any of them withdraws the guarantee.
	Unmet []string `json:"unmet,omitempty"`
}

// RDP is one point of a Rényi curve: the mechanism is (Order, Epsilon)-RDP.
type RDP struct {
	Order   float64 `json:"order"`
	Epsilon float64 `json:"epsilon"`
}

// Spent is the epsilon that a number of steps costs.
type Spent struct {
	Step    int     `json:"step"`
	Epsilon float64 `json:"epsilon"`
}

func (c *Claim) validate() error {
	switch {
	case !(c.Epsilon >= 0) || math.IsInf(c.Epsilon, 1): // !(x >= 0) also catches NaN.
		return fmt.Errorf("epsilon is %g, want finite and not negative", c.Epsilon)
	case !(c.Delta > 0 && c.Delta < 1):
		return fmt.Errorf("delta is %g, want in (0, 1)", c.Delta)
	case c.PublicExamples < 0:
		return fmt.Errorf("public number of examples is %d, want positive, or 0 for not declared", c.PublicExamples)
	case c.PublicExamples > 0 && c.Delta >= 1/float64(c.PublicExamples):
		return fmt.Errorf("delta is %g, want below 1/%d: at 1/N a mechanism may publish one example outright", c.Delta, c.PublicExamples)
	case !(c.EpsilonRDP >= 0) || math.IsInf(c.EpsilonRDP, 1):
		return fmt.Errorf("epsilon by RDP is %g, want finite and not negative", c.EpsilonRDP)
	case !(c.EpsilonLower >= 0) || c.EpsilonLower > c.Epsilon:
		return fmt.Errorf("lower end of epsilon is %g, want 0 to epsilon (%g)", c.EpsilonLower, c.Epsilon)
	case !(c.EpsilonRecount >= 0) || math.IsInf(c.EpsilonRecount, 1) || !(c.RecountError >= 0):
		return fmt.Errorf("second count of epsilon is %g, known to %g, want finite and not negative", c.EpsilonRecount, c.RecountError)
	case c.unit() == "":
		return errors.New("no unit, want what the guarantee protects, such as image")
	case !(c.NoiseMultiplier > 0) || math.IsInf(c.NoiseMultiplier, 1):
		return fmt.Errorf("noise multiplier is %g, want positive and finite", c.NoiseMultiplier)
	case !(c.SamplingProbability > 0 && c.SamplingProbability <= 1):
		return fmt.Errorf("sampling probability is %g, want in (0, 1]", c.SamplingProbability)
	case !(c.ClippingNorm > 0) || math.IsInf(c.ClippingNorm, 1):
		return fmt.Errorf("clipping norm is %g, want positive and finite", c.ClippingNorm)
	case !(c.ExpectedBatchSize > 0) || math.IsInf(c.ExpectedBatchSize, 1):
		return fmt.Errorf("expected batch size is %g, want positive and finite", c.ExpectedBatchSize)
	case c.Steps <= 0 || c.StepsPlanned < c.Steps:
		return fmt.Errorf("steps are %d of %d planned, want at least 1 and at most the plan", c.Steps, c.StepsPlanned)
	case c.Multiplicity < 0:
		return fmt.Errorf("multiplicity is %d, want at least 1, or 0 for 1", c.Multiplicity)
	case c.Accountant == "":
		return errors.New("no accountant, want its name and version")
	case !finite(c.Slack) || !finite(c.Mesh):
		return fmt.Errorf("slack is %g and mesh %g, want finite", c.Slack, c.Mesh)
	}
	if _, err := c.Neighboring.MarshalText(); err != nil {
		return err
	}
	for _, p := range c.RDP {
		if !(p.Order > 1) || !finite(p.Order) || !finite(p.Epsilon) {
			return fmt.Errorf("point of the RDP curve is (%g, %g), want an order above 1 and finite; leave it out", p.Order, p.Epsilon)
		}
	}
	for _, p := range c.Spent {
		if !finite(p.Epsilon) {
			return fmt.Errorf("epsilon after step %d is %g, want finite; leave it out", p.Step, p.Epsilon)
		}
	}
	return nil
}

// unit returns the noun of the unit: "one image" and "image" are the same.
func (c *Claim) unit() string {
	return strings.TrimPrefix(strings.TrimSpace(c.Unit), "one ")
}

// NotPrivate is what stands in place of the guarantee of a seeded run.
const NotPrivate = "NOT PRIVATE (test mode)"

// NoGuarantee stands in its place where another assumption is unmet.
const NoGuarantee = "NO GUARANTEE (an assumption is unmet)"

// Unmet lists why the run has no guarantee. Where it is empty, it has one.
func (r *Run) Unmet() []string {
	var why []string
	if r.Claim.Insecure {
		why = append(why, "noise and sampling came from a test seed, which anyone can repeat")
	}
	why = append(why, r.Claim.Unmet...)
	if c := &r.Claim; c.EpsilonRecount-c.RecountError > c.Epsilon*(1+recountTolerance) {
		why = append(why, "a second count of the privacy loss, made in another way, is above the first one")
	}
	for _, w := range r.Weights {
		if !w.Public && !w.Charged {
			why = append(why, fmt.Sprintf("the weights %q were not trained on public data only", w.Name))
		}
	}
	return why
}

// recountTolerance is what the second count may differ by, relatively: its error
// estimate is not a bound.
const recountTolerance = 1e-6

// Guarantee returns the claim in one sentence, or says that there is none.
//
// The sentence is the definition of (epsilon, delta)-differential privacy in
// words (Dwork et al. 2006): P[outcome | D] ≤ e^ε·P[outcome | D'] + δ for all
// neighbours D, D', in both directions. Its numbers are rounded up.
func (r *Run) Guarantee() string {
	if r.Claim.Insecure {
		return NotPrivate
	}
	if len(r.Unmet()) > 0 {
		return NoGuarantee
	}
	return sentence(r.Claim.Neighboring, r.Claim.unit(), r.Claim.Epsilon, r.Claim.Delta)
}

func sentence(n accountant.Neighboring, unit string, epsilon, delta float64) string {
	var premise string
	switch n {
	case accountant.ReplaceOne:
		premise = fmt.Sprintf("Were any one %s of the private data exchanged for any other %s", unit, unit)
	case accountant.ZeroOut:
		premise = fmt.Sprintf("Whether or not the contribution of any one %s of the private data was counted", unit)
	default:
		premise = fmt.Sprintf("Whether or not any one %s was among the private data", unit)
	}
	return fmt.Sprintf("%s, the probability of any outcome of this release is at most %s times what it would otherwise have been "+
		"(e to the power ε, where ε\u00a0=\u00a0%s), plus at most %s (δ, %s).",
		premise, formatFactor(epsilon), formatEpsilon(epsilon), formatDelta(delta), oneIn(delta))
}

// Meaning is what the claim allows an attacker at most. Attackers know all but
// one unit, every noisy update and the code.
type Meaning struct {
	Tier string `json:"tier"` // "strong", "reasonable" or "weak".
	// OddsFactor is e^epsilon: how much the odds that a unit was among the
	// private data can change, up to delta. Zero where it overflows.
	OddsFactor float64 `json:"odds_factor,omitempty"`
	// Membership bounds every membership test, at two false positive rates.
	Membership []MembershipBound `json:"membership"`
	// Accuracy is the largest of any membership test, where half of the
	// candidates were among the private data.
	Accuracy float64 `json:"max_accuracy"`
}

// MembershipBound is the largest true positive rate of any membership test
// that has a false positive rate.
type MembershipBound struct {
	FalsePositiveRate   float64 `json:"false_positive_rate"`
	MaxTruePositiveRate float64 `json:"max_true_positive_rate"`
}

func meaning(epsilon, delta float64) *Meaning {
	m := &Meaning{
		Tier:       tier(epsilon),
		OddsFactor: math.Exp(epsilon),
		Accuracy:   maxAccuracy(epsilon, delta),
	}
	for _, rate := range []float64{0.01, 0.001} {
		m.Membership = append(m.Membership, MembershipBound{rate, maxTruePositiveRate(epsilon, delta, rate)})
	}
	if math.IsInf(m.OddsFactor, 1) {
		m.OddsFactor = 0
	}
	return m
}

// near reports whether both are the same, up to rounding: exponentials differ in
// their last digits between machines.
func (m *Meaning) near(o *Meaning) bool {
	same := func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Abs(b) }
	ok := m.Tier == o.Tier && same(m.OddsFactor, o.OddsFactor) && same(m.Accuracy, o.Accuracy) && len(m.Membership) == len(o.Membership)
	for i := 0; ok && i < len(o.Membership); i++ {
		ok = m.Membership[i].FalsePositiveRate == o.Membership[i].FalsePositiveRate &&
			same(m.Membership[i].MaxTruePositiveRate, o.Membership[i].MaxTruePositiveRate)
	}
	return ok
}

// maxTruePositiveRate returns the largest true positive rate of a membership
// test with the given false positive rate: one minus the trade-off function
// max(0, 1-δ-e^ε·α, e^-ε·(1-δ-α)) of Wasserman and Zhou 2010 and Kairouz et
// al. 2015 (https://arxiv.org/abs/1311.0776, Theorem 2.1).
func maxTruePositiveRate(epsilon, delta, falsePositiveRate float64) float64 {
	left := math.Exp(epsilon)*falsePositiveRate + delta
	right := 1 - math.Exp(-epsilon)*math.Max(0, 1-delta-falsePositiveRate)
	return math.Min(1, math.Min(left, right))
}

// maxAccuracy returns the largest accuracy on balanced candidates: the errors
// of any test add up to at least 2(1-δ)/(1+e^ε) (Kairouz et al. 2015).
func maxAccuracy(epsilon, delta float64) float64 {
	return 1 - (1-delta)/(1+math.Exp(epsilon))
}

// tier grades epsilon as Ponomareva et al. 2023 do
// (https://arxiv.org/abs/2303.00654, section 5.2.1).
func tier(epsilon float64) string {
	switch {
	case epsilon <= 1:
		return "strong"
	case epsilon <= 10:
		return "reasonable"
	default:
		return "weak"
	}
}

var tierWords = map[string]string{
	"strong":     "Strong formal protection (ε at most 1).",
	"reasonable": "Reasonable protection (ε at most 10): meaningful in practice, best together with an audit of the release.",
	"weak":       "Weak formal protection (ε above 10): by itself it does not rule out that an attacker recognises a member.",
}
