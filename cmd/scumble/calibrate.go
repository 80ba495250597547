package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/accountant"
)

// calibration is what calibrate found.
type calibration struct {
	Solved              string                 `json:"solved"` // Which of the next five was asked for.
	NoiseMultiplier     float64                `json:"noise_multiplier"`
	SamplingProbability float64                `json:"sampling_probability"`
	Steps               int                    `json:"steps"`
	Mechanism           accountant.Mechanism   `json:"mechanism"`
	ExamplesPerUnit     int                    `json:"examples_per_unit"`
	Epsilon             float64                `json:"epsilon"` // The target; claim is what the run costs.
	Delta               float64                `json:"delta"`
	Neighboring         accountant.Neighboring `json:"neighboring"`
	Spent               []accountant.Event     `json:"spent"` // From --ledger; part of the claim.
	Claim               epsilonClaim           `json:"claim"`
	Seconds             float64                `json:"seconds"`
}

func newCalibrate() *cobra.Command {
	var m mechanismFlags
	var past pastFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "calibrate",
		Short: "Solve for noise, steps, sampling, epsilon or delta",
		Long: `calibrate takes four of --noise-multiplier, --sampling-probability, --steps,
--epsilon and --delta and solves for the fifth, rounded to the safe side: the
claim was checked with the value that is printed. A --mechanism that does not
sample needs no --sampling-probability. It opens no data.

With --ledger the run comes on top of what a ledger holds on the same data set,
and exit code 4 says that nothing is left.`,
		Example: "  scumble calibrate --epsilon 10 --delta 1e-5 --sampling-probability 0.05 --steps 1000",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			begin := time.Now()
			solved, given, err := unknown(c, &m)
			if err != nil {
				return err
			}
			n, err := m.check(given...)
			if err != nil {
				return err
			}
			spent, err := past.events(n)
			if err != nil {
				return err
			}
			if err := m.solve(solved, spent, n); err != nil {
				return err
			}
			found := calibration{
				Solved:          strings.ReplaceAll(solved, "-", "_"),
				NoiseMultiplier: m.noiseMultiplier, SamplingProbability: m.event().SamplingProbability, Steps: m.steps,
				Mechanism: m.event().Mechanism, ExamplesPerUnit: m.examplesPerUnit,
				Epsilon: m.epsilon, Delta: m.delta, Neighboring: n, Spent: spent,
			}
			found.Claim, _, err = claimOf(append(slices.Clone(spent), m.event()), n, m.delta)
			if err != nil {
				return err
			}
			found.Seconds = time.Since(begin).Seconds()
			if asJSON {
				return printJSON(c, found)
			}
			found.print(c)
			return nil
		},
	}
	m.add(c)
	f := c.Flags()
	f.Float64Var(&m.epsilon, epsilonFlag, 0, "`EPSILON` that the run may cost")
	past.add(c)
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// unknown returns the one flag that was not given, and the others.
func unknown(c *cobra.Command, m *mechanismFlags) (solved string, given []string, err error) {
	var missing []string
	for _, name := range []string{noiseFlag, samplingFlag, stepsFlag, epsilonFlag, deltaFlag} {
		if name == samplingFlag && !m.sampled() && !c.Flags().Changed(name) {
			continue // Every example joins.
		}
		if c.Flags().Changed(name) {
			given = append(given, name)
		} else {
			missing = append(missing, name)
		}
	}
	switch len(missing) {
	case 0:
		return "", nil, misuse(errors.New("nothing to solve for: leave out the flag that you want, or use scumble account"))
	case 1:
		return missing[0], given, nil
	}
	return "", nil, misuse(fmt.Errorf("--%s are missing, want four of the five; the fifth is solved", strings.Join(missing, ", --")))
}

// solve sets the one value that is missing, on the pessimistic accountant.
func (m *mechanismFlags) solve(name string, spent []accountant.Event, n accountant.Neighboring) (err error) {
	pld := accountant.PLD{UpperOnly: true}
	plan := m.event()
	switch name {
	case noiseFlag:
		m.noiseMultiplier, err = accountant.CalibrateNoiseMultiplier(pld, spent, plan, n, m.epsilon, m.delta)
	case samplingFlag:
		plan.SamplingProbability = 1
		m.samplingProbability, err = accountant.CalibrateSamplingProbability(pld, spent, plan, n, m.epsilon, m.delta)
	case stepsFlag:
		plan.Count = 1
		m.steps, err = accountant.CalibrateSteps(pld, spent, plan, n, m.epsilon, m.delta)
	case epsilonFlag:
		var r accountant.Result
		r, err = pld.Epsilon(append(slices.Clone(spent), plan), n, m.delta)
		m.epsilon = r.Epsilon
	case deltaFlag:
		m.delta, err = solveDelta(append(slices.Clone(spent), plan), n, m.epsilon)
	}
	return err
}

// solveDelta returns a delta, in 6 digits, at which the claim is at most
// epsilon. The accountant's own delta is as good, but its epsilon there may be
// larger by the two roundings up.
func solveDelta(events []accountant.Event, n accountant.Neighboring, epsilon float64) (float64, error) {
	pld := accountant.PLD{UpperOnly: true}
	r, err := pld.Delta(events, n, epsilon)
	if err != nil {
		return 0, err
	}
	delta := roundUp(r.Delta)
	for more := 1e-6; delta > 0 && delta < 1; more *= 2 {
		back, err := pld.Epsilon(events, n, delta)
		if err != nil {
			return 0, err
		}
		if back.Epsilon <= epsilon {
			return delta, nil
		}
		delta = roundUp(r.Delta * (1 + more))
	}
	return 0, fmt.Errorf("delta is %g at epsilon %g, want in (0, 1); choose another --epsilon", r.Delta, epsilon)
}

func (r calibration) print(c *cobra.Command) {
	out := c.OutOrStdout()
	switch r.Solved {
	case "steps":
		fmt.Fprintf(out, "steps                 %d\n", r.Steps)
	case "sampling_probability":
		fmt.Fprintf(out, "sampling probability  %g\n", r.SamplingProbability)
	case "noise_multiplier":
		fmt.Fprintf(out, "noise multiplier      %g\n", r.NoiseMultiplier)
	case "delta":
		fmt.Fprintf(out, "delta                 %g\n", r.Delta)
	case "epsilon":
		fmt.Fprintf(out, "epsilon               %s\n", above(r.Epsilon))
	}
	printSpent(c, r.Spent)
	r.Claim.print(c, r.Delta, r.Neighboring)
}

// printSpent lists what a ledger holds, if anything.
func printSpent(c *cobra.Command, spent []accountant.Event) {
	if len(spent) == 0 {
		return
	}
	out := c.OutOrStdout()
	fmt.Fprintln(out, "\non top of")
	for _, e := range spent {
		fmt.Fprintf(out, "  %s\n", eventText(e))
	}
	fmt.Fprintln(out)
}

// eventText writes an event as a line of text.
func eventText(e accountant.Event) string {
	text := fmt.Sprintf("%d x %s, noise multiplier %g", e.Count, e.Mechanism, e.NoiseMultiplier)
	if e.SamplingProbability != 1 {
		text += fmt.Sprintf(", sampling probability %g", e.SamplingProbability)
	}
	if e.ExamplesPerUnit > 1 {
		text += fmt.Sprintf(", %d examples per unit", e.ExamplesPerUnit)
	}
	return text
}

// pastFlags name a ledger whose events come before those of a plan.
type pastFlags struct {
	ledger    string
	dataset   string
	spentOnly bool
}

func (p *pastFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.ledger, "ledger", "", "add up with the runs in the ledger of `DIR`, plans in full")
	f.StringVar(&p.dataset, "dataset", "", "`NAME` of the data set in the ledger, if it has several")
	f.BoolVar(&p.spentOnly, "spent-only", false, "count what the runs spent, not what they may still spend if resumed")
}

// events returns what the ledger holds on the data set.
func (p *pastFlags) events(n accountant.Neighboring) ([]accountant.Event, error) {
	if p.ledger == "" {
		if p.dataset != "" || p.spentOnly {
			return nil, misuse(errors.New("--dataset and --spent-only say what to take from --ledger, which is missing"))
		}
		return []accountant.Event{}, nil
	}
	record, _, err := openRecord(p.ledger)
	if err != nil {
		return nil, err
	}
	totals, err := accountant.Compose(record)
	if err != nil {
		return nil, invalid(err)
	}
	var names []string
	for _, t := range totals {
		if t.Dataset == p.dataset || p.dataset == "" && len(totals) == 1 {
			if t.Neighboring != n {
				return nil, misuse(fmt.Errorf("--neighboring is %s, but the ledger has %s for data set %q; they do not add up", n, t.Neighboring, t.Dataset))
			}
			if p.spentOnly {
				return t.Spent, nil
			}
			return t.Planned, nil
		}
		names = append(names, fmt.Sprintf("%q", t.Dataset))
	}
	switch {
	case len(totals) == 0 && p.dataset == "":
		return []accountant.Event{}, nil
	case p.dataset == "":
		return nil, misuse(fmt.Errorf("the ledger has several data sets, want one of %s with --dataset", strings.Join(names, ", ")))
	}
	return nil, misuse(fmt.Errorf("--dataset is %q, but the ledger has %s", p.dataset, strings.Join(append(names, "no other"), ", ")))
}
