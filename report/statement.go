package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/scumble-dp/scumble/accountant"
)

// Statement is the guarantee with all that somebody else needs to check it.
// Its items follow Ponomareva et al. 2023, section 5.3
// (https://arxiv.org/abs/2303.00654) and NIST SP 800-226. Numbers are in full
// precision, unlike those of the documents.
type Statement struct {
	Format     string    `json:"format"` // "scumble-statement/1"
	Title      string    `json:"title"`
	Created    time.Time `json:"created"`
	Software   string    `json:"software"`
	Guaranteed bool      `json:"guaranteed"` // Whether there is a claim.
	Guarantee  string    `json:"guarantee"`  // In one sentence, or why there is none.
	Unmet      []string  `json:"unmet"`      // Empty if guaranteed.

	Setting      Setting      `json:"setting"`
	Bound        *Bound       `json:"claim,omitempty"`   // Missing unless guaranteed.
	Meaning      *Meaning     `json:"meaning,omitempty"` // Missing unless guaranteed.
	Mechanism    Mechanism    `json:"mechanism"`
	Ledger       Ledger       `json:"ledger"`
	Paid         []Figure     `json:"paid_figures,omitempty"`
	Provenance   []Weight     `json:"weights"`
	Base         Item         `json:"base"` // Name and provenance.
	PublicInputs []Item       `json:"public_inputs"`
	Outside      []string     `json:"outside_the_claim"`
	Assumptions  []string     `json:"assumptions"`
	Config       ConfigDigest `json:"config"`
	Files        []File       `json:"files"`
}

// Setting says who is trusted with what.
type Setting struct {
	Model       string                 `json:"model"`
	Adversary   string                 `json:"adversary"`
	Released    string                 `json:"released"`
	Accesses    string                 `json:"accesses"` // What reads the private data, and what does not.
	Unit        string                 `json:"unit"`
	Neighboring accountant.Neighboring `json:"neighboring"`
	Meaning     string                 `json:"neighboring_in_words"`
	Examples    int                    `json:"public_examples,omitempty"` // Declared, not counted.
}

// Bound is the claim and how it was accounted.
type Bound struct {
	Epsilon      float64 `json:"epsilon"`
	Delta        float64 `json:"delta"`
	EpsilonLower float64 `json:"epsilon_lower,omitempty"` // No accountant can claim less.
	EpsilonRDP   float64 `json:"epsilon_rdp,omitempty"`
	// EpsilonRecount is epsilon by package recount, which shares no code with the
	// accountant, and RecountError how well it knows it.
	EpsilonRecount float64 `json:"epsilon_recount,omitempty"`
	RecountError   float64 `json:"recount_error,omitempty"`
	Accountant     string  `json:"accountant"`
	Slack          float64 `json:"slack,omitempty"`
	Mesh           float64 `json:"mesh,omitempty"`
	RDP            []RDP   `json:"rdp,omitempty"`
}

// Mechanism is the mechanism as it ran.
type Mechanism struct {
	Method              string  `json:"method"`
	Sampler             string  `json:"sampler"`
	Noise               string  `json:"noise"`
	NoiseMultiplier     float64 `json:"noise_multiplier"`
	SamplingProbability float64 `json:"sampling_probability"`
	ExpectedBatchSize   float64 `json:"expected_batch_size"`
	ClippingNorm        float64 `json:"clipping_norm"`
	Multiplicity        int     `json:"multiplicity"`
	Steps               int     `json:"steps"`
	StepsPlanned        int     `json:"steps_planned"`
	TrainableParameters int     `json:"trainable_parameters"`
	TotalParameters     int     `json:"total_parameters"`
}

// Figure is a noisy number about private images that the ledger paid for, and that
// the claim covers.
type Figure struct {
	Name        string    `json:"name"`
	Value       float64   `json:"value"`
	Interval    []float64 `json:"interval,omitempty"`
	PerClass    []float64 `json:"per_class,omitempty"`
	LedgerEntry string    `json:"ledger_entry"` // What of the row that paid.
	Mechanism   string    `json:"mechanism"`    // With its sensitivity, and why.
}

// figures lists what the ledger paid for.
func (r *Run) figures() []Figure {
	var all []Figure
	for _, s := range r.Scores {
		if s.Covered == Paid {
			all = append(all, Figure{Name: s.Name, Value: s.Value, Interval: s.Interval, PerClass: s.PerClass, LedgerEntry: s.LedgerEntry, Mechanism: s.Note})
		}
	}
	return all
}

// ConfigDigest names the config of the run by its hash.
type ConfigDigest struct {
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
}

const formatStatement = "scumble-statement/1"

// Statement returns the statement of the run. It holds nothing that the claim
// does not cover, and no epsilon where an assumption is unmet.
func (r *Run) Statement() *Statement {
	r = r.covered()
	c := &r.Claim
	unmet := r.Unmet()
	digest := sha256.Sum256([]byte(r.Config))
	s := &Statement{
		Format:     formatStatement,
		Title:      r.Title,
		Created:    r.Created,
		Software:   r.Version,
		Guaranteed: len(unmet) == 0,
		Guarantee:  r.Guarantee(),
		Unmet:      append([]string{}, unmet...),
		Setting: Setting{
			Model:     "Central: the holder of the private data runs the mechanism and is trusted; everybody else is not.",
			Adversary: fmt.Sprintf("Knows everything released, this software, and all private data but one %s; has unlimited time and computers.", c.unit()),
			Released:  "The final weights, the noisy answers that the ledger lists, and what is computed from them. The accounting covers every noisy update on the way as well.",
			Accesses: "The ledger lists every computation on the private data whose result was used, with the noise it got. " +
				"Sampling of images, choice of samples, this statement and the report read the released model, public inputs and those results only.",
			Unit:        c.unit(),
			Neighboring: c.Neighboring,
			Meaning:     neighboringWords(c.Neighboring, c.unit()),
			Examples:    c.PublicExamples,
		},
		Mechanism: Mechanism{
			Method:              r.Method,
			Sampler:             fmt.Sprintf("Poisson: each %s joins each step independently, with the sampling probability; batches are never cut.", c.unit()),
			Noise:               "Gaussian, from a cryptographic generator keyed by the operating system; keys are not kept.",
			NoiseMultiplier:     c.NoiseMultiplier,
			SamplingProbability: c.SamplingProbability,
			ExpectedBatchSize:   c.ExpectedBatchSize,
			ClippingNorm:        c.ClippingNorm,
			Multiplicity:        max(1, c.Multiplicity),
			Steps:               c.Steps,
			StepsPlanned:        c.StepsPlanned,
			TrainableParameters: r.TrainableParameters,
			TotalParameters:     r.TotalParameters,
		},
		Ledger:       r.Ledger,
		Paid:         r.figures(),
		Provenance:   append([]Weight{}, r.Weights...),
		Base:         Item{Name: r.Base, Value: r.BaseProvenance},
		PublicInputs: append([]Item{}, r.PublicInputs...),
		Outside:      r.outside(),
		Assumptions:  assumptions(c.unit()),
		Config:       ConfigDigest{File: "config.yaml", SHA256: hex.EncodeToString(digest[:])},
		Files:        append([]File{}, r.Files...),
	}
	if c.Insecure {
		s.Mechanism.Noise = "Gaussian, from a test seed: anyone can repeat it and take it away."
		s.Mechanism.Sampler = "Poisson, from a test seed: anyone can repeat it."
	}
	if s.Guaranteed {
		s.Bound = &Bound{
			Epsilon: c.Epsilon, Delta: c.Delta, EpsilonLower: c.EpsilonLower, EpsilonRDP: c.EpsilonRDP,
			EpsilonRecount: c.EpsilonRecount, RecountError: c.RecountError,
			Accountant: c.Accountant, Slack: c.Slack, Mesh: c.Mesh, RDP: c.RDP,
		}
		s.Meaning = meaning(c.Epsilon, c.Delta)
	}
	return s
}

func neighboringWords(n accountant.Neighboring, unit string) string {
	switch n {
	case accountant.ReplaceOne:
		return fmt.Sprintf("Replace one: two sets of private data that differ in the content of one %s. Their number is public.", unit)
	case accountant.ZeroOut:
		return fmt.Sprintf("Zero out: the contribution of one %s is left out. Their number is public.", unit)
	default:
		return fmt.Sprintf("Add or remove: two sets of private data, one of which has one %s more.", unit)
	}
}

// outside lists what the claim does not say: what no run of scumble promises,
// then what this run adds.
func (r *Run) outside() []string {
	c := &r.Claim
	tuning := "Earlier training runs on the same private data: not declared for this report. If the configuration was chosen by looking at such runs, their cost adds to this claim unless the ledger holds them."
	if r.Tuning != "" {
		tuning = "Earlier training runs on the same private data: " + r.Tuning
	}
	all := []string{
		fmt.Sprintf("The unit is one %s. Somebody who appears in several is protected less: k of them multiply ε by about k.", c.unit()),
		"Facts about the population that hold whether or not any one " + c.unit() + " was there. The model is meant to learn them.",
		"The public base model and its training data. They are protected by nothing here.",
		"What was declared public is not protected.",
		tuning,
		"Evaluations on private data that the ledger does not list. Their figures, and logs of the run, are not part of this release.",
		"Other releases from the same private data. Their budgets add up; the ledger of the data set holds what scumble knows of.",
		"Side channels: run time, memory and power of the training machine, and the file system of its owner.",
		"Equal quality for all groups. Differential privacy costs small groups more; look at the values per class.",
	}
	if c.PublicExamples > 0 && c.Delta > 1/(10*float64(c.PublicExamples)) {
		all = append(all, fmt.Sprintf("δ is above a tenth of one in the declared %s examples, which is more than usual.", count(c.PublicExamples)))
	}
	return append(all, r.Limits...)
}

func assumptions(unit string) []string {
	return []string{
		"The operating system's random numbers are unpredictable, and the noise generator built on them is.",
		"Computations in floating point follow the mechanism closely enough; the clip is rounded towards zero.",
		"No layer of the model mixes examples of a batch, and each " + unit + "'s gradient is clipped as a whole.",
		"The ledger file is complete: it was written before each release, and no copy without it was published.",
		"Every input weight comes from where this statement says.",
	}
}

// Check says whether what a statement says in words is what its numbers say:
// the sentence of the guarantee and what it means. It trusts the numbers.
func (s *Statement) Check() error {
	b := s.Bound
	if b == nil {
		return nil
	}
	unit, n := s.Setting.Unit, s.Setting.Neighboring
	switch {
	case !(b.Epsilon >= 0) || math.IsInf(b.Epsilon, 1) || !(b.Delta > 0 && b.Delta < 1):
		return fmt.Errorf("claim is epsilon %g at delta %g, want finite and not negative, and a delta in (0, 1)", b.Epsilon, b.Delta)
	case s.Setting.Examples > 0 && b.Delta >= 1/float64(s.Setting.Examples):
		return fmt.Errorf("delta is %g, want below 1/%d: at 1/N a mechanism may publish one example outright", b.Delta, s.Setting.Examples)
	case b.EpsilonRecount-b.RecountError > b.Epsilon*(1+recountTolerance):
		return fmt.Errorf("claim is epsilon %g, and its own second count says %g", b.Epsilon, b.EpsilonRecount)
	case s.Guarantee != sentence(n, unit, b.Epsilon, b.Delta):
		return errors.New("the sentence of the guarantee does not say what the numbers say")
	case s.Setting.Meaning != neighboringWords(n, unit):
		return errors.New("the words for neighbouring data do not say what the relation is")
	case !s.Meaning.near(meaning(b.Epsilon, b.Delta)):
		return errors.New("the meaning given is not that of the claim")
	}
	for _, f := range s.Paid {
		if !slices.ContainsFunc(s.Ledger.Rows, func(row LedgerRow) bool { return row.What == f.LedgerEntry }) {
			return fmt.Errorf("figure %q is paid for by ledger entry %q, which is not listed", f.Name, f.LedgerEntry)
		}
	}
	for _, w := range s.Provenance {
		if !w.Public && !w.Charged {
			return fmt.Errorf("there is a claim, and the weights %q are not public", w.Name)
		}
	}
	return nil
}

// Encode returns the statement as statement.json holds it.
func (s *Statement) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// ReadStatement reads a statement.json. It refuses unknown fields, and a
// statement that contradicts itself; it does not check the claim.
func ReadStatement(from io.Reader) (*Statement, error) {
	data, err := io.ReadAll(from)
	if err != nil {
		return nil, fmt.Errorf("read statement: %w", err)
	}
	var s Statement
	if err := decodeStrict(data, &s); err != nil {
		return nil, fmt.Errorf("read statement: %w", err)
	}
	switch {
	case s.Format != formatStatement:
		err = fmt.Errorf("format is %q, want %q", s.Format, formatStatement)
	case s.Guaranteed != (s.Bound != nil) || s.Guaranteed != (s.Meaning != nil):
		err = errors.New("it says both that there is a claim and that there is none")
	case s.Guaranteed && len(s.Unmet) > 0:
		err = fmt.Errorf("it has a claim though an assumption is unmet: %s", s.Unmet[0])
	case !s.Guaranteed && len(s.Unmet) == 0:
		err = errors.New("it has no claim and does not say why")
	}
	if err != nil {
		return nil, fmt.Errorf("read statement: %w", err)
	}
	return &s, nil
}
