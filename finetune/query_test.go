package finetune

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/internal/backendtest"
)

// warmConfig is a run with both queries.
func warmConfig(data string) *Config {
	c := tinyConfig(LoDA, data)
	c.WarmStart = WarmStart{Means: 2, NoiseMultiplier: 4, SamplingProbability: 0.5, Steps: 3, BatchSize: 8}
	c.ClassChoice = ClassChoice{Share: 0.1, Draws: 2}
	return c
}

// A run with queries charges each, keeps its claim, goes on after an interruption
// without asking again, and is charged in full to a later run.
func TestQueriesArePaidFor(t *testing.T) {
	b := backendtest.Open(t, "go")
	data := tinyData(t, 40)
	c := warmConfig(data)
	dir := filepath.Join(t.TempDir(), "run")
	ctx, cancel := context.WithCancel(context.Background())
	o := options(dir)
	o.Report = func(p Progress) {
		if p.Step == 3 {
			cancel()
		}
	}
	if _, err := Run(ctx, b, c, tinyBase(t, b), o); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted run returned %v", err)
	}
	means, err := os.ReadFile(filepath.Join(dir, ReleaseDir, meansFile))
	if err != nil {
		t.Fatal(err)
	}
	o.Report, o.Resume = nil, true
	r, err := Run(context.Background(), b, c, tinyBase(t, b), o)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(filepath.Join(dir, ReleaseDir, meansFile)); err != nil || !slices.Equal(again, means) {
		t.Errorf("the means are others after the run went on (%v)", err)
	}
	events := r.Ledger.Events()
	want := []accountant.Event{
		accountant.DPSGD(r.Plan.query(classRun).Event.NoiseMultiplier, 1, 1),
		accountant.DPSGD(4, 0.5, 2), r.Plan.Event(6)}
	for i := range events {
		events[i].ExamplesPerUnit = 0
	}
	if !slices.Equal(events, want) {
		t.Errorf("ledger holds %+v, want %+v", events, want)
	}
	if e := r.Claim.Epsilon; e > 5 || e < 0.99*5 {
		t.Errorf("claim is epsilon %g, want just below 5", e)
	}
	if alone := epsilonOf(t, want[0]); alone > 0.5 || alone < 0.499 {
		t.Errorf("the histogram costs epsilon %g alone, want a tenth of 5", alone)
	}
	if got := Queries(r.Ledger); len(got) != 2 || got[0].ID != classRun || got[1].ID != meansRun {
		t.Errorf("queries of the ledger are %+v", got)
	}
	if own := Own(r.Ledger); len(own) != 1 || own[0].Count != 6 {
		t.Errorf("the steps are %+v, want 6", own)
	}
	previous, _, err := readPrevious([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	if got := epsilonOf(t, earlierEvents(previous)...); math.Abs(got-r.Claim.Epsilon) > 1e-6 {
		t.Errorf("a later run is charged epsilon %g, want %g", got, r.Claim.Epsilon)
	}
	// Without its queries the steps alone get less noise; with none, nothing of this is in the config.
	without := tinyConfig(LoDA, data)
	plan, _, err := NewPlan(b, without, tinyBase(t, b))
	if err != nil || plan.Mechanism.NoiseMultiplier >= r.Plan.Mechanism.NoiseMultiplier || len(plan.Queries) != 0 {
		t.Errorf("without queries: noise %g (%v), with them %g", plan.Mechanism.NoiseMultiplier, err, r.Plan.Mechanism.NoiseMultiplier)
	}
	// A ledger that declares other queries than the config is not gone on with.
	for name, change := range map[string]func(*Config){
		"no warm start":       func(c *Config) { c.WarmStart = WarmStart{} },
		"another probability": func(c *Config) { c.WarmStart.SamplingProbability = 0.4 },
		"more means":          func(c *Config) { c.WarmStart.Means = 3 },
	} {
		other := warmConfig(data)
		change(other)
		if _, err := Run(context.Background(), b, other, tinyBase(t, b), o); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: run goes on: %v", name, err)
		}
	}
}

// A result that a crash took is not asked for again: the ledger has no room.
func TestLostQueryIsNotAskedAgain(t *testing.T) {
	b := backendtest.Open(t, "go")
	data := tinyData(t, 40)
	for _, file := range []string{meansFile, classFile} {
		c := warmConfig(data)
		dir := filepath.Join(t.TempDir(), "run")
		ctx, cancel := context.WithCancel(context.Background())
		o := options(dir)
		o.Report = func(Progress) { cancel() }
		if _, err := Run(ctx, b, c, tinyBase(t, b), o); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		for _, path := range []string{filepath.Join(dir, ReleaseDir, file), filepath.Join(dir, PrivateDir, stateFile)} {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		o.Report, o.Resume = nil, true
		if _, err := Run(context.Background(), b, c, tinyBase(t, b), o); !errors.Is(err, accountant.ErrBudget) {
			t.Errorf("without %s: %v, want ErrBudget", file, err)
		}
	}
}

// Configs that ask for what cannot be are refused before an image is opened.
func TestQueriesRefuse(t *testing.T) {
	b := backendtest.Open(t, "go")
	for name, change := range map[string]func(*Config){
		"means without noise":   func(c *Config) { c.WarmStart.NoiseMultiplier = 0 },
		"noise and share":       func(c *Config) { c.WarmStart.Share = 0.1 },
		"noise without means":   func(c *Config) { c.WarmStart.Means = 0 },
		"cell that divides not": func(c *Config) { c.WarmStart.Cell = 3 },
		"range without steps":   func(c *Config) { c.WarmStart.MinTimestep, c.Training.MaxTimestep = 0.5, 0.5 },
		"too dear":              func(c *Config) { c.WarmStart.NoiseMultiplier = 0.05 },
		"frozen embedder":       func(c *Config) { c.LoDA.FreezeEmbedder = true },
	} {
		c := warmConfig("nowhere")
		change(c)
		if _, _, err := NewPlan(b, c, tinyBase(t, b)); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}

// A batch of all images in every step is a run like any other; more than there are
// is refused.
func TestLargestBatch(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := tinyConfig(LoDA, tinyData(t, 40))
	c.Training.Steps = 2
	for _, batch := range []float64{30, 39.5, 40} {
		c.Training.ExpectedBatchSize = batch
		r, err := Run(context.Background(), b, c, tinyBase(t, b), options(filepath.Join(t.TempDir(), "run")))
		if err != nil {
			t.Fatalf("batch of %g of 40: %v", batch, err)
		}
		if e := r.Claim.Epsilon; e > 5 || e < 0.99*5 || r.Plan.Mechanism.SamplingProbability != batch/40 {
			t.Errorf("batch of %g of 40: epsilon %g at sampling probability %g", batch, e, r.Plan.Mechanism.SamplingProbability)
		}
	}
	c.Training.ExpectedBatchSize = 40.5
	if err := c.Validate(); !errors.Is(err, ErrConfig) {
		t.Errorf("batch above the number of images: %v", err)
	}
}
