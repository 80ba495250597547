package accountant

import (
	"math"
	"strings"
	"testing"
)

// TestRefusalsSayWhatIsAllowed: each bad value is named with the value and
// the range, by every function that takes it.
func TestRefusalsSayWhatIsAllowed(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	run := func(noise, q float64, steps int) []Event { return []Event{DPSGD(noise, q, steps)} }
	pld := func(events []Event, delta float64) func() error {
		return func() error { _, err := PLD{}.Epsilon(events, AddOrRemove, delta); return err }
	}
	noise := func(q float64, steps int, epsilon, delta float64) func() error {
		return func() error {
			_, err := CalibrateNoiseMultiplier(PLD{}, nil, DPSGD(0, q, steps), AddOrRemove, epsilon, delta)
			return err
		}
	}
	selection := func(mean, shape float64) func() error {
		return func() error {
			_, err := RDP{}.SelectEpsilon(run(1, 0.1, 1), Selection{MeanRuns: mean, Shape: shape}, AddOrRemove, 1e-5)
			return err
		}
	}
	user := func(e Event, n Neighboring) func() error {
		return func() error { _, err := PLD{}.Epsilon([]Event{e}, n, 1e-5); return err }
	}
	for name, c := range map[string]struct {
		do   func() error
		want []string
	}{
		"noise NaN":            {pld(run(nan, 0.1, 1), 1e-5), []string{"noise multiplier is NaN", "positive and finite"}},
		"noise negative":       {pld(run(-1, 0.1, 1), 1e-5), []string{"noise multiplier is -1", "positive and finite"}},
		"noise tiny":           {pld(run(1e-9, 0.1, 1), 1e-5), []string{"noise multiplier is 1e-09", "between 0.01 and 1e+09"}},
		"probability above 1":  {pld(run(1, 1.5, 1), 1e-5), []string{"sampling probability is 1.5", "(0, 1]"}},
		"probability NaN":      {pld(run(1, nan, 1), 1e-5), []string{"sampling probability is NaN", "(0, 1]"}},
		"probability negative": {pld(run(1, -0.1, 1), 1e-5), []string{"sampling probability is -0.1", "(0, 1]"}},
		"steps 0":              {pld(run(1, 0.1, 0), 1e-5), []string{"steps) is 0", "1 to"}},
		"steps negative":       {pld(run(1, 0.1, -3), 1e-5), []string{"steps) is -3", "1 to"}},
		"delta 0":              {pld(run(1, 0.1, 1), 0), []string{"delta is 0", "(0, 1)"}},
		"delta 1":              {pld(run(1, 0.1, 1), 1), []string{"delta is 1", "(0, 1)"}},
		"delta NaN":            {pld(run(1, 0.1, 1), nan), []string{"delta is NaN", "(0, 1)"}},
		"delta negative":       {pld(run(1, 0.1, 1), -1e-5), []string{"delta is -1e-05", "(0, 1)"}},
		"target 0":             {noise(0.1, 1, 0, 1e-5), []string{"target epsilon is 0", "(0, 1e+06]"}},
		"target NaN":           {noise(0.1, 1, nan, 1e-5), []string{"target epsilon is NaN", "(0, 1e+06]"}},
		"target beyond all":    {noise(0.1, 1, 1e9, 1e-5), []string{"target epsilon is 1e+09", "(0, 1e+06]"}},
		"target at delta 1":    {noise(0.1, 1, 1, 1), []string{"delta is 1", "(0, 1)"}},
		"calibrated q above 1": {noise(2, 1, 1, 1e-5), []string{"sampling probability is 2", "(0, 1]"}},
		"calibrated steps 0":   {noise(0.1, 0, 1, 1e-5), []string{"steps) is 0", "1 to"}},
		"less than one run":    {selection(0.5, 1), []string{"mean runs is 0.5", "1 to 1e9"}},
		"shape NaN":            {selection(2, nan), []string{"shape is NaN", "0 or more"}},
		"infinite runs":        {selection(inf, 1), []string{"mean runs is +Inf", "1 to 1e9"}},
		"unit":                 {user(Event{Mechanism: PoissonGaussian, NoiseMultiplier: 1, SamplingProbability: 0.1, Count: 1, ExamplesPerUnit: -2}, AddOrRemove), []string{"examples per unit is -2", "1 to"}},
		"batch limit":          {user(Event{Mechanism: TruncatedPoissonGaussian, NoiseMultiplier: 1, SamplingProbability: 0.1, Count: 1, DatasetSize: 5}, ZeroOut), []string{"batch limit is 0", "at least 1"}},
		"data set size":        {user(Event{Mechanism: TruncatedPoissonGaussian, NoiseMultiplier: 1, SamplingProbability: 0.1, Count: 1, BatchLimit: 5}, ZeroOut), []string{"dataset size is 0", "at least 1"}},
		"cut, add or remove":   {user(Event{Mechanism: TruncatedPoissonGaussian, NoiseMultiplier: 1, SamplingProbability: 0.1, Count: 1, BatchLimit: 5, DatasetSize: 9}, AddOrRemove), []string{"add-or-remove", "want zero-out"}},
	} {
		err := c.do()
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error is %q, want it to say %q", name, err, want)
			}
		}
	}
}
