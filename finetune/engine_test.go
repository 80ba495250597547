package finetune

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// refusing returns a Go backend that has no memory for steps of tinyBase with
// more than n examples, and counts what it refuses.
func refusing(t testing.TB, n int, refused *atomic.Int64) compute.Backend {
	return backendtest.Faulty(backendtest.Open(t, "go"), func(parameters []shapes.Shape) error {
		for _, s := range parameters {
			if s.Rank() == 4 && s.Dimensions[1] == 7 && s.Dimensions[3] == 16 && s.Dimensions[0] > n {
				refused.Add(1)
				return errors.New("RESOURCE_EXHAUSTED: Out of memory")
			}
		}
		return nil
	})
}

// Memory that runs out in the middle of training changes nothing: the same
// weights beyond rounding, and each step in the ledger once.
func TestRunOutOfMemory(t *testing.T) {
	data := tinyData(t, 40)
	c := tinyConfig(LoDA, data)
	train := func(b compute.Backend) *Result {
		t.Helper()
		o := options(filepath.Join(t.TempDir(), "run"))
		o.InsecureSeed = 11
		r, err := Run(context.Background(), b, c, tinyBase(t, b), o)
		if err != nil {
			t.Fatal(err)
		}
		record, err := accountant.ReadLedger(filepath.Join(o.Dir, LedgerFile))
		if err != nil {
			t.Fatal(err)
		}
		if events := record.Events(); len(events) != 1 || events[0].Count != c.Training.Steps {
			t.Errorf("ledger holds %+v, want one event %d times", events, c.Training.Steps)
		}
		return r
	}
	want := train(backendtest.Open(t, "go"))
	if want.Engine.Size != 5 {
		t.Errorf("physical batch is %d, want the 5 that were asked for", want.Engine.Size)
	}
	draws := c.Training.Multiplicity
	for n, size := range map[int]int{4: 2, 1: 1} {
		var refused atomic.Int64
		got := train(refusing(t, n*draws, &refused))
		if refused.Load() == 0 || got.Engine.Size != size {
			t.Errorf("room for %d: physical batch is %d after %d refusals, want %d", n, got.Engine.Size, refused.Load(), size)
		}
		var off, all float64
		for _, w := range want.Model.Weights.All() {
			for i, v := range got.Model.Weights.Get(w.Name).Data {
				off += math.Pow(float64(v-w.Data[i]), 2)
				all += math.Pow(float64(w.Data[i]), 2)
			}
		}
		if !(off <= 1e-8*all) { // Squares.
			t.Errorf("room for %d: weights are off by %g of %g", n, math.Sqrt(off), math.Sqrt(all))
		}
	}
	if _, err := Run(context.Background(), refusing(t, 0, new(atomic.Int64)), c, tinyBase(t, backendtest.Open(t, "go")), options(filepath.Join(t.TempDir(), "run"))); !errors.Is(err, dpsgd.ErrMemory) {
		t.Errorf("no room at all: error is %v", err)
	}
}

// A precision that the backend gains nothing from is refused by its key.
func TestComputeRefused(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := tinyConfig(LoDA, filepath.Join(t.TempDir(), "nowhere"))
	c.Data.Classes = []string{"0", "1", "2", "3"}
	c.Training.Compute = nn.BFloat16
	_, err := Run(context.Background(), b, c, tinyBase(t, b), options(filepath.Join(t.TempDir(), "run")))
	if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "training.compute is bfloat16") {
		t.Errorf("error is %v", err)
	}
}

// The engine is chosen, and named, before an image is opened: it cannot depend
// on one.
func TestEngineIsChosenBeforeData(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := tinyConfig(LoDA, filepath.Join(t.TempDir(), "nowhere"))
	c.Data.Classes = []string{"0", "1", "2", "3"}
	o := options(filepath.Join(t.TempDir(), "run"))
	o.Engine, o.PhysicalBatchSize, o.TuneCache = "", 0, t.TempDir()
	var chosen []*dpsgd.Choice
	o.Tuned = func(choice *dpsgd.Choice) { chosen = append(chosen, choice) }
	for range 2 {
		if _, err := Run(context.Background(), b, c, tinyBase(t, b), o); err == nil {
			t.Fatal("a run without data succeeded")
		}
	}
	if len(chosen) != 2 || len(chosen[0].Trials) < 2 || chosen[0].Cached || !chosen[1].Cached {
		t.Fatalf("choices are %+v, want one that tried both engines, and the same from the folder", chosen)
	}
	best := chosen[0].Trials[0]
	for _, trial := range chosen[0].Trials {
		if trial.Seconds < best.Seconds {
			best = trial
		}
	}
	for _, choice := range chosen {
		if choice.Method != best.Method || choice.Size != best.Size {
			t.Errorf("chose %s, want %s of %d", choice, best.Method, best.Size)
		}
	}
}
