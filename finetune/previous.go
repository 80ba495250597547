package finetune

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/scumble-dp/scumble/accountant"
)

// Previous is an earlier run on the same private data, as its ledger tells. It
// is public.
type Previous struct {
	Ledger     string             `json:"ledger"` // SHA-256 of its ledger's last line, as released (see ReleasedLedger), in hex.
	Run        string             `json:"run"`    // Its name in that ledger.
	Epsilon    float64            `json:"epsilon"`
	Delta      float64            `json:"delta"` // That Epsilon holds for.
	Unfinished bool               `json:"unfinished,omitempty"`
	Events     []accountant.Event `json:"events"` // What it is charged: all that it did and may still do.

	declared accountant.Run
	source   string // The path that was given.
}

// earlierPrefix begins the names of runs that a ledger carries as copies, so
// that the events of one ledger are all that was spent on its data:
// earlier/HEAD/RUN is RUN of the ledger whose last line, as released, has the
// hash HEAD.
const earlierPrefix = "earlier/"

// ID is the name of the copy that a later ledger carries.
func (p *Previous) ID() string { return earlierPrefix + p.Ledger + "/" + p.Run }

// parseEarlier is the inverse of Previous.ID.
func parseEarlier(id string) (ledger, run string, ok bool) {
	rest, ok := strings.CutPrefix(id, earlierPrefix)
	if !ok {
		return "", "", false
	}
	ledger, run, ok = strings.Cut(rest, "/")
	return ledger, run, ok && isHead(ledger) && run != ""
}

func isHead(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// previousLedger is a ledger that privacy.previous_runs names.
type previousLedger struct {
	path   string
	lines  []byte // As released: what follows is about them.
	record *accountant.Record
	runs   []Previous
}

// readPrevious reads the ledgers of earlier runs: run directories, release
// folders or ledger files. It returns every run in them once, and the ledgers
// that tell all of it.
func readPrevious(paths []string) ([]Previous, []previousLedger, error) {
	var ledgers []previousLedger
	for _, path := range paths {
		l, err := readPreviousLedger(path)
		if err != nil {
			return nil, nil, fmt.Errorf("privacy.previous_runs: %w", err)
		}
		ledgers = append(ledgers, *l)
	}
	ledgers = withoutPrefixes(ledgers)
	seen := map[string]bool{}
	var all []Previous
	for _, l := range ledgers {
		for _, p := range l.runs {
			if seen[p.ID()] || outgrown(p, ledgers) {
				continue
			}
			seen[p.ID()] = true
			all = append(all, p)
		}
	}
	return all, ledgers, nil
}

// ReleasedLedger returns a ledger as it may leave the building: the same
// entries, chained again, with the day on which a run was declared in place of
// every time. How long a step took depends on how many examples joined it.
//
// A released ledger stays what it is, and the beginning of a ledger becomes the
// beginning of what the ledger becomes: either can be named for the other.
func ReleasedLedger(r *accountant.Record) ([]byte, error) {
	var out []byte
	days := map[string]time.Time{}
	previous := ""
	for i, e := range r.Entries() {
		run := e.Run
		if e.Declare != nil {
			run = e.Declare.ID
			days[run] = e.Time.UTC().Truncate(24 * time.Hour)
		}
		e.Sequence, e.Time, e.Previous = i, days[run], previous
		line, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(line)
		previous = hex.EncodeToString(sum[:])
		out = append(append(out, line...), '\n')
	}
	return out, nil
}

// previousLedgerPath finds the ledger of a run directory or a release folder.
func previousLedgerPath(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return path, err
	}
	for _, inside := range []string{LedgerFile, filepath.Join(ReleaseDir, LedgerFile)} {
		if exists(filepath.Join(path, inside)) {
			return filepath.Join(path, inside), nil
		}
	}
	return "", fmt.Errorf("%s holds no %s: %w", path, LedgerFile, fs.ErrNotExist)
}

func readPreviousLedger(path string) (*previousLedger, error) {
	at, err := previousLedgerPath(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; name the run directory of an earlier run, or its %s", ErrConfig, err, LedgerFile)
	}
	data, err := os.ReadFile(at)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	l, err := parsePreviousLedger(path, data)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w", at, err)
	}
	return l, nil
}

// parsePreviousLedger takes every run of a ledger at all that it did and may
// still do: a run that stopped half-way can be resumed. A torn last line is left
// out: what it announced was never released.
func parsePreviousLedger(path string, data []byte) (*previousLedger, error) {
	record, err := accountant.ParseLedger(data[:bytes.LastIndexByte(data, '\n')+1])
	if errors.Is(err, accountant.ErrBrokenChain) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if data, err = ReleasedLedger(record); err != nil {
		return nil, err
	}
	if record, err = accountant.ParseLedger(data); err != nil {
		return nil, err
	}
	l := &previousLedger{path: path, record: record, lines: data}
	for _, s := range record.Runs() {
		p := Previous{Ledger: record.Head(), Run: s.ID, Unfinished: len(s.Left) > 0, declared: s.Run, source: path,
			Events: accountant.Group(append(append([]accountant.Event{}, s.Spent...), s.Left...))}
		if ledger, run, ok := parseEarlier(s.ID); ok {
			p.Ledger, p.Run = ledger, run
		}
		l.runs = append(l.runs, p)
	}
	if len(l.runs) == 0 {
		return nil, fmt.Errorf("%w: it holds no run", ErrConfig)
	}
	return l, nil
}

// withoutPrefixes drops ledgers that another one continues, or repeats.
func withoutPrefixes(ledgers []previousLedger) []previousLedger {
	var kept []previousLedger
	for i, l := range ledgers {
		part := false
		for j, other := range ledgers {
			same := l.record.Head() == other.record.Head()
			part = part || same && j < i || !same && continues(other.record, l.record.Head())
		}
		if !part {
			kept = append(kept, l)
		}
	}
	return kept
}

// outgrown says whether p is a copy of a run whose own ledger is there and has
// gone on since.
func outgrown(p Previous, ledgers []previousLedger) bool {
	for _, l := range ledgers {
		if l.record.Head() == p.Ledger || !continues(l.record, p.Ledger) {
			continue
		}
		for _, newer := range l.runs {
			if newer.Run == p.Run && newer.Ledger == l.record.Head() {
				return true
			}
		}
	}
	return false
}

// continues says whether a record has the line of that hash before its last.
func continues(r *accountant.Record, head string) bool {
	for _, e := range r.Entries() {
		if e.Previous == head && head != "" {
			return true
		}
	}
	return false
}

// fit refuses an earlier run whose guarantee does not add up with that of a new
// run at delta, and sets what it costs at that delta.
func (p *Previous) fit(delta float64) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: privacy.previous_runs: run %q of %s %s", ErrConfig, p.Run, p.source, fmt.Sprintf(format, args...))
	}
	d := p.declared
	switch {
	case strings.Contains(d.Note, notPrivate):
		return bad("is marked %q: it has no guarantee, so nothing adds up with it", notPrivate)
	case d.Unit != unit:
		return bad("protects one %s, want one %s: the two do not add up", d.Unit, unit)
	case d.Neighboring != accountant.AddOrRemove:
		return bad("is accounted under %s, want %s: the two do not add up", d.Neighboring, accountant.AddOrRemove)
	case d.Delta < delta:
		return bad("was promised at delta %g, and privacy.delta is %g: want at most that of every earlier run", d.Delta, delta)
	}
	claim, err := accountant.PLD{}.Epsilon(p.Events, accountant.AddOrRemove, delta)
	if err != nil {
		return bad("cannot be accounted for: %s", err)
	}
	p.Epsilon, p.Delta = claim.Epsilon, delta
	return nil
}

// earlierEvents returns what all of them did.
func earlierEvents(previous []Previous) []accountant.Event {
	var all []accountant.Event
	for _, p := range previous {
		all = append(all, p.Events...)
	}
	return accountant.Group(all)
}

// spentWhere says in words what each earlier run cost, and where that is
// recorded.
func spentWhere(previous []Previous) string {
	var parts []string
	for _, p := range previous {
		parts = append(parts, fmt.Sprintf("%s (ledger %.12s, run %s) epsilon %.4g", p.source, p.Ledger, p.Run, p.Epsilon))
	}
	return strings.Join(parts, ", ")
}

// loadPrevious reads, checks and prices the earlier runs of a config. The error
// wraps [accountant.ErrBudget] when they leave nothing to spend.
func (plan *Plan) loadPrevious(p Privacy) error {
	var err error
	plan.previousPaths = p.PreviousRuns
	plan.Previous, plan.ledgers, err = readPrevious(p.PreviousRuns)
	if err != nil || len(plan.Previous) == 0 {
		return err
	}
	for i := range plan.Previous {
		if err := plan.Previous[i].fit(p.Delta); err != nil {
			return err
		}
	}
	claim, err := accountant.PLD{}.Epsilon(earlierEvents(plan.Previous), accountant.AddOrRemove, p.Delta)
	if err != nil {
		return fmt.Errorf("account for privacy.previous_runs: %w", err)
	}
	plan.EpsilonPrevious = claim.Epsilon
	if claim.Epsilon >= p.Epsilon {
		return fmt.Errorf("earlier runs on these images have spent epsilon %.4g together at delta %g, "+
			"and privacy.epsilon allows %g for all runs: %s; raise it, or stop here: %w",
			claim.Epsilon, p.Delta, p.Epsilon, spentWhere(plan.Previous), accountant.ErrBudget)
	}
	return nil
}
