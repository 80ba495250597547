package finetune

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/audit"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/internal/backendtest"
)

// auditTiny audits a few steps of a tiny model with a mistake.
func auditTiny(t *testing.T, wrong mistake) *audit.Result {
	t.Helper()
	b := backendtest.Open(t, "go")
	folder := tinyData(t, 40)
	c := tinyConfig(LoDA, folder)
	c.Training.Steps, c.Training.Multiplicity = 12, 1
	const canaries = 400
	o := options("")
	o.InsecureSeed, o.wrong, o.PhysicalBatchSize = 5, wrong, 32
	a, err := NewAudit(t.Context(), b, c, tinyBase(t, b), "", canaries, 0, o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	m := a.Plan.Mechanism
	mechanism := audit.Mechanism{NoiseMultiplier: m.NoiseMultiplier, SamplingProbability: m.SamplingProbability, Steps: m.Steps, Delta: a.Plan.Delta}
	plan, err := audit.NewPlan(mechanism, canaries, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	coins, err := audit.NewCanaries(mechanism, canaries, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	images, err := dataset.Open(folder, dataset.Options{Classes: []string{"0", "1", "2", "3"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Train(t.Context(), images, coins.Members(), coins.See); err != nil {
		t.Fatal(err)
	}
	r, err := coins.Result(plan, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("claim %.3g, assumption-free %.3g, curve %.3g, Gaussian %.3g, steps %.3g, measured %+v: %s", r.Claim,
		r.AssumptionFree.Epsilon, r.Curve.Epsilon, r.Gaussian.Epsilon, r.Steps.Epsilon, r.Measured, strings.Join(r.Broken, "; "))
	return r
}

// The step of a run passes an audit; with mistakes that canaries can see it does
// not.
func TestAudit(t *testing.T) {
	r := auditTiny(t, noMistake)
	if len(r.Broken) > 0 {
		t.Errorf("audit of the step as it is says %q", r.Broken)
	}
	if s := r.Measured; math.Abs(s.Noise-1) > 0.07 || math.Abs(s.Signal-1) > 0.3 {
		t.Errorf("measured %+v, want 1", s)
	}
	for name, wrong := range map[string]mistake{"draws clipped apart": drawsApart, "divisor of the realised batch": realisedDivisor} {
		if r := auditTiny(t, wrong); len(r.Broken) == 0 {
			t.Errorf("audit does not see %s", name)
		}
	}
}

// An audit refuses images of another kind.
func TestAuditRefusesOtherImages(t *testing.T) {
	b := backendtest.Open(t, "go")
	a, err := NewAudit(t.Context(), b, tinyConfig(LoDA, tinyData(t, 40)), tinyBase(t, b), "", 100, 0, options(""))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, bad := range []*dataset.Set{
		{Height: 28, Width: 28, Channels: 1, Pixels: make([]byte, 784)},
		{Height: 28, Width: 28, Channels: 3, Pixels: make([]byte, 3*784), Labels: []int{0}, Classes: []string{"0", "1", "2", "3"}},
	} {
		if err := a.Train(t.Context(), bad, nil, func([]int, []float64) error { return nil }); err == nil {
			t.Errorf("images of %d channels are accepted", bad.Channels)
		}
	}
}
