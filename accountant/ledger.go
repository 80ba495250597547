package accountant

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// ErrBrokenChain is what errors wrap when a ledger misses a line, or holds one
// that was changed.
var ErrBrokenChain = errors.New("ledger chain is broken")

// Run declares what one run may do to private data, before it does anything.
// All of it is public.
type Run struct {
	ID          string      `json:"run"`         // Required; unique in the ledger.
	Dataset     string      `json:"dataset"`     // Opaque name of the data set. Required.
	Unit        string      `json:"unit"`        // What the guarantee protects: "example", or the name of a column. Required.
	Neighboring Neighboring `json:"neighboring"` // Required.
	Epsilon     float64     `json:"epsilon"`     // Budget. Required.
	Delta       float64     `json:"delta"`       // Budget. Required.
	Plan        []Event     `json:"plan"`        // What is authorised, charged in full from the start. Required.
	Note        string      `json:"note,omitempty"`
}

// Entry is one line of a ledger: either the declaration of a run or one access
// to private data, written before the result of the access is released.
type Entry struct {
	Sequence int       `json:"sequence"` // 0, 1, 2, …
	Time     time.Time `json:"time"`     // UTC.
	Previous string    `json:"previous"` // SHA-256 of the line before, in hex; empty on the first.

	Declare *Run `json:"declare,omitempty"` // A run begins. Excludes the rest.

	Run         string      `json:"run,omitempty"` // A declared run.
	Dataset     string      `json:"dataset,omitempty"`
	Unit        string      `json:"unit,omitempty"`
	Neighboring Neighboring `json:"neighboring,omitzero"`
	Delta       float64     `json:"delta,omitempty"`
	Event       *Event      `json:"event,omitempty"`
	Note        string      `json:"note,omitempty"` // Public free text.
}

// Ledger appends to a ledger file. One process at a time can hold it. A Ledger
// is not safe for concurrent use.
type Ledger struct {
	file   *os.File
	record *Record
	failed error
	now    func() time.Time
}

// CreateLedger makes a new ledger file. It is an error if the file exists.
func CreateLedger(path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create ledger: %w", err)
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("create ledger %q: %w", path, err)
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		dir.Sync() // So that the name survives a crash; not every system can.
		dir.Close()
	}
	return &Ledger{file: f, record: newRecord(), now: time.Now}, nil
}

// OpenLedger opens a ledger file to append to it. If a crash tore the last
// line, the line is replaced by an entry that charges the access which it may
// have announced.
func OpenLedger(path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l, err := openLocked(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open ledger %q: %w", path, err)
	}
	return l, nil
}

func openLocked(f *os.File) (*Ledger, error) {
	if err := lockFile(f); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	record, err := ParseLedger(data)
	if err != nil {
		return nil, err
	}
	l := &Ledger{file: f, record: record, now: time.Now}
	if !record.Torn {
		return l, nil
	}
	record.Torn = false
	if err := f.Truncate(int64(record.whole)); err != nil {
		return nil, err
	}
	if run, event, ok := record.tornAccess(); ok {
		e := record.filled(Entry{Run: run, Event: &event, Note: "torn entry after a crash, charged in full"})
		if err := l.write(e); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Close releases the file and its lock.
func (l *Ledger) Close() error { return l.file.Close() }

// Record returns what the ledger holds so far. It is live: it grows with
// appends, and must not be changed.
func (l *Ledger) Record() *Record { return l.record }

// Head returns the SHA-256 of the last line in hex: the name of everything
// that the ledger holds. It is empty for an empty ledger.
func (l *Ledger) Head() string { return l.record.Head() }

// Begin declares a run. The plan is charged in full: if PLD finds that it
// costs more than the run's budget, the error wraps ErrBudget and nothing is
// written.
func (l *Ledger) Begin(r Run) error {
	if err := r.validate(); err != nil {
		return err
	}
	if _, ok := l.record.runs[r.ID]; ok {
		return fmt.Errorf("run %q is in the ledger already; resume it by appending, or choose another name", r.ID)
	}
	claim, err := PLD{UpperOnly: true}.Epsilon(r.Plan, r.Neighboring, r.Delta)
	if err != nil {
		return err
	}
	if claim.Epsilon > r.Epsilon {
		return fmt.Errorf("plan of run %q costs epsilon %.6g at delta %g, its budget is %g; use more noise or fewer steps: %w",
			r.ID, claim.Epsilon, r.Delta, r.Epsilon, ErrBudget)
	}
	r.Plan = append([]Event(nil), r.Plan...)
	return l.write(Entry{Declare: &r})
}

func (r Run) validate() error {
	switch {
	case r.ID == "":
		return errors.New("run has no name, want one that is unique in the ledger")
	case r.Dataset == "":
		return fmt.Errorf("run %q names no data set", r.ID)
	case r.Unit == "":
		return fmt.Errorf("run %q names no unit of privacy, such as example", r.ID)
	case len(r.Plan) == 0:
		return fmt.Errorf("run %q has no plan, want the events that it may spend", r.ID)
	case !(r.Epsilon > 0) || r.Epsilon > maxEpsilon:
		return fmt.Errorf("run %q has budget epsilon %g, want in (0, %g]", r.ID, r.Epsilon, maxEpsilon)
	}
	if err := validateDelta(r.Delta); err != nil {
		return fmt.Errorf("run %q: %w", r.ID, err)
	}
	if err := validateEvents(r.Plan, r.Neighboring); err != nil {
		return fmt.Errorf("plan of run %q: %w", r.ID, err)
	}
	return nil
}

// Append records one access before its result is released: when Append
// returns nil, the entry is on disk. Run and Event are required; the rest is
// filled in from the run. An access beyond what the run's plan authorises is
// refused with an error that wraps ErrBudget, and nothing is written.
func (l *Ledger) Append(e Entry) error {
	if e.Declare != nil {
		return errors.New("entry declares a run; call Begin")
	}
	if e.Event == nil {
		return errors.New("entry has no event, want what is done to private data")
	}
	state, ok := l.record.runs[e.Run]
	if !ok {
		return fmt.Errorf("run %q is not in the ledger; call Begin first", e.Run)
	}
	if err := e.Event.Validate(); err != nil {
		return err
	}
	planned := state.planned[e.Event.key()]
	if planned == 0 {
		return fmt.Errorf("event %+v is not in the plan of run %q: %w", *e.Event, e.Run, ErrBudget)
	}
	if used := state.used[e.Event.key()]; used+e.Event.Count > planned {
		return fmt.Errorf("run %q has spent %d of %d planned accesses, %d more would exceed its budget: %w",
			e.Run, used, planned, e.Event.Count, ErrBudget)
	}
	event := *e.Event
	e.Event = &event
	return l.write(l.record.filled(e))
}

// filled returns e with what its run declares.
func (r *Record) filled(e Entry) Entry {
	d := r.runs[e.Run].Run
	e.Dataset, e.Unit, e.Neighboring, e.Delta = d.Dataset, d.Unit, d.Neighboring, d.Delta
	return e
}

// write gives e its place in the chain and puts it on disk.
func (l *Ledger) write(e Entry) error {
	if l.failed != nil {
		return fmt.Errorf("ledger failed before and may hold a torn line; open it again: %w", l.failed)
	}
	e.Sequence = l.record.Count()
	e.Time = l.now().UTC()
	e.Previous = l.record.Head()
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write ledger entry: %w", err)
	}
	if _, err := l.file.Write(append(line, '\n')); err != nil {
		l.failed = err
		return fmt.Errorf("write ledger entry: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		l.failed = err
		return fmt.Errorf("sync ledger: %w", err)
	}
	l.record.add(e, line)
	return nil
}

func lineHash(line []byte) string {
	h := sha256.Sum256(line)
	return hex.EncodeToString(h[:])
}
