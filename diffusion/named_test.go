package diffusion_test

import (
	"math"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/diffusion"
)

func TestStochasticCheck(t *testing.T) {
	churn := func(c diffusion.Churn) diffusion.Stochastic { return diffusion.Stochastic{Churn: c} }
	for name, c := range map[string]struct {
		o    diffusion.Stochastic
		of   diffusion.SamplerName
		want string // "" for none.
	}{
		"nothing":         {diffusion.Stochastic{}, diffusion.UseEuler, ""},
		"eta":             {diffusion.Stochastic{Eta: 1}, "", ""},
		"eta elsewhere":   {diffusion.Stochastic{Eta: 0.5}, diffusion.UseHeun, "only ddim"},
		"large eta":       {diffusion.Stochastic{Eta: 1.5}, diffusion.UseDDIM, "in [0, 1]"},
		"churn":           {churn(diffusion.Churn{Amount: 40, Min: 0.05, Max: 50, Noise: 1.003}), diffusion.UseEDM, ""},
		"churn elsewhere": {churn(diffusion.Churn{Amount: 40}), diffusion.UseDDIM, "only edm"},
		"bounds alone":    {churn(diffusion.Churn{Max: 1}), diffusion.UseEDM, "s_churn 0"},
		"crossed":         {churn(diffusion.Churn{Amount: 1, Min: 2, Max: 1}), diffusion.UseEDM, "above s_tmax"},
		"not a number":    {churn(diffusion.Churn{Amount: math.NaN()}), diffusion.UseEDM, "finite"},
	} {
		err := c.o.Check(c.of)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
}

// A name of DPM-Solver++ decides its order and its noise, whatever the config has.
func TestNamesOfSolvers(t *testing.T) {
	c := parse(t, []byte(`{"_class_name": "DPMSolverMultistepScheduler", "solver_order": 1}`))
	for name, want := range map[diffusion.SamplerName]bool{diffusion.UseDPM: false, diffusion.UseDPM3: false, diffusion.UseDPMSDE: true} {
		s, err := diffusion.NewSampler(name, c, 5, diffusion.Stochastic{})
		if err != nil {
			t.Fatal(err)
		}
		drawn := 0
		x, run := []float32{1}, s.NewRun()
		run.Begin(x, nil)
		for i := range s.Calls() {
			run.Step(i, x, []float32{0.1}, counter{&drawn})
		}
		if got := drawn > 0; got != want {
			t.Errorf("%s draws noise: %v, want %v", name, got, want)
		}
	}
}

type counter struct{ n *int }

func (c counter) NormFloat64() float64 { *c.n++; return 0 }
