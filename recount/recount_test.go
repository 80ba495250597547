package recount

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/accountant"
)

// golden is a case of accountant/testdata/accounting_vectors.json, whose truth
// comes from closed forms and from three other accountants.
type golden struct {
	ID        string
	Adjacency string
	Task      string
	Delta     float64
	Sampling  float64 `json:"sampling_prob"`
	Noise     float64 `json:"noise_multiplier"`
	Steps     int
	TargetEps float64 `json:"target_eps"`
	Phases    []struct {
		Type         string
		Q, Sigma     float64
		Steps, Count int
	}
	Expected struct {
		Exact    *float64 `json:"exact_eps"`
		Truth    *struct{ Lower, Best, Upper float64 }
		SigmaRef float64 `json:"sigma_ref"`
	}
}

// events returns the events of a case; ok is false for mechanisms that the
// second count does not take.
func (g *golden) events() (events []accountant.Event, ok bool) {
	if g.Phases == nil {
		noise := g.Noise
		if g.Task != "" {
			noise = g.Expected.SigmaRef
		}
		return []accountant.Event{accountant.DPSGD(noise, g.Sampling, g.Steps)}, true
	}
	for _, p := range g.Phases {
		switch p.Type {
		case "dpsgd":
			events = append(events, accountant.DPSGD(p.Sigma, p.Q, p.Steps))
		case "gaussian":
			events = append(events, accountant.Event{Mechanism: accountant.Gaussian, NoiseMultiplier: p.Sigma, SamplingProbability: 1, Count: max(p.Count, p.Steps)})
		default:
			return nil, false
		}
	}
	return events, true
}

// Every golden case that settles agrees with its truth: to 1e-5, where closed
// forms are known to 1e-10. The ones that do not settle are single steps and
// rare, low noise; they say so.
func TestGolden(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "accountant", "testdata", "accounting_vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []golden
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	settled := 0
	for _, c := range cases {
		events, ok := c.events()
		if !ok {
			continue
		}
		n := accountant.AddOrRemove
		if c.Adjacency == "replace_one" {
			n = accountant.ReplaceOne
		}
		a, err := Epsilon(events, n, c.Delta)
		if errors.Is(err, ErrUnsettled) || err == nil && a.Error > 1e-3*a.Epsilon {
			if strings.HasPrefix(c.ID, "real") || strings.HasPrefix(c.ID, "comp") || strings.HasPrefix(c.ID, "replace") {
				t.Errorf("%s did not settle: %v, error %g", c.ID, err, a.Error)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.ID, err)
			continue
		}
		settled++
		want, tolerance := c.TargetEps, 1e-5
		if c.Expected.Truth != nil {
			want = c.Expected.Truth.Best
		}
		if c.Expected.Exact != nil {
			want, tolerance = *c.Expected.Exact, 1e-8
		}
		if math.Abs(a.Epsilon-want) > tolerance*want+a.Error {
			t.Errorf("%s: epsilon is %.10g ± %.1g, want %.10g", c.ID, a.Epsilon, a.Error, want)
		}
	}
	if settled < 58 {
		t.Errorf("%d cases settled, want 58 or more", settled)
	}
}

// Without sampling, T steps are one Gaussian mechanism of sensitivity
// sqrt(T)/σ, whose curve is known (Balle and Wang 2018, Theorem 8).
func TestGaussianClosedForm(t *testing.T) {
	normal := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	rapid.Check(t, func(t *rapid.T) {
		sigma := rapid.Float64Range(0.8, 20).Draw(t, "noise multiplier")
		steps := rapid.IntRange(1, 200).Draw(t, "steps")
		delta := math.Pow(10, -rapid.Float64Range(2, 9).Draw(t, "delta"))
		a, err := Epsilon([]accountant.Event{accountant.DPSGD(sigma, 1, steps)}, accountant.AddOrRemove, delta)
		if err != nil {
			t.Fatal(err)
		}
		if a.Epsilon == 0 {
			return
		}
		mu := math.Sqrt(float64(steps)) / sigma
		got := normal(mu/2-a.Epsilon/mu) - math.Exp(a.Epsilon)*normal(-mu/2-a.Epsilon/mu)
		if math.Abs(got/delta-1) > 1e-5 { // The difference cancels digits at large mu.
			t.Errorf("delta at epsilon %g is %g, want %g", a.Epsilon, got, delta)
		}
	})
}

// The accountant's claim is never below the second count, nor far above.
func TestAccountantAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := []accountant.Event{accountant.DPSGD(rapid.Float64Range(0.6, 6).Draw(t, "noise multiplier"),
			rapid.Float64Range(1e-3, 0.3).Draw(t, "sampling probability"), rapid.IntRange(5, 2000).Draw(t, "steps"))}
		if rapid.Bool().Draw(t, "query") {
			events = append(events, accountant.Event{Mechanism: accountant.Gaussian, SamplingProbability: 1,
				NoiseMultiplier: rapid.Float64Range(5, 50).Draw(t, "its noise"), Count: 1})
		}
		n := rapid.SampledFrom([]accountant.Neighboring{accountant.AddOrRemove, accountant.ReplaceOne}).Draw(t, "relation")
		delta := math.Pow(10, -rapid.Float64Range(3, 8).Draw(t, "delta"))
		claim, err := accountant.PLD{UpperOnly: true}.Epsilon(events, n, delta)
		if err != nil {
			t.Fatal(err)
		}
		a, err := Epsilon(events, n, delta)
		if errors.Is(err, ErrUnsettled) {
			t.Skip()
		}
		if err != nil {
			t.Fatal(err)
		}
		if a.Epsilon > claim.Epsilon*(1+1e-7)+a.Error || a.Epsilon < claim.Epsilon*(1-1e-3)-1e-4-a.Error {
			t.Errorf("second count is %.9g ± %.1g (%s), the accountant claims %.9g (%s)", a.Epsilon, a.Error, a.Direction, claim.Epsilon, claim.Direction)
		}
	})
}

func TestRefuses(t *testing.T) {
	step := accountant.DPSGD(1, 0.01, 100)
	group := step
	group.ExamplesPerUnit = 3
	laplace := accountant.Event{Mechanism: accountant.Laplace, NoiseMultiplier: 1, SamplingProbability: 1, Count: 1}
	for _, c := range []struct {
		name   string
		events []accountant.Event
		n      accountant.Neighboring
		delta  float64
	}{
		{"nothing", nil, accountant.AddOrRemove, 1e-5},
		{"Laplace", []accountant.Event{step, laplace}, accountant.AddOrRemove, 1e-5},
		{"several examples of a unit", []accountant.Event{group}, accountant.AddOrRemove, 1e-5},
		{"zero-out", []accountant.Event{step}, accountant.ZeroOut, 1e-5},
		{"no relation", []accountant.Event{step}, 0, 1e-5},
		{"no delta", []accountant.Event{step}, accountant.AddOrRemove, 0},
		{"NaN", []accountant.Event{step}, accountant.AddOrRemove, math.NaN()},
		{"no noise", []accountant.Event{accountant.DPSGD(0, 0.1, 1)}, accountant.AddOrRemove, 1e-5},
	} {
		if a, err := Epsilon(c.events, c.n, c.delta); err == nil {
			t.Errorf("%s: epsilon is %g, want an error", c.name, a.Epsilon)
		}
	}
}

// Of package accountant, the second count uses names of events and nothing
// that computes.
func TestSharesNoComputation(t *testing.T) {
	allowed := "Event Neighboring AddOrRemove ReplaceOne PoissonGaussian Gaussian"
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if path := strings.Trim(i.Path.Value, `"`); strings.Contains(path, ".") && path != "github.com/scumble-dp/scumble/accountant" {
				t.Errorf("%s imports %s", name, path)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "accountant" && !strings.Contains(allowed, s.Sel.Name) {
				t.Errorf("%s uses accountant.%s", name, s.Sel.Name)
			}
			return true
		})
	}
}

func ExampleEpsilon() {
	a, err := Epsilon([]accountant.Event{accountant.DPSGD(1.1, 0.01, 2000)}, accountant.AddOrRemove, 1e-5)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%.5f, decided by %s\n", a.Epsilon, a.Direction)
	// Output: 2.15973, decided by remove
}

func BenchmarkEpsilon(b *testing.B) {
	events := []accountant.Event{accountant.DPSGD(1.4, 0.1, 120)}
	for b.Loop() {
		if _, err := Epsilon(events, accountant.AddOrRemove, 1e-5); err != nil {
			b.Fatal(err)
		}
	}
}
