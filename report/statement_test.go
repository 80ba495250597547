package report

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whoever has statement.json can make statement.md, and Check finds words that do
// not follow from the numbers.
func TestStatementSaysOneThing(t *testing.T) {
	r := sampleRun(t)
	files := releaseFiles(t, r)
	read := func() *Statement {
		s, err := ReadStatement(strings.NewReader(files["statement.json"]))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := read(); !bytes.Equal(s.Markdown(), []byte(files["statement.md"])) || s.Check() != nil {
		t.Errorf("statement.md does not follow from statement.json, or the statement from itself: %v", s.Check())
	}
	for name, change := range map[string]func(s *Statement){
		"epsilon":      func(s *Statement) { s.Bound.Epsilon *= 0.99 },
		"delta":        func(s *Statement) { s.Bound.Delta = 1e-6 },
		"second count": func(s *Statement) { s.Bound.EpsilonRecount = 1.1 * s.Bound.Epsilon },
		"large delta":  func(s *Statement) { s.Bound.Delta = 1.0 / 8000 },
		"NaN":          func(s *Statement) { s.Bound.Epsilon = math.NaN() },
		"sentence":     func(s *Statement) { s.Guarantee = "Perfectly private." },
		"unit":         func(s *Statement) { s.Setting.Unit = "patient" },
		"relation":     func(s *Statement) { s.Setting.Meaning = "Any two data sets." },
		"tier":         func(s *Statement) { s.Meaning.Tier = "strong" },
		"odds":         func(s *Statement) { s.Meaning.OddsFactor /= 2 },
		"membership":   func(s *Statement) { s.Meaning.Membership[1].MaxTruePositiveRate = 0 },
		"weights":      func(s *Statement) { s.Provenance[0].Public = false },
	} {
		s := read()
		change(s)
		if s.Check() == nil {
			t.Errorf("%s: a statement that contradicts itself was taken", name)
		}
	}
}

// The release edition tells days, not how long anything took.
func TestReleaseHasDatesOnly(t *testing.T) {
	r := sampleRun(t)
	slow := sampleRun(t)
	for i := range slow.Ledger.Rows {
		slow.Ledger.Rows[i].Last = slow.Ledger.Rows[i].Last.Add(90 * time.Minute)
	}
	slow.Created = slow.Created.Add(90 * time.Minute)
	a, b := releaseFiles(t, r), releaseFiles(t, slow)
	for name, text := range a {
		if text != b[name] {
			t.Errorf("%s shows how long the run took", name)
		}
		if strings.Contains(text, "09:1") {
			t.Errorf("%s holds a time of day", name)
		}
	}
}

// A second count above the claim withdraws the guarantee; charged weights do
// not, private ones do.
func TestWithdrawn(t *testing.T) {
	r := sampleRun(t)
	r.Claim.EpsilonRecount = 10.2
	if s := r.Statement(); s.Guaranteed || s.Bound != nil {
		t.Error("the second count is above the claim, and there is a guarantee")
	}
	r = sampleRun(t)
	r.Weights[0].Public = false
	if r.Statement().Guaranteed {
		t.Error("weights are private, and there is a guarantee")
	}
	r.Weights[0].Charged = true
	if s := r.Statement(); !s.Guaranteed || !strings.Contains(string(s.Markdown()), "charged in the ledger") {
		t.Error("weights are charged in the ledger, and there is no guarantee, or no word of it")
	}
}

// Wilson's interval holds the share, is symmetric, and shrinks with more tests;
// and it is the one that solves (p̂-p)² = z² p(1-p)/n.
func TestWilson(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share, n := rapid.Float64Range(0, 1).Draw(t, "share"), rapid.Float64Range(1, 1e5).Draw(t, "tests")
		low, high := wilson(share, n)
		if low < 0 || high > 1 || low > share+1e-12 || high < share-1e-12 {
			t.Errorf("interval of %g of %g is %g to %g", share, n, low, high)
		}
		if l, h := wilson(1-share, n); math.Abs(l-(1-high)) > 1e-9 || math.Abs(h-(1-low)) > 1e-9 {
			t.Errorf("interval is not symmetric: %g to %g and %g to %g", low, high, l, h)
		}
		for _, p := range []float64{low, high} {
			if p > 0 && p < 1 && math.Abs((share-p)*(share-p)-1.959963984540054*1.959963984540054*p*(1-p)/n) > 1e-9 {
				t.Errorf("%g is no end of the interval of %g of %g", p, share, n)
			}
		}
	})
}

// A figure that was paid for is in the statement with its mechanism, in words
// too, and only with the ledger entry that paid.
func TestStatementHoldsWhatWasPaidFor(t *testing.T) {
	s := sampleRun(t).Statement()
	if len(s.Paid) != 1 || s.Paid[0].Value != 0.918 || s.Paid[0].LedgerEntry != "noisy accuracy" || !strings.Contains(s.Paid[0].Mechanism, "sensitivity is 1") {
		t.Fatalf("statement has figures %+v, want the noisy accuracy alone", s.Paid)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	words := string(s.Markdown())
	for _, want := range []string{"noisy accuracy: 0.918 (95 %: 0.899 to 0.934)", "sensitivity is 1", "inside the claim"} {
		if !strings.Contains(words, want) {
			t.Errorf("statement.md lacks %q", want)
		}
	}
	s.Paid[0].LedgerEntry = "another"
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "which is not listed") {
		t.Errorf("figure that nobody paid for: error is %v", err)
	}
}

// The items of the reporting checklist (Ponomareva et al. 2023, section 5.3; NIST
// SP 800-226) are there, none of them empty.
func TestStatementHoldsTheChecklist(t *testing.T) {
	s := sampleRun(t).Statement()
	for item, ok := range map[string]bool{
		"setting, trust and adversary":     s.Setting.Model != "" && s.Setting.Adversary != "" && s.Setting.Released != "" && s.Setting.Accesses != "",
		"unit and neighbouring data":       s.Setting.Unit == "image" && s.Setting.Neighboring != 0 && s.Setting.Meaning != "",
		"whether the number is public":     s.Setting.Examples == 8000,
		"mechanism as it ran":              s.Mechanism.Sampler != "" && s.Mechanism.Noise != "" && s.Mechanism.NoiseMultiplier > 0 && s.Mechanism.Steps == 400 && s.Mechanism.ClippingNorm > 0,
		"accountant with slack and mesh":   s.Bound.Accountant != "" && s.Bound.Slack > 0 && s.Bound.Mesh > 0,
		"tightness and Rényi curve":        s.Bound.EpsilonLower > 0 && len(s.Bound.RDP) > 0,
		"tuning runs":                      slices.ContainsFunc(s.Outside, func(o string) bool { return strings.Contains(o, "training runs on the same private data") }),
		"evaluation on private data":       slices.ContainsFunc(s.Outside, func(o string) bool { return strings.Contains(o, "Evaluations on private data") }),
		"public data":                      slices.ContainsFunc(s.Outside, func(o string) bool { return strings.Contains(o, "public base model") }),
		"side channels and several images": slices.ContainsFunc(s.Outside, func(o string) bool { return strings.Contains(o, "Side channels") }) && slices.ContainsFunc(s.Outside, func(o string) bool { return strings.Contains(o, "appears in several") }),
		"small groups":                     slices.ContainsFunc(s.Outside, func(o string) bool { return strings.Contains(o, "small groups") }),
		"randomness and floating point":    len(s.Assumptions) >= 5,
		"software and config":              strings.Contains(s.Software, "commit") && len(s.Config.SHA256) == 64,
		"every input weight":               len(s.Provenance) == 2 && s.Provenance[0].SHA256 != "" && s.Provenance[0].Licence != "" && s.Provenance[0].TrainedOn != "",
		"meaning in plain words":           s.Meaning.Tier != "" && len(s.Meaning.Membership) == 2 && s.Meaning.OddsFactor > 1,
		"ledger":                           s.Ledger.Head != "" && len(s.Ledger.Rows) == 2,
	} {
		if !ok {
			t.Errorf("statement lacks %s", item)
		}
	}
}
