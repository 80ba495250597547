package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/accountant"
)

// mechanismFlags are the numbers of a run and its claim, as flags.
type mechanismFlags struct {
	noiseMultiplier     float64
	samplingProbability float64
	steps               int
	epsilon, delta      float64
	neighboring         string

	mechanism                string
	examplesPerUnit, lattice int
	batchLimit, datasetSize  int
}

const (
	noiseFlag    = "noise-multiplier"
	samplingFlag = "sampling-probability"
	stepsFlag    = "steps"
	epsilonFlag  = "epsilon"
	deltaFlag    = "delta"
)

// add defines the flags that account and calibrate share.
func (m *mechanismFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.SortFlags = false
	f.Float64Var(&m.noiseMultiplier, noiseFlag, 0, "`RATIO` of the noise standard deviation to the clipping norm")
	f.Float64Var(&m.samplingProbability, samplingFlag, 0, "`PROB` that an example joins a step, in (0, 1]; 1 is no sampling")
	f.IntVar(&m.steps, stepsFlag, 0, "noisy updates, a `COUNT`")
	f.Float64Var(&m.delta, deltaFlag, 0, "`PROB` that the guarantee may fail, below 1 / number of examples")
	f.StringVar(&m.neighboring, "neighboring", accountant.AddOrRemove.String(), "`RELATION` of data sets kept apart: add-or-remove, replace-one\nor zero-out")
	f.StringVar(&m.mechanism, "mechanism", accountant.PoissonGaussian.String(), "`NAME` of what is done: poisson-gaussian, gaussian, laplace, poisson-laplace,\ndiscrete-gaussian or truncated-poisson-gaussian")
	f.IntVar(&m.examplesPerUnit, "examples-per-unit", 1, "most examples of one unit (a patient), a `COUNT`, when they are sampled\nand clipped one by one")
	f.IntVar(&m.lattice, "lattice-sensitivity", 0, "clipping norm of discrete-gaussian in lattice `STEPS`; 0 is 1")
	f.IntVar(&m.batchLimit, "batch-limit", 0, "most examples that a batch of truncated-poisson-gaussian keeps, a `COUNT`")
	f.IntVar(&m.datasetSize, "dataset-size", 0, "public number of examples for truncated-poisson-gaussian, a `COUNT`")
}

// kindFlags describe the mechanism, beside the five numbers of a claim.
var kindFlags = []string{"mechanism", "examples-per-unit", "lattice-sensitivity", "batch-limit", "dataset-size"}

// sampled reports whether the mechanism samples; others take every example.
func (m *mechanismFlags) sampled() bool {
	e := accountant.Event{NoiseMultiplier: 1, SamplingProbability: 0.5, Count: 1}
	e.Mechanism, _ = accountant.ParseMechanism(m.mechanism)
	e.BatchLimit, e.DatasetSize = m.batchLimit, m.datasetSize
	return e.Mechanism == accountant.TruncatedPoissonGaussian || e.Validate() == nil
}

// check reports the first of the named flags whose value no accountant takes.
// Ranges are those of package accountant; each flag is tried alone in an event
// that is sound otherwise, so that the error names it.
func (m *mechanismFlags) check(names ...string) (accountant.Neighboring, error) {
	n, err := accountant.ParseNeighboring(m.neighboring)
	if err != nil {
		return 0, misuse(fmt.Errorf("--neighboring is %q, want add-or-remove, replace-one or zero-out", m.neighboring))
	}
	if _, err := accountant.ParseMechanism(m.mechanism); err != nil {
		return 0, misuse(fmt.Errorf("--mechanism: %w", err))
	}
	if m.examplesPerUnit < 1 {
		return 0, misuse(fmt.Errorf("--examples-per-unit is %d, want at least 1", m.examplesPerUnit))
	}
	for _, name := range names {
		var err error
		switch name {
		case noiseFlag:
			if nm := m.noiseMultiplier; !(nm > 0) || math.IsInf(nm, 1) {
				return n, misuse(fmt.Errorf("--%s is %g, want positive and finite; scumble calibrate finds one", name, nm))
			}
			err = accountant.DPSGD(m.noiseMultiplier, 1, 1).Validate()
		case samplingFlag:
			err = accountant.DPSGD(1, m.samplingProbability, 1).Validate()
		case stepsFlag:
			err = accountant.DPSGD(1, 1, m.steps).Validate()
		case epsilonFlag:
			if !(m.epsilon > 0) {
				return n, misuse(fmt.Errorf("--%s is %g, want positive", name, m.epsilon))
			}
			_, err = accountant.PLD{}.Delta(nil, n, m.epsilon)
		case deltaFlag:
			_, err = accountant.PLD{}.Epsilon(nil, n, m.delta)
		}
		if err != nil {
			return n, misuse(fmt.Errorf("--%s: %w", name, err))
		}
	}
	// Now what flags say together, with 1 for the one that is solved for.
	e := m.event()
	if e.NoiseMultiplier == 0 {
		e.NoiseMultiplier = 1
	}
	if e.SamplingProbability == 0 {
		e.SamplingProbability = 1
	}
	e.Count = max(e.Count, 1)
	if err := e.Validate(); err != nil {
		return n, misuse(err)
	}
	if _, err := (accountant.RDP{}).Curve([]accountant.Event{e}, n, nil); err != nil { // Does the relation fit?
		return n, misuse(err)
	}
	return n, nil
}

// event returns the run of the flags. A mechanism that does not sample takes
// every example.
func (m *mechanismFlags) event() accountant.Event {
	mechanism, _ := accountant.ParseMechanism(m.mechanism) // Checked before.
	e := accountant.Event{
		Mechanism: mechanism, NoiseMultiplier: m.noiseMultiplier,
		SamplingProbability: m.samplingProbability, Count: m.steps,
		LatticeSensitivity: m.lattice, BatchLimit: m.batchLimit, DatasetSize: m.datasetSize,
	}
	if e.SamplingProbability == 0 && !m.sampled() {
		e.SamplingProbability = 1
	}
	if m.examplesPerUnit > 1 {
		e.ExamplesPerUnit = m.examplesPerUnit
	}
	return e
}

// epsilonClaim is one epsilon by both accountants.
type epsilonClaim struct {
	PLD      float64 `json:"pld"`       // The claim: an upper bound.
	PLDLower float64 `json:"pld_lower"` // No accountant can claim less.
	RDP      float64 `json:"rdp"`       // An upper bound too, usually looser.
}

// claimOf asks both accountants.
func claimOf(events []accountant.Event, n accountant.Neighboring, delta float64) (epsilonClaim, accountant.Result, error) {
	pld, err := accountant.PLD{}.Epsilon(events, n, delta)
	if err != nil {
		return epsilonClaim{}, pld, err
	}
	rdp, err := accountant.RDP{}.Epsilon(events, n, delta)
	if err != nil {
		return epsilonClaim{}, pld, err
	}
	if math.IsInf(pld.Epsilon, 1) || math.IsInf(rdp.Epsilon, 1) {
		return epsilonClaim{}, pld, fmt.Errorf("epsilon is infinite at delta %g: this is no privacy; use more noise or fewer steps", delta)
	}
	return epsilonClaim{PLD: pld.Epsilon, PLDLower: pld.Lower, RDP: rdp.Epsilon}, pld, nil
}

func newAccount() *cobra.Command {
	var m mechanismFlags
	var past pastFlags
	var selection selectionFlags
	var cases string
	var asJSON bool
	c := &cobra.Command{
		Use:   "account",
		Short: "Compute the epsilon of DP-SGD",
		Long: `account computes the epsilon that a DP-SGD run with Poisson sampling costs, or
another --mechanism. It opens no data. pld is the claim, an upper bound that
covers rounding; pld_lower is what no accountant can claim less than; rdp is
an independent upper bound.

With --ledger the run comes on top of what a ledger holds on the same data set.
With --mean-runs only the best of a random number of runs is released; rdp
alone accounts for that.

--cases answers a whole table: a JSON array in the schema of the file
accountant/testdata/accounting_vectors.json.`,
		Example: "  scumble account --noise-multiplier 1.1 --sampling-probability 0.01 --steps 1000 --delta 1e-5",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if cases != "" {
				names := []string{noiseFlag, samplingFlag, stepsFlag, deltaFlag, "neighboring", "ledger", "mean-runs", "shape"}
				for _, name := range append(names, kindFlags...) {
					if c.Flags().Changed(name) {
						return misuse(fmt.Errorf("--cases and --%s exclude each other: each case has its own", name))
					}
				}
				return accountCases(c, cases, asJSON)
			}
			return account(c, &m, &past, &selection, asJSON)
		},
	}
	m.add(c)
	past.add(c)
	selection.add(c)
	c.Flags().StringVar(&cases, "cases", "", "answer each case of `FILE`, a JSON array; - is standard input")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object; with --cases, a JSON array")
	return c
}

// accountFacts is what account prints for one run.
type accountFacts struct {
	Epsilon             epsilonClaim           `json:"epsilon"`
	Delta               float64                `json:"delta"`
	Neighboring         accountant.Neighboring `json:"neighboring"`
	Mechanism           accountant.Mechanism   `json:"mechanism"`
	NoiseMultiplier     float64                `json:"noise_multiplier"`
	SamplingProbability float64                `json:"sampling_probability"`
	Steps               int                    `json:"steps"`
	ExamplesPerUnit     int                    `json:"examples_per_unit"`
	LatticeSensitivity  int                    `json:"lattice_sensitivity,omitempty"`
	BatchLimit          int                    `json:"batch_limit,omitempty"`
	DatasetSize         int                    `json:"dataset_size,omitempty"`
	Spent               []accountant.Event     `json:"spent"` // From --ledger; part of the claim.
	Direction           string                 `json:"direction"`
	Mesh                float64                `json:"mesh"`
	Seconds             float64                `json:"seconds"`
}

// account answers for one run.
func account(c *cobra.Command, m *mechanismFlags, past *pastFlags, selection *selectionFlags, asJSON bool) error {
	begin := time.Now()
	names := []string{noiseFlag, stepsFlag, deltaFlag}
	if m.sampled() || c.Flags().Changed(samplingFlag) {
		names = []string{noiseFlag, samplingFlag, stepsFlag, deltaFlag}
	}
	for _, name := range names {
		if !c.Flags().Changed(name) {
			return misuse(fmt.Errorf("--%s is missing, want %s", name, wanted(name)))
		}
	}
	n, err := m.check(names...)
	if err != nil {
		return err
	}
	spent, err := past.events(n)
	if err != nil {
		return err
	}
	if selection.given(c) {
		if past.ledger != "" {
			return misuse(errors.New("--mean-runs and --ledger exclude each other: the best of several runs is not one run on top of others"))
		}
		return selection.account(c, m, n, asJSON)
	}
	event := m.event()
	claim, pld, err := claimOf(append(slices.Clone(spent), event), n, m.delta)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(c, accountFacts{
			Epsilon: claim, Delta: m.delta, Neighboring: n, Mechanism: event.Mechanism,
			NoiseMultiplier: event.NoiseMultiplier, SamplingProbability: event.SamplingProbability, Steps: event.Count,
			ExamplesPerUnit: m.examplesPerUnit, LatticeSensitivity: m.lattice, BatchLimit: m.batchLimit, DatasetSize: m.datasetSize,
			Spent: spent, Direction: pld.Direction, Mesh: pld.Mesh, Seconds: time.Since(begin).Seconds(),
		})
	}
	printSpent(c, spent)
	claim.print(c, m.delta, n)
	return nil
}

// wanted says what a missing flag should hold.
func wanted(name string) string {
	switch name {
	case noiseFlag:
		return "noise standard deviation / clipping norm, positive"
	case samplingFlag:
		return "a probability in (0, 1]"
	case stepsFlag:
		return "the number of noisy updates, at least 1"
	case epsilonFlag:
		return "the epsilon to keep, positive"
	}
	return "a probability in (0, 1), below 1 / number of examples"
}

// print rounds upper bounds up and lower ones down, so that what is read off
// holds.
func (e epsilonClaim) print(c *cobra.Command, delta float64, n accountant.Neighboring) {
	out := c.OutOrStdout()
	fmt.Fprintf(out, "epsilon    %s at delta %g, %s (PLD, upper bound)\n", above(e.PLD), delta, n)
	fmt.Fprintf(out, "pld_lower  %s\n", below(e.PLDLower))
	fmt.Fprintf(out, "rdp        %s\n", above(e.RDP))
}

// above returns v in 6 digits, rounded up; below, rounded down.
func above(v float64) string { return fmt.Sprintf("%.6g", roundUp(v)) }
func below(v float64) string { return fmt.Sprintf("%.6g", roundDown(v)) }

// roundUp and roundDown return a positive number in 6 digits, no smaller and
// no larger than v.
func roundUp(v float64) float64 {
	near, unit := sixDigits(v)
	if near < v {
		near, _ = sixDigits(near + unit)
	}
	return near
}

func roundDown(v float64) float64 {
	near, unit := sixDigits(v)
	if near > v {
		near, _ = sixDigits(near - unit)
	}
	return near
}

// sixDigits returns the nearest number of 6 digits and the unit of its last.
func sixDigits(v float64) (near, unit float64) {
	text := strconv.FormatFloat(v, 'e', 5, 64)
	near, err := strconv.ParseFloat(text, 64)
	_, exponent, ok := strings.Cut(text, "e")
	if err != nil || !ok { // Infinite.
		return v, 0
	}
	power, err := strconv.Atoi(exponent)
	if err != nil {
		return v, 0
	}
	return near, math.Pow10(power - 5)
}

// accountCases answers a table of cases, in order.
func accountCases(c *cobra.Command, path string, asJSON bool) error {
	data, err := readInput(c, path)
	if err != nil {
		return invalid(err)
	}
	cases, err := accountant.ReadCases(data)
	if err != nil {
		return invalid(fmt.Errorf("%s: %w", path, err))
	}
	results, err := runCases(c.Context(), cases)
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(c, results)
	} else {
		err = printCases(c, results)
	}
	if err != nil {
		return err
	}
	failed := 0
	for _, r := range results {
		if r.Error != "" {
			failed++
			fmt.Fprintf(c.ErrOrStderr(), "scumble: case %q: %s\n", r.ID, r.Error)
		}
	}
	if failed > 0 {
		return invalid(fmt.Errorf("%d of %d cases have no answer", failed, len(results)))
	}
	return nil
}

// runCases is accountant.RunCases with an end: it stops when ctx does.
func runCases(ctx context.Context, cases []accountant.Case) ([]accountant.CaseResult, error) {
	results := make([]accountant.CaseResult, 0, len(cases))
	for i := range cases {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r := cases[i].Run()
		if e := r.Epsilon; e != nil && (math.IsInf(e.PLD, 0) || math.IsInf(e.RDP, 0)) { // JSON has no infinity.
			r.Epsilon, r.Error = nil, "epsilon is infinite"
		}
		results = append(results, r)
	}
	return results, nil
}

func printCases(c *cobra.Command, results []accountant.CaseResult) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "id\tquantity\tpld\tpld_lower\trdp\tseconds")
	for _, r := range results {
		switch {
		case r.Epsilon != nil:
			fmt.Fprintf(w, "%s\tepsilon\t%s\t%s\t%s\t%.3f\n", r.ID, above(r.Epsilon.PLD), below(r.Epsilon.PLDLower), above(r.Epsilon.RDP), r.Seconds)
		case r.NoiseMultiplier != nil:
			fmt.Fprintf(w, "%s\tnoise multiplier\t%s\t\t%s\t%.3f\n", r.ID, above(r.NoiseMultiplier.PLD), above(r.NoiseMultiplier.RDP), r.Seconds)
		default:
			fmt.Fprintf(w, "%s\tno answer\t\t\t\t%.3f\n", r.ID, r.Seconds)
		}
	}
	return w.Flush()
}

// maxInput bounds what a command reads from a file that a user names.
const maxInput = 64 << 20

// readInput reads a small file, or standard input for "-".
func readInput(c *cobra.Command, path string) ([]byte, error) {
	in := c.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if len(data) > maxInput {
		return nil, fmt.Errorf("%s has more than %d bytes, want a table of cases", path, maxInput)
	}
	return data, err
}
