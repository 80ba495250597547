package finetune

import (
	"context"
	"encoding/gob"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/subsample"
)

// farDraw returns a seed whose first batch is far from the expected size.
func farDraw(t testing.TB, n int, q float64) (seed uint64, drawn int) {
	t.Helper()
	for seed := uint64(1); seed < 1000; seed++ {
		sampler, err := subsample.NewInsecurePoisson(n, q, seed)
		if err != nil {
			t.Fatal(err)
		}
		if drawn := len(sampler.Draw()); math.Abs(float64(drawn)/(q*float64(n))-1) >= 0.5 {
			return seed, drawn
		}
	}
	t.Fatal("no seed draws a batch far from the expected size")
	return 0, 0
}

// checkDivisor: the gradient of a step, read off Adam's first moment, has the
// noise of the expected batch size, whatever was drawn and however many of its
// examples count for nothing.
func checkDivisor(t testing.TB, lostClass bool, wrong mistake) error {
	b := backendtest.Open(t, "go")
	c := tinyConfig(LoDA, tinyData(t, 40))
	c.LoDA.Rank, c.LoDA.FreezeEmbedder, c.LoDA.Kernel = 16, true, 1
	c.Training.Steps, c.Training.LabelDrop, c.Training.Multiplicity = 1, 0, 1
	base := tinyBase(t, b)
	if lostClass { // Every example of the last class has no finite gradient.
		row := base.Weights.Get("unet.class_embedding.weight")
		for i := 3 * row.Shape[1]; i < 4*row.Shape[1]; i++ {
			row.Data[i] = math.MaxFloat32
		}
	}
	seed, _ := farDraw(t, 40, c.Training.ExpectedBatchSize/40)
	o := options(filepath.Join(t.TempDir(), "run"))
	o.InsecureSeed, o.wrong = seed, wrong
	r, err := Run(context.Background(), b, c, base, o)
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(o.Dir, PrivateDir, stateFile))
	if err != nil {
		return err
	}
	defer f.Close()
	var s state
	if err := gob.NewDecoder(f).Decode(&s); err != nil {
		return err
	}
	squares := 0.0
	for _, v := range s.Adam.First {
		g := v / (1 - 0.9) // One step of Adam from zero.
		squares += g * g
	}
	// The noise's own deviation is NoiseMultiplier/B in units of the clipping
	// norm. The clipped sum adds at most drawn/B to the norm of the noise,
	// √n·NoiseMultiplier/B, and n values scatter by 1/√2n: six of those.
	n, m := float64(len(s.Adam.First)), r.Plan.Mechanism
	got := math.Sqrt(squares / n)
	want := m.NoiseMultiplier / m.ExpectedBatchSize
	signal := 40 / (m.NoiseMultiplier * math.Sqrt(n))
	if tolerance := 6/math.Sqrt(2*n) + signal*signal + 2e-4; !(math.Abs(got/want-1) <= tolerance) {
		return fmt.Errorf("gradient has deviation %.5g, want %.5g within a share of %.2g", got, want, tolerance)
	}
	return nil
}

// checkLedger: the ledger holds every step of a run, so that the claim it
// gives is that of the plan.
func checkLedger(t testing.TB, wrong mistake) error {
	b := backendtest.Open(t, "go")
	c := tinyConfig(LoDA, tinyData(t, 40))
	c.Training.Steps = 3
	o := options(filepath.Join(t.TempDir(), "run"))
	o.wrong = wrong
	r, err := Run(context.Background(), b, c, tinyBase(t, b), o)
	if err != nil {
		return err
	}
	record, err := accountant.ReadLedger(filepath.Join(o.Dir, LedgerFile))
	if err != nil {
		return err
	}
	if events := record.Events(); len(events) != 1 || events[0].Count != c.Training.Steps {
		return fmt.Errorf("ledger holds %+v, want one event %d times", events, c.Training.Steps)
	}
	if d := r.Claim.Epsilon - r.Plan.Epsilon; !(math.Abs(d) <= 1e-9) {
		return fmt.Errorf("claim is epsilon %g, the plan says %g", r.Claim.Epsilon, r.Plan.Epsilon)
	}
	return nil
}

// TestMistakesAreCaught proves the checks: each passes on the run as it is, and
// fails on the run with the mistake.
func TestMistakesAreCaught(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong mistake
		check func(t testing.TB, wrong mistake) error
	}{
		{"divisor of the realised batch", realisedDivisor, func(t testing.TB, wrong mistake) error { return checkDivisor(t, false, wrong) }},
		{"example that is not finite is dropped from the count", uncountNonFinite, func(t testing.TB, wrong mistake) error { return checkDivisor(t, true, wrong) }},
		{"ledger short by one", shortLedger, checkLedger},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.check(t, noMistake); err != nil {
				t.Errorf("check fails on the run as it is: %v", err)
			}
			err := c.check(t, c.wrong)
			if err == nil {
				t.Error("check passes on the run with the mistake")
			}
			t.Logf("caught: %v", err)
		})
	}
}
