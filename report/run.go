package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/scumble-dp/scumble/accountant"
)

// Run is everything a report shows of one run. All of it is public or covered
// by the claim, except the scores, curves, facts and pictures whose Covered is
// [NotCovered].
type Run struct {
	Title   string    `json:"title"`
	Version string    `json:"version"` // Of the software, with its commit.
	Created time.Time `json:"created"`

	Method         string   `json:"method"`            // "attention", "loda", "lora" or "full".
	Base           string   `json:"base"`              // Name of the public base model.
	BaseProvenance string   `json:"base_provenance"`   // What it was trained on, and its licence.
	Weights        []Weight `json:"weights,omitempty"` // Every weight file that went in.
	Claim          Claim    `json:"claim"`
	Classes        []string `json:"classes,omitempty"` // Public names, in the order of labels.
	ImageSize      int      `json:"image_size"`        // Pixels; images are square.
	Channels       int      `json:"channels"`          // 1 or 3.
	PublicInputs   []Item   `json:"public_inputs"`     // What was declared public.
	Ledger         Ledger   `json:"ledger"`
	Tuning         string   `json:"tuning,omitempty"` // How earlier runs on the same data were accounted for. Empty: not declared.
	Limits         []string `json:"limits,omitempty"` // What is not promised, beyond what every report lists.
	Config         string   `json:"config"`           // The resolved config.yaml, byte for byte.
	Files          []File   `json:"files,omitempty"`  // What else is released, by hash.

	TrainableParameters int `json:"trainable_parameters"`
	TotalParameters     int `json:"total_parameters"`

	Grid       *Picture `json:"grid,omitempty"`        // Synthetic images by class.
	PublicGrid *Picture `json:"public_grid,omitempty"` // The same from the base model.
	Neighbors  *Picture `json:"neighbors,omitempty"`   // Synthetic images beside the nearest public ones.
	Scores     []Score  `json:"scores,omitempty"`      // The first one is the headline.
	Curves     []Curve  `json:"curves,omitempty"`
	Audits     []Audit  `json:"audits,omitempty"`
	Facts      []Fact   `json:"facts,omitempty"` // Time per stage, peak memory, backend, machine.
}

// Item is a name and its value.
type Item struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Weight is one file of weights that the run started from.
type Weight struct {
	Name      string `json:"name"`       // "autoencoder", "denoiser", …
	TrainedOn string `json:"trained_on"` // Data set and its source.
	Licence   string `json:"licence"`
	SHA256    string `json:"sha256,omitempty"` // In hex.
	Public    bool   `json:"public"`           // Trained on public data only. If not, and not Charged, there is no guarantee.
	// Charged says that they were trained on the same private data, by a run that
	// the ledger charges.
	Charged bool `json:"charged,omitempty"`
}

// File is a released file, named by its slash-separated path in the release.
type File struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// Ledger is a summary of the ledger: its entries in groups, and its head.
type Ledger struct {
	Rows    []LedgerRow `json:"rows"`
	Entries int         `json:"entries"` // Lines of the file.
	Head    string      `json:"head"`    // SHA-256 of the last line, in hex.
}

// LedgerRow is a group of equal entries.
type LedgerRow struct {
	What  string           `json:"what"`  // "DP-SGD step", "noisy class histogram", …
	Event accountant.Event `json:"event"` // Its Count is that of the group.
	First time.Time        `json:"first"`
	Last  time.Time        `json:"last"`
}

// Picture is a finished picture. It is decoded and encoded again before it is
// written, so that nothing but its pixels goes out.
type Picture struct {
	PNG       []byte   `json:"png"`
	Alt       string   `json:"alt"` // What one sees, for those who do not. Required.
	Caption   string   `json:"caption,omitempty"`
	RowLabels []string `json:"row_labels,omitempty"` // One for each of its rows, which are of equal height.
	Covered   Coverage `json:"covered"`
}

// Scale says how a score is written.
type Scale string

const (
	Fraction Scale = ""       // In [0, 1], written in percent.
	Plain    Scale = "number" // Any number.
)

// Score is one figure of merit.
type Score struct {
	Name        string    `json:"name"` // "Classifier trained on synthetic images", …
	Value       float64   `json:"value"`
	Spread      float64   `json:"spread,omitempty"`    // Standard deviation over Seeds.
	Seeds       int       `json:"seeds,omitempty"`     // Repetitions that Value is the mean of. Zero: not repeated.
	Tests       int       `json:"tests,omitempty"`     // Images that a Fraction is a share of. Zero: no interval is given.
	PerClass    []float64 `json:"per_class,omitempty"` // In the order of Run.Classes.
	Interval    []float64 `json:"interval,omitempty"`  // Low and high end, of 95 %, where it is not Wilson's. Empty: not given.
	Scale       Scale     `json:"scale,omitempty"`
	TrainedOn   string    `json:"trained_on,omitempty"`
	TestedOn    string    `json:"tested_on,omitempty"`
	Note        string    `json:"note,omitempty"`
	Covered     Coverage  `json:"covered"`
	LedgerEntry string    `json:"ledger_entry,omitempty"` // What of the row that paid, if Covered is Paid.

	Subgroups []Subgroup `json:"subgroups,omitempty"` // Parts of the test images. As covered as the score.
}

// Subgroup is a score on a part of the test images, in the scale of its score.
type Subgroup struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Spread float64 `json:"spread,omitempty"`
	Tests  int     `json:"tests,omitempty"`
}

// Curve is a line chart. Do not pass epsilon here: [Claim.Spent] is for it.
type Curve struct {
	Title       string   `json:"title"`
	X           string   `json:"x"` // Names of the axes, with units.
	Y           string   `json:"y"`
	Series      []Series `json:"series"`
	Note        string   `json:"note,omitempty"`
	Covered     Coverage `json:"covered"`
	LedgerEntry string   `json:"ledger_entry,omitempty"`
}

// Series is one line of a chart.
type Series struct {
	Name string    `json:"name"`
	X    []float64 `json:"x"`
	Y    []float64 `json:"y"`
}

// Fact is anything else worth a line.
type Fact struct {
	Name        string   `json:"name"`
	Value       string   `json:"value"`
	Covered     Coverage `json:"covered"`
	LedgerEntry string   `json:"ledger_entry,omitempty"`
}

// Validate reports the first thing that no report can be made of.
func (r *Run) Validate() error {
	switch {
	case r.Title == "":
		return errors.New("report has no title, want one")
	case r.Version == "":
		return errors.New("report has no software version, want one: a claim names what made it")
	case r.Created.IsZero():
		return errors.New("report has no time of creation, want one")
	case r.Method == "":
		return errors.New("report has no method, want attention, loda or full")
	case r.TrainableParameters < 0 || r.TotalParameters < r.TrainableParameters:
		return fmt.Errorf("trainable parameters are %d of %d, want 0 to the total", r.TrainableParameters, r.TotalParameters)
	}
	if err := r.Claim.validate(); err != nil {
		return fmt.Errorf("claim: %w", err)
	}
	if err := r.Ledger.validate(r.Claim); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	for _, p := range []*Picture{r.Grid, r.PublicGrid, r.Neighbors} {
		if p == nil {
			continue
		}
		if _, err := p.clean(); err != nil {
			return err
		}
	}
	for _, s := range r.Scores {
		if err := s.validate(r); err != nil {
			return fmt.Errorf("score %q: %w", s.Name, err)
		}
	}
	for _, c := range r.Curves {
		if err := c.validate(r); err != nil {
			return fmt.Errorf("curve %q: %w", c.Title, err)
		}
	}
	for _, a := range r.Audits {
		if err := a.validate(r); err != nil {
			return fmt.Errorf("audit %q: %w", a.Name, err)
		}
	}
	for _, f := range r.Facts {
		if err := r.checkCoverage(f.Covered, f.LedgerEntry); err != nil {
			return fmt.Errorf("fact %q: %w", f.Name, err)
		}
	}
	return nil
}

func (s *Score) validate(r *Run) error {
	if s.Name == "" {
		return errors.New("no name, want one")
	}
	for _, v := range append([]float64{s.Value, s.Spread}, s.PerClass...) {
		if !finite(v) {
			return fmt.Errorf("value is %g, want finite", v)
		}
		if s.Scale == Fraction && !(v >= 0 && v <= 1) {
			return fmt.Errorf("value is %g, want 0 to 1; set Scale to Plain for other numbers", v)
		}
	}
	if n := len(s.Interval); n != 0 && (n != 2 || !(s.Interval[0] <= s.Value && s.Value <= s.Interval[1]) || !finite(s.Interval[0]) || !finite(s.Interval[1])) {
		return fmt.Errorf("interval is %v, want two ends around the value %g", s.Interval, s.Value)
	}
	if s.Tests < 0 {
		return fmt.Errorf("number of tests is %d, want positive, or 0 for not given", s.Tests)
	}
	if s.Scale != Fraction && s.Scale != Plain {
		return fmt.Errorf("scale is %q, want %q or %q", s.Scale, Fraction, Plain)
	}
	for _, g := range s.Subgroups {
		if g.Name == "" || !finite(g.Value) || !finite(g.Spread) || g.Tests < 0 || s.Scale == Fraction && !(g.Value >= 0 && g.Value <= 1) {
			return fmt.Errorf("subgroup %q has value %g ± %g of %d tests, want a name and finite numbers", g.Name, g.Value, g.Spread, g.Tests)
		}
	}
	if n := len(s.PerClass); n != 0 && n != len(r.Classes) {
		return fmt.Errorf("has %d per-class values for %d classes, want one for each", n, len(r.Classes))
	}
	return r.checkCoverage(s.Covered, s.LedgerEntry)
}

func (c *Curve) validate(r *Run) error {
	if len(c.Series) == 0 {
		return errors.New("no series, want one or more")
	}
	for _, s := range c.Series {
		if len(s.X) != len(s.Y) {
			return fmt.Errorf("series %q has %d x and %d y, want as many", s.Name, len(s.X), len(s.Y))
		}
		for i := range s.X {
			if !finite(s.X[i]) || !finite(s.Y[i]) {
				return fmt.Errorf("series %q has a point (%g, %g), want finite; leave it out", s.Name, s.X[i], s.Y[i])
			}
		}
	}
	return r.checkCoverage(c.Covered, c.LedgerEntry)
}

// checkCoverage refuses a number that says it was paid for by an entry that
// the ledger does not have.
func (r *Run) checkCoverage(c Coverage, entry string) error {
	if !c.valid() {
		return fmt.Errorf("coverage is %d, want one of %v", int(c), coverageNames)
	}
	if c != Paid {
		return nil
	}
	for _, row := range r.Ledger.Rows {
		if entry != "" && row.What == entry {
			return nil
		}
	}
	return fmt.Errorf("is paid for by ledger entry %q, which the ledger does not have", entry)
}

// validate checks that the ledger counts no less than the claim says was run.
func (l *Ledger) validate(c Claim) error {
	if len(l.Rows) == 0 {
		return errors.New("no rows, want one or more: there is no claim without a ledger")
	}
	if b, err := hex.DecodeString(l.Head); err != nil || len(b) != sha256.Size {
		return fmt.Errorf("head is %q, want a SHA-256 in hex", l.Head)
	}
	steps := 0
	for _, row := range l.Rows {
		if row.What == "" {
			return errors.New("a row does not say what was done")
		}
		if err := row.Event.Validate(); err != nil {
			return fmt.Errorf("row %q: %w", row.What, err)
		}
		if row.Event.NoiseMultiplier == c.NoiseMultiplier && row.Event.SamplingProbability == c.SamplingProbability {
			steps += row.Event.Count
		}
	}
	if steps < c.Steps {
		return fmt.Errorf("records %d steps with the noise multiplier and sampling probability of the claim, want at least its %d", steps, c.Steps)
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

const formatReport = "scumble-report/1"

// file is private/report.json.
type file struct {
	Format string `json:"format"`
	Notice string `json:"notice"`
	Run    *Run   `json:"run"`
}

const privateNotice = "INTERNAL: holds numbers that the claim does not cover. Must not leave."

func (r *Run) encode() ([]byte, error) {
	data, err := json.MarshalIndent(file{Format: formatReport, Notice: privateNotice, Run: r}, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// Read reads the report.json that [WritePrivate] writes, so that both editions
// can be rendered again. It refuses unknown fields.
func Read(from io.Reader) (*Run, error) {
	data, err := io.ReadAll(from)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	var f file
	if err := decodeStrict(data, &f); err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	if f.Format != formatReport {
		return nil, fmt.Errorf("read report: format is %q, want %q", f.Format, formatReport)
	}
	if f.Run == nil {
		return nil, errors.New("read report: it holds no run")
	}
	if err := f.Run.Validate(); err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	return f.Run, nil
}

// decodeStrict decodes exactly one JSON value without unknown fields.
func decodeStrict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value, want one")
	}
	return nil
}
