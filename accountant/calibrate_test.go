package accountant

import (
	"errors"
	"math"
	"testing"
)

func mustEpsilon(t *testing.T, a Accountant, delta float64, events ...Event) float64 {
	t.Helper()
	r, err := a.Epsilon(events, AddOrRemove, delta)
	if err != nil {
		t.Fatal(err)
	}
	return r.Epsilon
}

// TestCalibrateAfterSpending: what is found fits, and a little more does not.
func TestCalibrateAfterSpending(t *testing.T) {
	spent := []Event{DPSGD(2, 0.01, 500), {Mechanism: Gaussian, NoiseMultiplier: 20, SamplingProbability: 1, Count: 1}}
	const epsilon, delta = 3, 1e-5
	for name, a := range map[string]Accountant{"pld": PLD{}, "rdp": RDP{}} {
		plan := DPSGD(0, 0.02, 800)
		nm, err := CalibrateNoiseMultiplier(a, spent, plan, AddOrRemove, epsilon, delta)
		if err != nil {
			t.Fatal(err)
		}
		plan.NoiseMultiplier = nm
		if e := mustEpsilon(t, a, delta, append(spent, plan)...); e > epsilon {
			t.Errorf("%s: noise multiplier %g costs %g, budget is %d", name, nm, e, epsilon)
		}
		plan.NoiseMultiplier = nm * (1 - 1e-4)
		if e := mustEpsilon(t, a, delta, append(spent, plan)...); e <= epsilon {
			t.Errorf("%s: noise multiplier %g is larger than needed: less costs %g", name, nm, e)
		}

		plan.NoiseMultiplier = 1.5
		steps, err := CalibrateSteps(a, spent, plan, AddOrRemove, epsilon, delta)
		if err != nil {
			t.Fatal(err)
		}
		for more, fits := range map[int]bool{0: true, 2: false} { // One step of slack for the mesh.
			plan.Count = steps + more
			if e := mustEpsilon(t, a, delta, append(spent, plan)...); (e <= epsilon) != fits {
				t.Errorf("%s: %d steps found, %d cost %.9g of %d", name, steps, plan.Count, e, epsilon)
			}
		}

		plan.Count = 800
		q, err := CalibrateSamplingProbability(a, spent, plan, AddOrRemove, epsilon, delta)
		if err != nil {
			t.Fatal(err)
		}
		plan.SamplingProbability = q
		if e := mustEpsilon(t, a, delta, append(spent, plan)...); e > epsilon || e < epsilon*(1-1e-3) {
			t.Errorf("%s: sampling probability %g costs %g of %d", name, q, e, epsilon)
		}
	}
}

func TestCalibrateRefuses(t *testing.T) {
	plan := DPSGD(0, 0.02, 800)
	if _, err := CalibrateNoiseMultiplier(PLD{}, []Event{DPSGD(0.8, 0.02, 800)}, plan, AddOrRemove, 1, 1e-5); !errors.Is(err, ErrBudget) {
		t.Errorf("budget is spent already: got %v", err)
	}
	plan.NoiseMultiplier = 0.4
	if _, err := CalibrateSteps(PLD{}, nil, plan, AddOrRemove, 0.01, 1e-9); !errors.Is(err, ErrBudget) {
		t.Errorf("not one step fits: got %v", err)
	}
	for _, epsilon := range []float64{0, -1, math.NaN(), math.Inf(1), 1e7} {
		if _, err := CalibrateNoiseMultiplier(PLD{}, nil, plan, AddOrRemove, epsilon, 1e-5); err == nil {
			t.Errorf("target epsilon %g: no error", epsilon)
		}
	}
	if _, err := CalibrateSamplingProbability(PLD{}, nil, Event{Mechanism: Gaussian, NoiseMultiplier: 1, SamplingProbability: 1, Count: 1}, AddOrRemove, 1, 1e-5); err == nil {
		t.Error("Gaussian does not sample: no error")
	}
}

func TestSamplingOfOneIsFound(t *testing.T) {
	q, err := CalibrateSamplingProbability(PLD{}, nil, DPSGD(10, 0, 1), AddOrRemove, 5, 1e-5)
	if err != nil || q != 1 {
		t.Errorf("got %g, %v, want 1: everything fits", q, err)
	}
}
