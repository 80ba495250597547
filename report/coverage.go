package report

import (
	"fmt"
	"strings"
	"time"
)

// Coverage says why a number may be released. The zero value says that the
// claim does not cover it.
type Coverage int

const (
	// NotCovered: computed from private data without payment. Stays private.
	NotCovered Coverage = iota
	// Public: computed from public data, the config or the machine.
	Public
	// PostProcessing: computed from released weights or samples and public
	// data only. Differential privacy is closed under it.
	PostProcessing
	// Paid: a noisy answer about private data that the ledger has an entry for.
	Paid
)

var coverageNames = []string{
	NotCovered:     "not-covered",
	Public:         "public",
	PostProcessing: "post-processing",
	Paid:           "paid",
}

var coverageWords = []string{
	NotCovered:     "not covered by the claim",
	Public:         "public",
	PostProcessing: "computed from the release",
	Paid:           "paid for in the ledger",
}

func (c Coverage) valid() bool { return c >= 0 && int(c) < len(coverageNames) }

// Releasable reports whether the release edition may hold the number.
func (c Coverage) Releasable() bool { return c == Public || c == PostProcessing || c == Paid }

// String returns the name used in JSON, such as "post-processing".
func (c Coverage) String() string {
	if !c.valid() {
		return fmt.Sprintf("Coverage(%d)", int(c))
	}
	return coverageNames[c]
}

// words returns what a reader of the report sees.
func (c Coverage) words() string {
	if !c.valid() {
		return coverageWords[NotCovered]
	}
	return coverageWords[c]
}

// MarshalText implements encoding.TextMarshaler.
func (c Coverage) MarshalText() ([]byte, error) {
	if !c.valid() {
		return nil, fmt.Errorf("coverage is %d, want one of %s", int(c), strings.Join(coverageNames, ", "))
	}
	return []byte(coverageNames[c]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Coverage) UnmarshalText(text []byte) error {
	for i, name := range coverageNames {
		if name == string(text) {
			*c = Coverage(i)
			return nil
		}
	}
	return fmt.Errorf("coverage is %q, want one of %s", text, strings.Join(coverageNames, ", "))
}

// covered returns the part of r that the release edition may show. It lists
// what it takes: a new field of Run is private until it is named here. Times
// become dates, and those of the ledger that of its first entry: how long the
// steps took depends on how many examples joined them.
func (r *Run) covered() *Run {
	c := &Run{
		Title:               r.Title,
		Version:             r.Version,
		Created:             day(r.Created),
		Method:              r.Method,
		Base:                r.Base,
		BaseProvenance:      r.BaseProvenance,
		Weights:             r.Weights,
		Claim:               r.Claim,
		Classes:             r.Classes,
		ImageSize:           r.ImageSize,
		Channels:            r.Channels,
		PublicInputs:        r.PublicInputs,
		Ledger:              r.Ledger.dated(),
		TrainableParameters: r.TrainableParameters,
		TotalParameters:     r.TotalParameters,
		Tuning:              r.Tuning,
		Limits:              r.Limits,
		Config:              r.Config,
		Files:               r.Files,
	}
	if r.Grid != nil && r.Grid.Covered.Releasable() {
		c.Grid = r.Grid
	}
	if r.PublicGrid != nil && r.PublicGrid.Covered.Releasable() {
		c.PublicGrid = r.PublicGrid
	}
	if r.Neighbors != nil && r.Neighbors.Covered.Releasable() {
		c.Neighbors = r.Neighbors
	}
	for _, s := range r.Scores {
		if s.Covered.Releasable() {
			c.Scores = append(c.Scores, s)
		}
	}
	for _, s := range r.Curves {
		if s.Covered.Releasable() {
			c.Curves = append(c.Curves, s)
		}
	}
	c.Audits = releasedAudits(r.Audits)
	for _, f := range r.Facts {
		if f.Covered.Releasable() {
			c.Facts = append(c.Facts, f)
		}
	}
	return c
}

// dated returns the ledger with the date of its first entry for all times.
func (l Ledger) dated() Ledger {
	rows := make([]LedgerRow, len(l.Rows))
	for i, r := range l.Rows {
		r.First = day(r.First)
		r.Last = r.First
		rows[i] = r
	}
	l.Rows = rows
	return l
}

// day returns the UTC day of t.
func day(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(24 * time.Hour)
}
