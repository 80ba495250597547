package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/finetune"
)

// Without sampling the truth is the Gaussian trade-off curve with
// μ = √steps / noise multiplier, which package accountant computes apart from
// PLD and RDP.
func TestAccountAgreesWithClosedForm(t *testing.T) {
	for _, c := range []struct {
		noise string
		steps int
	}{{"2", 1}, {"10", 400}, {"0.7", 3}} {
		out := runOK(t, "account", "--noise-multiplier", c.noise, "--sampling-probability", "1",
			"--steps", strconv.Itoa(c.steps), "--delta", "1e-6", "--json")
		var got struct {
			Epsilon epsilonClaim
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		noise, err := strconv.ParseFloat(c.noise, 64)
		if err != nil {
			t.Fatal(err)
		}
		want, err := accountant.GDP{Mu: math.Sqrt(float64(c.steps)) / noise, Exact: true}.Epsilon(1e-6)
		if err != nil {
			t.Fatal(err)
		}
		// The bisection of the closed form is good to 1e-12.
		if got.Epsilon.PLD < want-1e-9 || got.Epsilon.PLD > want*1.001+1e-3 {
			t.Errorf("noise %s, %d steps: pld is %g, want %g to a thousandth more", c.noise, c.steps, got.Epsilon.PLD, want)
		}
		if got.Epsilon.PLDLower > want+1e-9 || got.Epsilon.PLDLower < want*0.99 {
			t.Errorf("noise %s, %d steps: pld_lower is %g, want %g to a hundredth less", c.noise, c.steps, got.Epsilon.PLDLower, want)
		}
		if got.Epsilon.RDP < got.Epsilon.PLD {
			t.Errorf("noise %s, %d steps: rdp is %g, below pld %g", c.noise, c.steps, got.Epsilon.RDP, got.Epsilon.PLD)
		}
	}
}

// The golden table of package accountant, through the command: sound and tight
// against the truth. SCUMBLE_SLOW=1 takes all cases.
func TestCasesOfTheGoldenTable(t *testing.T) {
	path := filepath.Join("..", "..", "accountant", "testdata", "accounting_vectors.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("SCUMBLE_SLOW") == "" {
		var some []json.RawMessage
		for i := 0; i < len(all); i += 13 {
			some = append(some, all[i])
		}
		all = some
	}
	if data, err = json.Marshal(all); err != nil {
		t.Fatal(err)
	}
	table := filepath.Join(t.TempDir(), "cases.json")
	if err := os.WriteFile(table, data, 0o644); err != nil {
		t.Fatal(err)
	}
	var want []struct {
		ID       string
		Expected struct {
			Truth struct{ Lower, Best, Upper float64 }
			RDP   float64 `json:"rdp_eps"`

			Accept struct{ Min, Max float64 }
		}
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	var got []accountant.CaseResult
	if err := json.Unmarshal([]byte(runOK(t, "account", "--cases", table, "--json")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d answers for %d cases", len(got), len(want))
	}
	for i, w := range want {
		g, x := got[i], w.Expected
		switch {
		case g.ID != w.ID:
			t.Errorf("answer %d is for case %q, want %q", i, g.ID, w.ID)
		case g.NoiseMultiplier != nil:
			if s := g.NoiseMultiplier.PLD; !(s >= x.Accept.Min && s <= x.Accept.Max) {
				t.Errorf("case %s: noise multiplier is %g, want %g to %g", w.ID, s, x.Accept.Min, x.Accept.Max)
			}
		case g.Epsilon == nil:
			t.Errorf("case %s has no answer: %s", w.ID, g.Error)
		default:
			if e := g.Epsilon.PLD; !(e >= x.Truth.Lower && e <= x.Truth.Best*1.001+1e-3) {
				t.Errorf("case %s: pld is %g, want %g to %g", w.ID, e, x.Truth.Lower, x.Truth.Best*1.001+1e-3)
			}
			if e := g.Epsilon.RDP; x.RDP != 0 && !(e <= x.RDP*(1+1e-6)) {
				t.Errorf("case %s: rdp is %g, want at most the recorded %g", w.ID, e, x.RDP)
			}
		}
	}
}

// What calibrate prints keeps the claim when account is asked.
func TestCalibratedRunKeepsTheClaim(t *testing.T) {
	given := map[string]string{
		noiseFlag: "1.2", samplingFlag: "0.02", stepsFlag: "300", epsilonFlag: "2", deltaFlag: "1e-5",
	}
	for solved := range given {
		args := []string{"calibrate", "--json"}
		for name, value := range given {
			if name != solved {
				args = append(args, "--"+name, value)
			}
		}
		var found calibration
		if err := json.Unmarshal([]byte(runOK(t, args...)), &found); err != nil {
			t.Fatal(err)
		}
		out := runOK(t, "account", "--json", "--noise-multiplier", fmt.Sprint(found.NoiseMultiplier),
			"--sampling-probability", fmt.Sprint(found.SamplingProbability),
			"--steps", fmt.Sprint(found.Steps), "--delta", fmt.Sprint(found.Delta))
		var got struct {
			Epsilon epsilonClaim
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		if !(got.Epsilon.PLD <= found.Epsilon) {
			t.Errorf("solved for %s: account says %g, calibrate promised at most %g", solved, got.Epsilon.PLD, found.Epsilon)
		}
		if got.Epsilon.PLD < found.Epsilon*0.98 { // One step more or less costs 0.5% here.
			t.Errorf("solved for %s: account says %g, far below %g", solved, got.Epsilon.PLD, found.Epsilon)
		}
	}
}

func TestRoundingIsToTheSafeSide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64Range(1e-300, 1e300).Draw(t, "v")
		up, down := roundUp(v), roundDown(v)
		if !(down <= v && v <= up) {
			t.Fatalf("%.17g is rounded to [%.17g, %.17g]", v, down, up)
		}
		if up > v*(1+1.1e-5) || down < v*(1-1.1e-4) {
			t.Fatalf("%.17g is rounded too far, to [%.17g, %.17g]", v, down, up)
		}
		if again := roundUp(up); again != up {
			t.Fatalf("%.17g has six digits, yet is rounded to %.17g", up, again)
		}
		if read, err := strconv.ParseFloat(above(v), 64); err != nil || read != up {
			t.Fatalf("%.17g is printed as %s", up, above(v))
		}
	})
	for _, v := range []float64{0, math.Inf(1)} {
		if roundUp(v) != v || roundDown(v) != v {
			t.Errorf("%g is rounded to [%g, %g]", v, roundDown(v), roundUp(v))
		}
	}
	if roundUp(1000.0000001) != 1000.01 { // log10 of numbers near a power of ten is no guide.
		t.Errorf("1000.0000001 is rounded up to %.17g, want 1000.01", roundUp(1000.0000001))
	}
}

// makeLedger writes the ledger of a run with 3 of 10 planned steps.
func makeLedger(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ledger, err := accountant.CreateLedger(filepath.Join(dir, finetune.LedgerFile))
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	err = ledger.Begin(accountant.Run{
		ID: "demo", Dataset: "faces", Unit: "example", Neighboring: accountant.AddOrRemove,
		Epsilon: 8, Delta: 1e-5, Plan: []accountant.Event{accountant.DPSGD(2, 0.01, 10)},
	})
	if err != nil {
		t.Fatal(err)
	}
	step := accountant.DPSGD(2, 0.01, 3)
	if err := ledger.Append(accountant.Entry{Run: "demo", Event: &step}); err != nil {
		t.Fatal(err)
	}
}

// What a ledger costs is what its events cost.
func TestLedgerCostsWhatItsEventsCost(t *testing.T) {
	dir := t.TempDir()
	makeLedger(t, dir)
	var got ledgerFacts
	if err := json.Unmarshal([]byte(runOK(t, "ledger", dir, "--json")), &got); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		got   float64
		steps int
	}{
		{"spent by the run", got.Runs[0].EpsilonSpent, 3},
		{"spent on the data set", got.Datasets[0].EpsilonSpent, 3},
		{"planned by the run", got.Runs[0].EpsilonPlanned, 10},
		{"planned on the data set", got.Datasets[0].EpsilonPlanned, 10},
	} {
		want, err := accountant.PLD{}.Epsilon([]accountant.Event{accountant.DPSGD(2, 0.01, c.steps)}, accountant.AddOrRemove, 1e-5)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(c.got-want.Epsilon) > 1e-9*want.Epsilon || c.got <= 0 {
			t.Errorf("%s: epsilon is %g, want %g", c.name, c.got, want.Epsilon)
		}
	}
}
