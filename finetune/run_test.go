package finetune

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// options of a test run on the pure Go backend.
func options(dir string) Options {
	return Options{Dir: dir, Lowering: nn.Patches, Workers: 2, PhysicalBatchSize: 5, Engine: dpsgd.BookKeeping}
}

// A run charges exactly its steps, keeps its claim, moves every trainable
// tensor, no frozen one, and releases a model that loads.
func TestRunMovesWhatItTrainsAndNothingElse(t *testing.T) {
	b := backendtest.Open(t, "go")
	data := tinyData(t, 40)
	for _, method := range []Method{Attention, LoDA, Full} {
		t.Run(string(method), func(t *testing.T) {
			c := tinyConfig(method, data)
			base := tinyBase(t, b)
			before := base.Weights.Clone()
			dir := filepath.Join(t.TempDir(), "run")
			r, err := Run(context.Background(), b, c, base, options(dir))
			if err != nil {
				t.Fatal(err)
			}
			if r.Claim.Epsilon > c.Privacy.Epsilon || r.Claim.Epsilon < 0.99*c.Privacy.Epsilon {
				t.Errorf("claim is epsilon %g, want just below %g", r.Claim.Epsilon, c.Privacy.Epsilon)
			}
			record, err := accountant.ReadLedger(filepath.Join(dir, LedgerFile))
			if err != nil {
				t.Fatal(err)
			}
			if events := record.Events(); len(events) != 1 || events[0].Count != c.Training.Steps {
				t.Errorf("ledger holds %+v, want one event %d times", events, c.Training.Steps)
			}
			released, err := checkpoint.Load(filepath.Join(dir, ReleaseDir, "model"))
			if err != nil {
				t.Fatal(err)
			}
			trained := 0
			for _, w := range released.Weights.All() {
				old := before.Get(w.Name)
				moved := old == nil || !slices.Equal(old.Data, w.Data)
				want := isTrained(method, w.Name)
				if want {
					trained += len(w.Data)
				}
				if moved != want {
					t.Errorf("%s: moved is %t, want %t", w.Name, moved, want)
				}
			}
			if trained != r.Plan.TrainableParameters {
				t.Errorf("%d parameters trained, the plan says %d", trained, r.Plan.TrainableParameters)
			}
		})
	}
}

// isTrained is the rule of each method, by name alone.
func isTrained(m Method, name string) bool {
	switch m {
	case Attention:
		return strings.Contains(name, ".attentions.") || name == "unet.class_embedding.weight"
	case LoDA:
		return strings.Contains(name, ".lora_") || strings.Contains(name, ".loda_") || name == "unet.class_embedding.weight"
	}
	return true
}

// An interrupted run goes on where it stopped; the ledger never counts less
// than what was released, and never more than was planned.
func TestInterruptAndResume(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := tinyConfig(LoDA, tinyData(t, 40))
	dir := filepath.Join(t.TempDir(), "run")
	ctx, cancel := context.WithCancel(context.Background())
	o := options(dir)
	o.Report = func(p Progress) {
		if p.Step == 3 {
			cancel()
		}
	}
	_, err := Run(ctx, b, c, tinyBase(t, b), o)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted run returned %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ReleaseDir, "model")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an interrupted run released a model: %v", err)
	}
	o.Report = nil
	if _, err := Run(context.Background(), b, c, tinyBase(t, b), o); !errors.Is(err, ErrConfig) {
		t.Errorf("a run into a directory that exists returned %v", err)
	}
	o.Resume = true
	r, err := Run(context.Background(), b, c, tinyBase(t, b), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost != 0 {
		t.Errorf("%d steps were lost by an interruption between steps", r.Lost)
	}
	if n := r.Ledger.Events()[0].Count; n != c.Training.Steps {
		t.Errorf("ledger counts %d steps, want %d", n, c.Training.Steps)
	}
	// Once more: nothing is left to spend, so nothing is spent.
	r, err = Run(context.Background(), b, c, tinyBase(t, b), o)
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Ledger.Events()[0].Count; n != c.Training.Steps {
		t.Errorf("resuming a finished run counts %d steps, want %d", n, c.Training.Steps)
	}
}

// What the ledger has and the checkpoint has not stays charged and is not made
// again: the total number of releases is the planned one.
func TestLostStepsStayCharged(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := tinyConfig(LoDA, tinyData(t, 40))
	dir := filepath.Join(t.TempDir(), "run")
	ctx, cancel := context.WithCancel(context.Background())
	o := options(dir)
	o.Report = func(p Progress) {
		if p.Step == 4 {
			cancel()
		}
	}
	if _, err := Run(ctx, b, c, tinyBase(t, b), o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// As if killed before the first checkpoint.
	if err := os.Remove(filepath.Join(dir, PrivateDir, stateFile)); err != nil {
		t.Fatal(err)
	}
	made := 0
	o.Resume, o.Report = true, func(Progress) { made++ }
	r, err := Run(context.Background(), b, c, tinyBase(t, b), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost != 4 || made != 2 {
		t.Errorf("%d steps lost and %d made after that, want 4 and 2", r.Lost, made)
	}
	if n := r.Ledger.Events()[0].Count; n != c.Training.Steps {
		t.Errorf("ledger counts %d steps, want %d", n, c.Training.Steps)
	}
}

// Empty draws are steps like any other: charged, and noised on every
// coordinate.
func TestEmptyDrawsAreNoised(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := tinyConfig(LoDA, tinyData(t, 40))
	c.Training.ExpectedBatchSize = 0.001
	c.Privacy.Delta = 1e-6
	c.Training.Steps = 2
	base := tinyBase(t, b)
	dir := filepath.Join(t.TempDir(), "run")
	r, err := Run(context.Background(), b, c, base, options(dir))
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Ledger.Events()[0].Count; n != 2 {
		t.Errorf("ledger counts %d steps, want 2", n)
	}
	for _, w := range r.Model.Weights.All() {
		if strings.Contains(w.Name, ".lora_B.") && slices.Contains(w.Data, 0) {
			t.Errorf("%s has a coordinate that got no noise", w.Name)
		}
	}
}

// Bad data stop a run before anything is written.
func TestBadDataLeaveNothingBehind(t *testing.T) {
	b := backendtest.Open(t, "go")
	folder := t.TempDir()
	for _, class := range []string{"0", "1", "2", "3"} {
		if err := os.Mkdir(filepath.Join(folder, class), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "2", "broken.png"), []byte("not an image"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := tinyConfig(Attention, folder)
	dir := filepath.Join(t.TempDir(), "run")
	planned := false
	o := options(dir)
	o.Planned = func(*Plan) { planned = true }
	_, err := Run(context.Background(), b, c, tinyBase(t, b), o)
	if !errors.Is(err, dataset.ErrInvalid) {
		t.Fatalf("run on a broken image returned %v", err)
	}
	if !planned {
		t.Error("the plan was not shown before the images were opened")
	}
	if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) != 0 {
		t.Errorf("the failed run left %v behind (%v)", entries, err)
	}
}

// A seeded run repeats exactly, and its ledger says that it is not private.
func TestInsecureSeedRepeatsAndSaysSo(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := tinyConfig(LoDA, tinyData(t, 40))
	var released [2][]float32
	for i := range released {
		dir := filepath.Join(t.TempDir(), "run")
		o := options(dir)
		o.InsecureSeed = 9
		r, err := Run(context.Background(), b, c, tinyBase(t, b), o)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range r.Model.Weights.All() {
			released[i] = append(released[i], w.Data...)
		}
		text, err := os.ReadFile(filepath.Join(dir, LedgerFile))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "NOT PRIVATE") {
			t.Error("the ledger of a seeded run does not say NOT PRIVATE")
		}
	}
	if !slices.Equal(released[0], released[1]) {
		t.Error("two runs with one seed released different weights")
	}
}
