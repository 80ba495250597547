package finetune

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/internal/backendtest"
)

// earlierLedger writes a ledger with one run: planned steps at noise multiplier
// 2 and sampling probability 0.2, of which some are spent.
func earlierLedger(t testing.TB, planned, spent int, change func(*accountant.Run)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), LedgerFile)
	l, err := accountant.CreateLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := accountant.Run{ID: RunID, Dataset: "x", Unit: unit, Neighboring: accountant.AddOrRemove, Epsilon: 100, Delta: 1e-3,
		Plan: []accountant.Event{accountant.DPSGD(2, 0.2, planned)}}
	if change != nil {
		change(&r)
	}
	if err := l.Begin(r); err != nil {
		t.Fatal(err)
	}
	step := accountant.DPSGD(2, 0.2, 1)
	for range spent {
		if err := l.Append(accountant.Entry{Run: r.ID, Event: &step}); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// head is the hash of the last line of a ledger, as released.
func head(t testing.TB, path string) string {
	t.Helper()
	r, err := accountant.ReadLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := ReleasedLedger(r)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = accountant.ParseLedger(text); err != nil {
		t.Fatal(err)
	}
	if again, err := ReleasedLedger(r); err != nil || !bytes.Equal(again, text) {
		t.Errorf("a released ledger is changed by another release (%v)", err)
	}
	for _, e := range r.Entries() {
		if !e.Time.Equal(r.Entries()[0].Time) || e.Time.Hour()+e.Time.Minute()+e.Time.Second()+e.Time.Nanosecond() != 0 {
			t.Errorf("a released ledger holds the time %v", e.Time)
		}
	}
	return r.Head()
}

// epsilonOf is the total of events at the tests' delta, straight from the
// accountant.
func epsilonOf(t testing.TB, events ...accountant.Event) float64 {
	t.Helper()
	r, err := accountant.PLD{}.Epsilon(events, accountant.AddOrRemove, 1e-3)
	if err != nil {
		t.Fatal(err)
	}
	return r.Epsilon
}

// With earlier runs, the noise is such that all runs together keep the budget,
// and nearly use it up; a finished and a stopped run cost the same.
func TestPlanComposesEarlierRuns(t *testing.T) {
	b := backendtest.Open(t, "go")
	alone, _, err := NewPlan(b, tinyConfig(LoDA, "/nowhere"), tinyBase(t, b))
	if err != nil {
		t.Fatal(err)
	}
	for name, spent := range map[string]int{"finished": 5, "stopped": 2} {
		t.Run(name, func(t *testing.T) {
			c := tinyConfig(LoDA, "/nowhere")
			c.Privacy.PreviousRuns = []string{earlierLedger(t, 5, spent, nil)}
			plan, _, err := NewPlan(b, c, tinyBase(t, b))
			if err != nil {
				t.Fatal(err)
			}
			earlier, own := accountant.DPSGD(2, 0.2, 5), plan.Event(6)
			if want := epsilonOf(t, earlier); plan.EpsilonPrevious != want || plan.Previous[0].Epsilon != want {
				t.Errorf("earlier runs cost epsilon %g and %g, want %g", plan.EpsilonPrevious, plan.Previous[0].Epsilon, want)
			}
			if want := epsilonOf(t, own); plan.EpsilonAlone != want {
				t.Errorf("run alone costs epsilon %g, want %g", plan.EpsilonAlone, want)
			}
			if want := epsilonOf(t, earlier, own); plan.Epsilon != want || want > 5 || want < 4.99 {
				t.Errorf("all runs cost epsilon %g, want %g, just below 5", plan.Epsilon, want)
			}
			if plan.Mechanism.NoiseMultiplier <= alone.Mechanism.NoiseMultiplier {
				t.Errorf("noise multiplier is %g, want more than %g without earlier runs", plan.Mechanism.NoiseMultiplier, alone.Mechanism.NoiseMultiplier)
			}
			if none, err := plan.Spent(0); err != nil || none.Epsilon != plan.EpsilonPrevious {
				t.Errorf("before the first step epsilon %g is spent (%v), want %g", none.Epsilon, err, plan.EpsilonPrevious)
			}
			if plan.Previous[0].Unfinished != (spent < 5) {
				t.Errorf("unfinished is %t", plan.Previous[0].Unfinished)
			}
		})
	}
}

func TestEarlierRunsThatDoNotFit(t *testing.T) {
	b := backendtest.Open(t, "go")
	broken := earlierLedger(t, 5, 5, nil)
	text, err := os.ReadFile(broken)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if err := os.WriteFile(broken, bytes.Join(append(lines[:2:2], lines[3:]...), nil), 0o644); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(other, []byte("no ledger\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]struct {
		path string
		is   error
		want string
	}{
		"spent":       {earlierLedger(t, 5000, 0, nil), accountant.ErrBudget, "have spent epsilon"},
		"unit":        {earlierLedger(t, 5, 5, func(r *accountant.Run) { r.Unit = "patient" }), ErrConfig, "protects one patient, want one example"},
		"relation":    {earlierLedger(t, 5, 5, func(r *accountant.Run) { r.Neighboring = accountant.ReplaceOne }), ErrConfig, "accounted under replace-one, want add-or-remove"},
		"delta":       {earlierLedger(t, 5, 5, func(r *accountant.Run) { r.Delta = 1e-4 }), ErrConfig, "promised at delta 0.0001, and privacy.delta is 0.001"},
		"not private": {earlierLedger(t, 5, 5, func(r *accountant.Run) { r.Note = notPrivate + " (test mode)" }), ErrConfig, "no guarantee"},
		"broken":      {broken, accountant.ErrBrokenChain, "chain is broken"},
		"no ledger":   {other, ErrConfig, "not a ledger entry"},
		"missing":     {filepath.Join(t.TempDir(), "gone"), ErrConfig, "name the run directory"},
		"no run":      {t.TempDir(), ErrConfig, "holds no ledger.jsonl"},
	} {
		t.Run(name, func(t *testing.T) {
			// Neither images nor class folders are there: nothing looks for them.
			c := tinyConfig(LoDA, "/nowhere")
			c.Data.Classes = nil
			c.Privacy.PreviousRuns = []string{k.path}
			_, _, err := NewPlan(b, c, tinyBase(t, b))
			if !errors.Is(err, k.is) || !strings.Contains(err.Error(), k.want) || !strings.Contains(err.Error(), k.path) {
				t.Errorf("error is %v, want %v that says %q of %s", err, k.is, k.want, k.path)
			}
			if name == "spent" && !strings.Contains(err.Error(), head(t, k.path)[:12]) {
				t.Errorf("error does not say which ledger: %v", err)
			}
		})
	}
}

// Three runs on the same images: each ledger holds the total, the release of
// the last alone tells all of it, and a resumed run counts nothing twice.
func TestRunsInARow(t *testing.T) {
	b := backendtest.Open(t, "go")
	data, parent := tinyData(t, 40), t.TempDir()
	dirs := []string{filepath.Join(parent, "one"), filepath.Join(parent, "two"), filepath.Join(parent, "three")}
	var noise []float64
	for i, dir := range dirs {
		c := tinyConfig(LoDA, data)
		c.Training.Steps = 2
		c.Privacy.Epsilon = float64(2 + i)
		c.Privacy.PreviousRuns = dirs[:i:i] // Run three names both; two's ledger tells of one too.
		ctx, cancel := context.WithCancel(context.Background())
		o := options(dir)
		if i == 1 {
			o.Report = func(Progress) { cancel() }
			if _, err := Run(ctx, b, c, tinyBase(t, b), o); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			// The run directory is all that it takes to go on, from any folder.
			t.Chdir(t.TempDir())
			var err error
			if c, err = ReadConfig(filepath.Join(dir, ConfigFile)); err != nil {
				t.Fatal(err)
			}
			o.Resume, o.Report = true, nil
		}
		r, err := Run(context.Background(), b, c, tinyBase(t, b), o)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		noise = append(noise, r.Plan.Mechanism.NoiseMultiplier)
		if r.Lost != 0 {
			t.Errorf("run %d lost %d steps", i, r.Lost)
		}
		saved, err := checkpoint.Load(filepath.Join(dir, ReleaseDir, "model"))
		if err != nil {
			t.Fatal(err)
		}
		if saved.Info[checkpoint.PrivateRun] != releasedHead(t, r.Ledger) || saved.Info["public_data"] != "" {
			t.Errorf("the model of run %d says of itself %v, want the head of its released ledger and no public data", i, saved.Info)
		}
		for _, counted := range dirs[:i] {
			early, err := ReadConfig(filepath.Join(counted, ConfigFile))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := OpenFigure(counted, early, 50); !errors.Is(err, accountant.ErrBudget) || !strings.Contains(err.Error(), "buy it from the latest run") {
				t.Errorf("a figure of a run that run %d counted: error is %v, want one that refuses", i, err)
			}
		}
		var all []accountant.Event
		for _, n := range noise {
			all = append(all, accountant.DPSGD(n, 0.2, 2))
		}
		want := epsilonOf(t, all...)
		if d := r.Claim.Epsilon - want; d > 1e-6 || d < -1e-6 || r.Claim.Epsilon > c.Privacy.Epsilon {
			t.Errorf("run %d claims epsilon %g, want the %g of all runs, at most %g", i, r.Claim.Epsilon, want, c.Privacy.Epsilon)
		}
		if got := len(r.Ledger.Runs()); got != i+1 {
			t.Errorf("ledger of run %d holds %d runs", i, got)
		}
		if events := Own(r.Ledger); len(events) != 1 || events[0] != accountant.DPSGD(noise[i], 0.2, 2) {
			t.Errorf("run %d did %+v itself", i, events)
		}
		earlier, err := EarlierRuns(r.Ledger, 1e-3)
		if err != nil || len(earlier) != i {
			t.Fatalf("run %d tells of earlier runs %+v, %v", i, earlier, err)
		}
		for j, p := range earlier {
			if p.Ledger != head(t, filepath.Join(dirs[j], LedgerFile)) || p.Epsilon != epsilonOf(t, accountant.DPSGD(noise[j], 0.2, 2)) {
				t.Errorf("run %d says of run %d: %+v", i, j, p)
			}
		}
	}
	record, err := accountant.ReadLedger(filepath.Join(dirs[2], LedgerFile))
	if err != nil {
		t.Fatal(err)
	}
	previous := filepath.Join(dirs[2], ReleaseDir, PreviousDir)
	if err := VerifyEarlier(record, previous); err != nil {
		t.Fatalf("release does not tell what the ledger charges: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(previous, "*.jsonl"))
	if err != nil || len(files) != 2 {
		t.Fatalf("copies are %v, %v", files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
		// Run one is also told of by two's ledger; two is told of by its own only.
		if err := VerifyEarlier(record, previous); (err == nil) != (filepath.Base(f) == head(t, filepath.Join(dirs[0], LedgerFile))+".jsonl") {
			t.Errorf("without %s the check says %v", filepath.Base(f), err)
		}
		spoilt := bytes.Replace(text, []byte(`"count":1`), []byte(`"count":3`), 1)
		if err := os.WriteFile(f, spoilt, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := VerifyEarlier(record, previous); !errors.Is(err, ErrEarlier) {
			t.Errorf("a changed copy gives %v", err)
		}
		if err := os.WriteFile(f, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := ReadConfig(filepath.Join(dirs[2], ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.Released().YAML()
	if err != nil || strings.Contains(string(text), parent) || strings.Count(string(text), PreviousDir+"/") != 2 {
		t.Errorf("released config is\n%s(%v)", text, err)
	}
}

// What a run charges for earlier ones does not depend on how often, in which
// order or through which later ledgers they are named.
func TestEarlierRunsCountOnce(t *testing.T) {
	one := earlierLedger(t, 5, 5, nil)
	whole, err := os.ReadFile(one)
	if err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(t.TempDir(), "part.jsonl") // One, as it was two steps ago.
	lines := bytes.SplitAfter(whole, []byte("\n"))
	if err := os.WriteFile(part, bytes.Join(lines[:len(lines)-3], nil), 0o644); err != nil {
		t.Fatal(err)
	}
	torn := filepath.Join(t.TempDir(), "torn.jsonl")
	if err := os.WriteFile(torn, append(slices.Clone(whole), `{"sequence":9,"ti`...), 0o644); err != nil {
		t.Fatal(err)
	}
	// Two's ledger carries a copy of one, as it is now or as it was.
	var two [2]string
	for i, earlier := range []string{one, part} {
		plan := &Plan{}
		if err := plan.loadPrevious(Privacy{Epsilon: 100, Delta: 1e-3, PreviousRuns: []string{earlier}}); err != nil {
			t.Fatal(err)
		}
		two[i] = filepath.Join(t.TempDir(), LedgerFile)
		l, err := accountant.CreateLedger(two[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := plan.declareEarlier(l, "y"); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	released := filepath.Join(t.TempDir(), "released.jsonl")
	record, err := accountant.ReadLedger(one)
	if err != nil {
		t.Fatal(err)
	}
	text, err := ReleasedLedger(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(released, text, 0o644); err != nil {
		t.Fatal(err)
	}
	all := []string{one, part, torn, released, two[0], two[1]}
	tellsOne := func(path string) bool { return path == one || path == torn || path == released }
	rapid.Check(t, func(t *rapid.T) {
		paths := rapid.SliceOfN(rapid.SampledFrom(all), 1, 6).Draw(t, "paths")
		runs, _, err := readPrevious(paths)
		if err != nil {
			t.Fatal(err)
		}
		got := earlierEvents(runs)
		if !slices.ContainsFunc(paths, tellsOne) && slices.Contains(paths, two[0]) && (slices.Contains(paths, part) || slices.Contains(paths, two[1])) {
			// Nothing in these files shows that the two are the same run: it is
			// charged twice, which is safe.
			if got[0].Count != 10 {
				t.Errorf("%v are charged %+v, want 10 steps", paths, got)
			}
			return
		}
		if len(got) != 1 || got[0] != accountant.DPSGD(2, 0.2, 5) {
			t.Errorf("%v are charged %+v, want 5 steps", paths, got)
		}
	})
}

func FuzzParseEarlier(f *testing.F) {
	p := Previous{Ledger: strings.Repeat("0a", 32), Run: "a/b"}
	f.Add(p.ID())
	f.Add("earlier//x")
	f.Add("finetune")
	f.Fuzz(func(t *testing.T, id string) {
		ledger, run, ok := parseEarlier(id)
		if again := (&Previous{Ledger: ledger, Run: run}).ID(); ok && again != id {
			t.Errorf("%q is parsed as %q", id, again)
		}
	})
}

// A run cannot be made longer than its ledger allows, nor go on without it, nor
// with one that was cut; nothing is opened or written.
func TestResumeKeepsToTheLedger(t *testing.T) {
	b := backendtest.Open(t, "go")
	for name, k := range map[string]struct {
		change func(t *testing.T, c *Config, dir string)
		is     error
		want   string
	}{
		"more steps": {func(t *testing.T, c *Config, dir string) { c.Training.Steps = 9 }, accountant.ErrBudget, "config asks for 9 steps"},
		"larger batch": {func(t *testing.T, c *Config, dir string) { c.Training.ExpectedBatchSize = 20 }, accountant.ErrBudget,
			"at sampling probability 0.5"},
		"smaller budget": {func(t *testing.T, c *Config, dir string) { c.Privacy.Epsilon = 1 }, accountant.ErrBudget, "privacy.epsilon is 1"},
		"no ledger": {func(t *testing.T, c *Config, dir string) {
			if err := os.Remove(filepath.Join(dir, LedgerFile)); err != nil {
				t.Fatal(err)
			}
		}, ErrConfig, "nobody knows what it spent"},
		"cut ledger": {func(t *testing.T, c *Config, dir string) {
			text, err := os.ReadFile(filepath.Join(dir, LedgerFile))
			if err != nil {
				t.Fatal(err)
			}
			lines := bytes.SplitAfter(text, []byte("\n"))
			if err := os.WriteFile(filepath.Join(dir, LedgerFile), bytes.Join(lines[:3], nil), 0o644); err != nil {
				t.Fatal(err)
			}
		}, accountant.ErrBrokenChain, "has seen 6 steps, its ledger holds 2"},
	} {
		t.Run(name, func(t *testing.T) {
			c := tinyConfig(LoDA, tinyData(t, 40))
			dir := filepath.Join(t.TempDir(), "run")
			if _, err := Run(context.Background(), b, c, tinyBase(t, b), options(dir)); err != nil {
				t.Fatal(err)
			}
			if name != "cut ledger" { // The others do not get as far as the images.
				c.Data.Path = "/nowhere"
			}
			k.change(t, c, dir)
			o := options(dir)
			o.Resume = true
			_, err := Run(context.Background(), b, c, tinyBase(t, b), o)
			if !errors.Is(err, k.is) || !strings.Contains(err.Error(), k.want) {
				t.Errorf("error is %v, want %v that says %q", err, k.is, k.want)
			}
		})
	}
}

// releasedHead is the hash of the last line of a ledger as it is released.
func releasedHead(t *testing.T, r *accountant.Record) string {
	t.Helper()
	lines, err := ReleasedLedger(r)
	if err != nil {
		t.Fatal(err)
	}
	released, err := accountant.ParseLedger(lines)
	if err != nil {
		t.Fatal(err)
	}
	return released.Head()
}
