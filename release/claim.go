package release

import (
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/recount"
	"github.com/scumble-dp/scumble/report"
)

// TestMode is how notes in the ledger of a seeded run begin.
const TestMode = "NOT PRIVATE"

// ledger compares the ledger with the statement, and returns what was done to the
// private data. It returns nil where they do not fit.
func (v *Verdict) ledger(record *accountant.Record, s *report.Statement) []accountant.Event {
	before := len(v.Problems)
	v.Entries = record.Count()
	if record.Torn {
		v.problem("the last line of %s is incomplete", LedgerFile)
	}
	if record.Head() != s.Ledger.Head || record.Count() != s.Ledger.Entries {
		v.problem("%s is not the ledger that %s names", LedgerFile, StatementFile)
	}
	totals, err := accountant.Compose(record)
	switch {
	case err != nil:
		v.problem("%s: %v", LedgerFile, err)
	case len(totals) != 1:
		v.problem("%s tells of %d data sets, want the one of the statement", LedgerFile, len(totals))
	case totals[0].Neighboring != s.Setting.Neighboring:
		v.problem("%s is under %s, and the statement under %s", LedgerFile, totals[0].Neighboring, s.Setting.Neighboring)
	}
	for _, e := range record.Entries() {
		if e.Declare != nil && strings.HasPrefix(e.Declare.Note, TestMode) && s.Guaranteed {
			v.problem("run %q of %s was seeded, and the statement claims a guarantee", e.Declare.ID, LedgerFile)
		}
	}
	done := record.Events()
	var stated []accountant.Event
	for _, r := range s.Ledger.Rows {
		stated = append(stated, r.Event)
	}
	if !sameEvents(done, stated) {
		v.problem("the accesses in %s are not those of %s", StatementFile, LedgerFile)
	}
	steps := 0
	for _, e := range done {
		if e.NoiseMultiplier == s.Mechanism.NoiseMultiplier && e.SamplingProbability == s.Mechanism.SamplingProbability {
			steps += e.Count
		}
	}
	if steps < s.Mechanism.Steps || s.Mechanism.Steps < 1 {
		v.problem("%s has %d steps of the mechanism stated, the statement %d", LedgerFile, steps, s.Mechanism.Steps)
	}
	if len(v.Problems) > before {
		return nil
	}
	return done
}

func sameEvents(a, b []accountant.Event) bool {
	a, b = accountant.Group(a), accountant.Group(b)
	if len(a) != len(b) {
		return false
	}
	for _, e := range a {
		if !slices.Contains(b, e) {
			return false
		}
	}
	return true
}

// How far apart numbers of the claim may be, relatively. Accountants of two versions
// choose their mesh differently; the claim may be above a recomputation by that,
// and below none.
const (
	looseness = 1e-2 // Of a claim above the accountant's answer.
	rounding  = 1e-9 // Of the same computation on another machine.
	agreement = 1e-6 // Of the second count, beyond its own error estimate.
)

// claim recomputes epsilon from what was done.
func (v *Verdict) claim(events []accountant.Event, s *report.Statement) {
	b, n := s.Bound, s.Setting.Neighboring
	v.Epsilon, v.Delta = b.Epsilon, b.Delta
	pld, err := accountant.PLD{UpperOnly: true}.Epsilon(events, n, b.Delta)
	if err != nil {
		v.problem("account for %s: %v", LedgerFile, err)
		return
	}
	rdp, err := accountant.RDP{}.Epsilon(events, n, b.Delta)
	if err != nil {
		v.problem("account for %s: %v", LedgerFile, err)
		return
	}
	v.EpsilonAccountant, v.EpsilonRDP = pld.Epsilon, rdp.Epsilon
	v.recount(events, s)
	// An older accountant may have found a tighter bound than this one; the
	// second count then decides, which is a number and not a bound.
	if b.Epsilon < pld.Epsilon*(1-rounding) && (v.EpsilonRecount == 0 || b.Epsilon < pld.Epsilon*(1-1e-4)) {
		v.problem("the statement claims epsilon %.9g, the ledger costs %.9g", b.Epsilon, pld.Epsilon)
	}
	if b.Epsilon > pld.Epsilon*(1+looseness)+1e-6 {
		v.problem("the statement claims epsilon %.9g, the ledger costs %.9g only: it is another ledger's claim", b.Epsilon, pld.Epsilon)
	}
	v.curve(events, s)
}

// recount compares the claim with the second count.
func (v *Verdict) recount(events []accountant.Event, s *report.Statement) {
	second, err := recount.Epsilon(events, s.Setting.Neighboring, s.Bound.Delta)
	switch {
	case errors.Is(err, recount.ErrUnsettled), errors.Is(err, recount.ErrUnknown):
		v.RecountNote = err.Error()
		return
	case err != nil:
		v.problem("second count of epsilon: %v", err)
		return
	case second.Error > 1e-3*second.Epsilon+1e-6:
		v.RecountNote = "second count of epsilon is too rough for this ledger"
		return
	}
	v.EpsilonRecount, v.RecountError = second.Epsilon, second.Error
	if s.Bound.Epsilon < second.Epsilon*(1-agreement)-second.Error {
		v.problem("the statement claims epsilon %.9g, a second count finds %.9g", s.Bound.Epsilon, second.Epsilon)
	}
}

// curve recomputes the Rényi curve, which others compose.
func (v *Verdict) curve(events []accountant.Event, s *report.Statement) {
	if len(s.Bound.RDP) == 0 {
		return
	}
	var orders []float64
	for _, p := range s.Bound.RDP {
		orders = append(orders, p.Order)
	}
	points, err := accountant.RDP{}.Curve(events, s.Setting.Neighboring, orders)
	if err != nil {
		v.problem("Rényi curve: %v", err)
		return
	}
	for i, p := range points {
		if stated := s.Bound.RDP[i].Epsilon; !(math.Abs(stated-p.Epsilon) <= 1e-6*p.Epsilon+1e-12) {
			v.problem("the Rényi curve at order %g is stated as %.9g, the ledger has %.9g", p.Order, stated, p.Epsilon)
			return
		}
	}
}
