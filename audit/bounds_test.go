package audit

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// gauss is one release of the plain Gaussian mechanism: the truth is known.
var gauss = Mechanism{NoiseMultiplier: 0.8, SamplingProbability: 1, Steps: 1, Delta: 1e-5}

// On the plain Gaussian mechanism, whose curve is known in closed form, every bound
// is above the truth no more often than its confidence allows, and the Gaussian
// one comes near. Of 60 runs 3 may be above on average; more than 10 happens once
// in 3000 such tests.
func TestBoundsHoldOnTheGaussianMechanism(t *testing.T) {
	const runs, canaries = 60, 1000
	plan, err := NewPlan(gauss, canaries, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(11, 12))
	var above [4]int
	var sum [4]float64
	claim := 0.0
	for range runs {
		c, err := Simulate(gauss, canaries, rng)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Result(plan, 0.95)
		if err != nil {
			t.Fatal(err)
		}
		claim = r.Claim
		for i, b := range []Bound{r.AssumptionFree, r.Curve, r.Gaussian, r.Steps} {
			if b.Epsilon > r.Claim {
				above[i]++
			}
			sum[i] += b.Epsilon / runs
		}
	}
	// ε of Gaussian noise 0.8 at delta 1e-5: δ(ε) = Φ(1/2σ - εσ) - e^ε Φ(-1/2σ - εσ).
	s := gauss.NoiseMultiplier
	phi := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	if d := phi(1/(2*s)-claim*s) - math.Exp(claim)*phi(-1/(2*s)-claim*s); math.Abs(d/1e-5-1) > 1e-3 {
		t.Errorf("delta at the claimed epsilon %g is %g, want 1e-5", claim, d)
	}
	t.Logf("claim %.3f; mean bounds %.3f; above the claim %v of %d", claim, sum, above, runs)
	for i, n := range above {
		if n > 10 {
			t.Errorf("bound %d is above the truth in %d of %d runs", i, n, runs)
		}
	}
	if above[3] > 0 { // At a confidence of one in a million.
		t.Errorf("the step-by-step bound is above the truth in %d runs", above[3])
	}
	// One step shows 500 coordinates of noise alone, of which the step-by-step bound
	// allows for an error of a sixth and more.
	if sum[2] < 0.7*claim || sum[3] < 0.5*claim {
		t.Errorf("mean bounds are %.3f, want the Gaussian one at least 70 %% and the step-by-step one 50 %% of %.3f", sum, claim)
	}
	if sum[0] > sum[1] || sum[1] > sum[2] {
		t.Errorf("mean bounds are %.3f, want more with more assumptions", sum)
	}
}

// Randomised response tells the truth with probability e^ε/(1+e^ε): the worst that
// pure privacy allows. Both one-run bounds hold there, and come near.
func TestOneRunOnRandomisedResponse(t *testing.T) {
	const runs, n, epsilon = 300, 1000, 1.5
	rng := rand.New(rand.NewPCG(5, 6))
	p := 1 / (1 + math.Exp(-epsilon))
	above, sum := 0, 0.0
	for range runs {
		o := OneRun{Canaries: n, Guesses: n}
		for range n {
			if rng.Float64() < p {
				o.Correct++
			}
		}
		e := o.Epsilon(0, 0.95)
		if e > epsilon {
			above++
		}
		sum += e / runs
	}
	// 5 % of 300 are 15; more than 31 happens once in 15,000 tests.
	if above > 31 || sum < 0.85*epsilon {
		t.Errorf("bound is above the truth in %d of %d runs, mean %.3f of %.3f, want at most 31 and at least 85 %%", above, runs, sum, epsilon)
	}
}

// Without delta the first bound is an exact binomial test.
func TestSteinkeWithoutDeltaIsBinomial(t *testing.T) {
	o := OneRun{Canaries: 500, Guesses: 100, Correct: 80}
	for _, epsilon := range []float64{0, 0.5, 1, 2} {
		want := binomialFrom(80, 100, math.Exp(epsilon)/(1+math.Exp(epsilon)))
		if got := o.steinke(epsilon, 0); math.Abs(got-want) > 1e-12 {
			t.Errorf("at epsilon %g: %g, want %g", epsilon, got, want)
		}
		if o.steinke(epsilon, 1e-5) < want {
			t.Errorf("at epsilon %g delta makes so many guesses rarer", epsilon)
		}
	}
	if e := (OneRun{Canaries: 500, Guesses: 100, Correct: 50}).Epsilon(1e-5, 0.95); e != 0 {
		t.Errorf("half of the guesses right gives epsilon %g, want 0", e)
	}
	more := (OneRun{Canaries: 500, Guesses: 100, Correct: 95}).Epsilon(1e-5, 0.95)
	if less := o.Epsilon(1e-5, 0.95); !(more > less && less > 0) {
		t.Errorf("95 right give %g and 80 give %g, want more with more", more, less)
	}
}

// A fifth less noise than claimed is found out.
func TestTooLittleNoiseIsCaught(t *testing.T) {
	claimed := Mechanism{NoiseMultiplier: 1, SamplingProbability: 0.2, Steps: 30, Delta: 1e-5}
	plan, err := NewPlan(claimed, 1000, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for _, share := range []float64{1, 0.8} {
		c, err := NewCanaries(claimed, 1000, rng)
		if err != nil {
			t.Fatal(err)
		}
		noised := make([]float64, 1000)
		for range claimed.Steps {
			var joined []int
			for i := range noised {
				noised[i] = share * claimed.NoiseMultiplier * rng.NormFloat64()
				if c.in[i] && rng.Float64() < claimed.SamplingProbability {
					noised[i]++
					joined = append(joined, i)
				}
			}
			if err := c.See(joined, noised); err != nil {
				t.Fatal(err)
			}
		}
		r, err := c.Result(plan, 0.95)
		if err != nil {
			t.Fatal(err)
		}
		if caught := len(r.Broken) > 0; caught != (share < 1) {
			t.Errorf("with %.2f of the noise: %q", share, r.Broken)
		}
	}
}

func TestCanariesRefuse(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	if _, err := NewCanaries(gauss, 50, rng); err == nil {
		t.Error("50 canaries are accepted")
	}
	if _, err := NewCanaries(Mechanism{NoiseMultiplier: -1, SamplingProbability: 1, Steps: 1, Delta: 1e-5}, 500, rng); err == nil {
		t.Error("a negative noise multiplier is accepted")
	}
	c, err := NewCanaries(gauss, 100, rng)
	if err != nil {
		t.Fatal(err)
	}
	plan := &Plan{family: newFamily(gauss, fine), count: 100}
	if _, err := c.Result(plan, 0.95); !errors.Is(err, errUnfinished) {
		t.Errorf("result before the last step: %v", err)
	}
	if err := c.See(nil, make([]float64, 99)); err == nil {
		t.Error("99 of 100 canaries are accepted")
	}
	bad := make([]float64, 100)
	bad[3] = math.NaN()
	if err := c.See(nil, bad); err == nil {
		t.Error("NaN is accepted")
	}
	outsider := 0
	for c.in[outsider] {
		outsider++
	}
	if err := c.See([]int{outsider}, make([]float64, 100)); err == nil {
		t.Error("a canary that is out joined")
	}
}
