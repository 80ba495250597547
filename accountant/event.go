package accountant

import (
	"encoding"
	"fmt"
	"math"
	"strings"
)

// Mechanism names a random mechanism whose privacy this package can account.
// The zero value is no mechanism; every accountant refuses it.
type Mechanism int

const (
	// PoissonGaussian adds Gaussian noise to a sum over a Poisson sample: one
	// step of DP-SGD. Examples join independently with SamplingProbability.
	PoissonGaussian Mechanism = iota + 1
	// Gaussian adds Gaussian noise to a sum over all examples.
	Gaussian
	// Laplace adds Laplace noise to a sum over all examples.
	Laplace
	// PoissonLaplace adds Laplace noise to a sum over a Poisson sample.
	PoissonLaplace
	// DiscreteGaussian adds discrete Gaussian noise to an integer
	// (Canonne, Kamath, Steinke 2020, https://arxiv.org/abs/2004.00010).
	DiscreteGaussian
	// TruncatedPoissonGaussian is PoissonGaussian with batches cut to at most
	// BatchLimit examples (https://arxiv.org/abs/2508.15089). Zero-out only.
	TruncatedPoissonGaussian
)

var mechanismNames = []string{
	PoissonGaussian:          "poisson-gaussian",
	Gaussian:                 "gaussian",
	Laplace:                  "laplace",
	PoissonLaplace:           "poisson-laplace",
	DiscreteGaussian:         "discrete-gaussian",
	TruncatedPoissonGaussian: "truncated-poisson-gaussian",
}

// Neighboring is the relation between two data sets that a guarantee keeps
// apart. The zero value is no relation: privacy has no default.
type Neighboring int

const (
	// AddOrRemove: one data set has one unit more. Both directions count.
	AddOrRemove Neighboring = iota + 1
	// ReplaceOne: one unit is exchanged for any other; the number is public.
	ReplaceOne
	// ZeroOut: one unit's contribution becomes zero; the number is public.
	ZeroOut
)

var neighboringNames = []string{
	AddOrRemove: "add-or-remove",
	ReplaceOne:  "replace-one",
	ZeroOut:     "zero-out",
}

var (
	_ encoding.TextMarshaler   = Mechanism(0)
	_ encoding.TextUnmarshaler = (*Mechanism)(nil)
	_ encoding.TextMarshaler   = Neighboring(0)
	_ encoding.TextUnmarshaler = (*Neighboring)(nil)
)

func (m Mechanism) valid() bool   { return m >= 1 && int(m) < len(mechanismNames) }
func (n Neighboring) valid() bool { return n >= 1 && int(n) < len(neighboringNames) }

// String returns the name used in flags and JSON, such as "poisson-gaussian".
func (m Mechanism) String() string {
	if !m.valid() {
		return fmt.Sprintf("Mechanism(%d)", int(m))
	}
	return mechanismNames[m]
}

// String returns the name used in flags and JSON, such as "add-or-remove".
func (n Neighboring) String() string {
	if !n.valid() {
		return fmt.Sprintf("Neighboring(%d)", int(n))
	}
	return neighboringNames[n]
}

// ParseMechanism is the inverse of Mechanism.String.
func ParseMechanism(name string) (Mechanism, error) {
	for i, s := range mechanismNames {
		if i > 0 && s == name {
			return Mechanism(i), nil
		}
	}
	return 0, fmt.Errorf("mechanism is %q, want one of %s", name, strings.Join(mechanismNames[1:], ", "))
}

// ParseNeighboring is the inverse of Neighboring.String.
func ParseNeighboring(name string) (Neighboring, error) {
	for i, s := range neighboringNames {
		if i > 0 && s == name {
			return Neighboring(i), nil
		}
	}
	return 0, fmt.Errorf("neighboring relation is %q, want one of %s", name, strings.Join(neighboringNames[1:], ", "))
}

// MarshalText implements encoding.TextMarshaler.
func (m Mechanism) MarshalText() ([]byte, error) {
	if !m.valid() {
		return nil, fmt.Errorf("mechanism is %d, want one of %s", int(m), strings.Join(mechanismNames[1:], ", "))
	}
	return []byte(mechanismNames[m]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mechanism) UnmarshalText(text []byte) (err error) {
	*m, err = ParseMechanism(string(text))
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (n Neighboring) MarshalText() ([]byte, error) {
	if !n.valid() {
		return nil, fmt.Errorf("neighboring relation is %d, want one of %s", int(n), strings.Join(neighboringNames[1:], ", "))
	}
	return []byte(neighboringNames[n]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Neighboring) UnmarshalText(text []byte) (err error) {
	*n, err = ParseNeighboring(string(text))
	return err
}

// MaxCount is the largest Count an accountant takes. It keeps sums of counts
// inside int64 and rounding errors inside their bounds.
const MaxCount = 1 << 40

// Event says what a mechanism did to private data, in the numbers that
// accounting needs. Every field is public: none may be computed from private
// data.
//
// NoiseMultiplier is always relative to the largest contribution of one unit
// (the clipping norm), whatever the neighbouring relation: that replacing a
// unit can move a sum twice as far is decided here in the package, once.
type Event struct {
	Mechanism           Mechanism `json:"mechanism"`            // What was done. Required.
	NoiseMultiplier     float64   `json:"noise_multiplier"`     // Noise standard deviation (Laplace: scale) / clipping norm. Required.
	SamplingProbability float64   `json:"sampling_probability"` // Chance that an example joins, in (0, 1]; 1 without sampling. Required.
	Count               int       `json:"count"`                // How many times it was done. Required.

	// ExamplesPerUnit bounds the examples of one unit (a patient, a user) when
	// examples are clipped and sampled one by one. Zero means 1. It is 1 too
	// when sampling and clipping go by unit.
	ExamplesPerUnit int `json:"examples_per_unit,omitempty"`
	// LatticeSensitivity is the clipping norm of DiscreteGaussian in lattice
	// steps. Zero means 1.
	LatticeSensitivity int `json:"lattice_sensitivity,omitempty"`
	// BatchLimit and DatasetSize belong to TruncatedPoissonGaussian: the most
	// examples a batch keeps, and the public number of examples.
	BatchLimit  int `json:"batch_limit,omitempty"`
	DatasetSize int `json:"dataset_size,omitempty"`
}

// DPSGD returns the event of steps DP-SGD steps with Poisson sampling.
func DPSGD(noiseMultiplier, samplingProbability float64, steps int) Event {
	return Event{
		Mechanism:           PoissonGaussian,
		NoiseMultiplier:     noiseMultiplier,
		SamplingProbability: samplingProbability,
		Count:               steps,
	}
}

// Validate reports the first value that accounting cannot take.
func (e Event) Validate() error {
	if !e.Mechanism.valid() {
		return fmt.Errorf("mechanism is %d, want one of %s", int(e.Mechanism), strings.Join(mechanismNames[1:], ", "))
	}
	if nm := e.NoiseMultiplier; !(nm > 0) || math.IsInf(nm, 1) { // !(x > 0) also catches NaN.
		return fmt.Errorf("noise multiplier is %g, want positive and finite; CalibrateNoiseMultiplier finds one", nm)
	}
	return e.validateRest()
}

// validateRest checks all but the noise multiplier, which a plan leaves open.
func (e Event) validateRest() error {
	if nm := e.NoiseMultiplier; nm != 0 && (nm < minNoise || nm > maxNoise) {
		return fmt.Errorf("noise multiplier is %g, want between %g and %g", nm, minNoise, maxNoise)
	}
	q := e.SamplingProbability
	if !(q > 0) || q > 1 {
		return fmt.Errorf("sampling probability is %g, want in (0, 1]; 1 means every example joins", q)
	}
	if q < minProbability {
		return fmt.Errorf("sampling probability is %g, want at least %g", q, minProbability)
	}
	switch e.Mechanism {
	case PoissonGaussian, PoissonLaplace, TruncatedPoissonGaussian:
	default:
		if q != 1 {
			return fmt.Errorf("sampling probability of %s is %g, want 1; poisson-gaussian and poisson-laplace sample", e.Mechanism, q)
		}
	}
	if e.Count <= 0 || e.Count > MaxCount {
		return fmt.Errorf("count (steps) is %d, want 1 to %d", e.Count, MaxCount)
	}
	if e.ExamplesPerUnit < 0 || e.ExamplesPerUnit > maxExamplesPerUnit {
		return fmt.Errorf("examples per unit is %d, want 1 to %d, or 0 for 1", e.ExamplesPerUnit, maxExamplesPerUnit)
	}
	if e.ExamplesPerUnit > 1 && e.Mechanism != PoissonGaussian && e.Mechanism != Gaussian && e.Mechanism != Laplace {
		return fmt.Errorf("examples per unit is %d, want 1 for %s; poisson-gaussian, gaussian and laplace take more", e.ExamplesPerUnit, e.Mechanism)
	}
	if e.LatticeSensitivity != 0 && e.Mechanism != DiscreteGaussian {
		return fmt.Errorf("lattice sensitivity is %d, want 0 for %s; only discrete-gaussian has one", e.LatticeSensitivity, e.Mechanism)
	}
	if e.LatticeSensitivity < 0 || e.LatticeSensitivity > maxLattice {
		return fmt.Errorf("lattice sensitivity is %d, want 1 to %d, or 0 for 1", e.LatticeSensitivity, maxLattice)
	}
	if e.Mechanism == TruncatedPoissonGaussian {
		if e.BatchLimit < 1 {
			return fmt.Errorf("batch limit is %d, want at least 1", e.BatchLimit)
		}
		if e.DatasetSize < 1 {
			return fmt.Errorf("dataset size is %d, want at least 1; truncated sampling needs a public one", e.DatasetSize)
		}
	} else if e.BatchLimit != 0 || e.DatasetSize != 0 {
		return fmt.Errorf("batch limit is %d and dataset size %d, want 0 for %s; only truncated-poisson-gaussian has them", e.BatchLimit, e.DatasetSize, e.Mechanism)
	}
	return nil
}

// Limits of the input, wide of anything that trains and narrow enough that
// float64 keeps the promised accuracy.
const (
	minNoise           = 1e-2
	maxNoise           = 1e9
	minProbability     = 1e-12
	maxExamplesPerUnit = 1000
	maxLattice         = 1 << 20
	minDelta           = 1e-100
	maxEpsilon         = 1e6
)

func validateEvents(events []Event, n Neighboring) error {
	if !n.valid() {
		return fmt.Errorf("neighboring relation is %d, want one of %s", int(n), strings.Join(neighboringNames[1:], ", "))
	}
	total := 0
	for i, e := range events {
		if err := e.Validate(); err != nil {
			return fmt.Errorf("event %d: %w", i, err)
		}
		if e.Mechanism == TruncatedPoissonGaussian && n != ZeroOut {
			return fmt.Errorf("event %d: neighboring relation is %s, want zero-out for %s, whose dataset size is public", i, n, e.Mechanism)
		}
		if total += e.Count; total > MaxCount {
			return fmt.Errorf("events count %d steps together, want at most %d", total, MaxCount)
		}
	}
	return nil
}

func validateDelta(delta float64) error {
	if !(delta > 0) || delta >= 1 {
		return fmt.Errorf("delta is %g, want in (0, 1), well below 1 / number of examples", delta)
	}
	if delta < minDelta {
		return fmt.Errorf("delta is %g, want at least %g", delta, minDelta)
	}
	return nil
}

func validateEpsilon(epsilon float64) error {
	if !(epsilon >= 0) || epsilon > maxEpsilon {
		return fmt.Errorf("epsilon is %g, want 0 to %g", epsilon, maxEpsilon)
	}
	return nil
}

// key is an event without its count: equal keys compose by adding counts.
func (e Event) key() Event {
	e.Count = 0
	e.ExamplesPerUnit = max(e.ExamplesPerUnit, 1)
	if e.Mechanism == DiscreteGaussian {
		e.LatticeSensitivity = max(e.LatticeSensitivity, 1)
	}
	return e
}

// Group merges events that differ in their count only, in order of first
// appearance. Composition does not depend on order, so no cost changes.
func Group(events []Event) []Event {
	at := make(map[Event]int, 4)
	var grouped []Event
	for _, e := range events {
		k := e.key()
		if i, ok := at[k]; ok {
			grouped[i].Count += e.Count
			continue
		}
		at[k] = len(grouped)
		grouped = append(grouped, e)
	}
	return grouped
}
