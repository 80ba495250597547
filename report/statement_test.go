package report

import (
	"bytes"
	"math"
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
