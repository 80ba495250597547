package accountant

import (
	"encoding/json"
	"os"
	"testing"
)

type golden struct {
	Case
	Expected struct {
		Truth struct{ Lower, Best, Upper float64 }
		RDP   *float64                   `json:"rdp_eps"`
		Sigma float64                    `json:"sigma_rdp"`
		Exact *float64                   `json:"exact_eps"`
		Range struct{ Min, Max float64 } `json:"accept"`
	}
}

func readGolden(t testing.TB) []golden {
	t.Helper()
	raw, err := os.ReadFile("testdata/accounting_vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []golden
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

// TestGoldenCases judges every case as testdata/README.md says: PLD is never
// below the truth and at most 0.1% + 0.001 above it, the lower bound is never
// above it, and RDP is never above what Google's RDP accountant says.
func TestGoldenCases(t *testing.T) {
	for _, g := range readGolden(t) {
		t.Run(g.ID, func(t *testing.T) {
			r := g.Run()
			if r.Error != "" {
				t.Fatal(r.Error)
			}
			x := g.Expected
			if r.NoiseMultiplier != nil {
				if s := r.NoiseMultiplier.PLD; s < x.Range.Min || s > x.Range.Max {
					t.Errorf("PLD noise multiplier %g, want %g to %g", s, x.Range.Min, x.Range.Max)
				}
				if s := r.NoiseMultiplier.RDP; s > x.Sigma*1.001 || s < x.Range.Min {
					t.Errorf("RDP noise multiplier %g, want %g to %g", s, x.Range.Min, x.Sigma*1.001)
				}
				return
			}
			e := r.Epsilon
			if e.PLD < x.Truth.Lower || e.PLD > x.Truth.Best*1.001+1e-3 {
				t.Errorf("PLD epsilon %.9g, want %.9g to %.9g", e.PLD, x.Truth.Lower, x.Truth.Best*1.001+1e-3)
			}
			if x.Exact != nil && e.PLD < *x.Exact {
				t.Errorf("PLD epsilon %.12g is below the exact %.12g", e.PLD, *x.Exact)
			}
			if e.PLDLower > x.Truth.Upper {
				t.Errorf("PLD lower bound %.9g, want at most %.9g", e.PLDLower, x.Truth.Upper)
			}
			if e.PLDLower < x.Truth.Best*0.99-1e-4 {
				t.Logf("PLD lower bound %.9g is loose, truth is %.9g", e.PLDLower, x.Truth.Best)
			}
			if x.RDP != nil && e.RDP > *x.RDP*(1+1e-6) {
				t.Errorf("RDP epsilon %.9g, want at most %.9g", e.RDP, *x.RDP)
			}
			if e.RDP < e.PLD {
				t.Errorf("RDP epsilon %.9g below PLD's %.9g", e.RDP, e.PLD)
			}
			t.Logf("PLD %.9g [%.9g] RDP %.9g truth %.9g in %.3f s", e.PLD, e.PLDLower, e.RDP, x.Truth.Best, r.Seconds)
		})
	}
}
