package main

import (
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/accountant"
)

// selectionFlags describe tuning that releases the best of a random number of
// runs.
type selectionFlags struct{ meanRuns, shape float64 }

func (s *selectionFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.Float64Var(&s.meanRuns, "mean-runs", 0, "mean `NUMBER` of runs, drawn at random, of which only the best is released")
	f.Float64Var(&s.shape, "shape", 1, "`SHAPE` of that number's distribution: 1 geometric, 0 logarithmic, inf Poisson")
}

func (s *selectionFlags) given(c *cobra.Command) bool {
	return c.Flags().Changed("mean-runs") || c.Flags().Changed("shape")
}

// selectionFacts is what account prints with --mean-runs.
type selectionFacts struct {
	Epsilon     map[string]float64     `json:"epsilon"` // "rdp" only.
	Delta       float64                `json:"delta"`
	Neighboring accountant.Neighboring `json:"neighboring"`
	MeanRuns    float64                `json:"mean_runs"`
	Shape       string                 `json:"shape"` // JSON has no infinity.
	Order       float64                `json:"order"`
	Seconds     float64                `json:"seconds"`
}

// account answers for the best of the runs.
func (s *selectionFlags) account(c *cobra.Command, m *mechanismFlags, n accountant.Neighboring, asJSON bool) error {
	begin := time.Now()
	r, err := accountant.RDP{}.SelectEpsilon([]accountant.Event{m.event()}, accountant.Selection{MeanRuns: s.meanRuns, Shape: s.shape}, n, m.delta)
	if err != nil {
		return misuse(err)
	}
	if math.IsInf(r.Epsilon, 1) {
		return fmt.Errorf("epsilon is infinite at delta %g: this is no privacy; use more noise, fewer steps or fewer runs", m.delta)
	}
	if asJSON {
		return printJSON(c, selectionFacts{
			Epsilon: map[string]float64{"rdp": r.Epsilon}, Delta: m.delta, Neighboring: n,
			MeanRuns: s.meanRuns, Shape: fmt.Sprint(s.shape), Order: r.Order, Seconds: time.Since(begin).Seconds(),
		})
	}
	fmt.Fprintf(c.OutOrStdout(), "epsilon    %s at delta %g, %s (RDP, upper bound), for the best of %g runs on average\n",
		above(r.Epsilon), m.delta, n, s.meanRuns)
	return nil
}
