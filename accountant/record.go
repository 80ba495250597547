package accountant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Record is the content of a ledger.
type Record struct {
	// Torn says that the last line is incomplete: the process died while
	// writing it, so the access was not released. It is charged all the same.
	Torn bool

	entries []Entry
	head    string
	whole   int // Bytes before a torn line.
	runs    map[string]*runState
	order   []string
	last    string // Run of the last entry.
}

type runState struct {
	Run
	planned, used map[Event]int
	events        []Event // Used, in order of first use.
	lastEvent     *Event
}

func newRecord() *Record { return &Record{runs: make(map[string]*runState)} }

// ReadLedger reads and checks a ledger file. It takes no lock: a writer may be
// at work.
func ReadLedger(path string) (*Record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	r, err := ParseLedger(data)
	if err != nil {
		return nil, fmt.Errorf("read ledger %q: %w", path, err)
	}
	return r, nil
}

// ParseLedger reads a ledger from memory and checks its chain. An error that
// wraps ErrBrokenChain means that a line is missing or was changed.
func ParseLedger(data []byte) (*Record, error) {
	r := newRecord()
	var p lineParser
	for at := 0; at < len(data); {
		end := bytes.IndexByte(data[at:], '\n')
		if end < 0 {
			r.Torn = true
			break
		}
		line := data[at : at+end]
		at += end + 1
		e, err := p.parse(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", len(r.entries)+1, err)
		}
		if e.Sequence != len(r.entries) {
			return nil, fmt.Errorf("line %d: sequence is %d, want %d: %w", len(r.entries)+1, e.Sequence, len(r.entries), ErrBrokenChain)
		}
		if e.Previous != r.head {
			return nil, fmt.Errorf("line %d: previous hash is %.12q…, want %.12q…: %w", len(r.entries)+1, e.Previous, r.head, ErrBrokenChain)
		}
		if err := r.check(e); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(r.entries)+1, err)
		}
		r.add(e, line)
		r.whole = at
	}
	return r, nil
}

// lineParser decodes lines. Most lines of a run differ in sequence, time and
// previous hash only; the rest is decoded once.
type lineParser struct {
	rest  []byte
	entry Entry
}

func (p *lineParser) parse(line []byte) (Entry, error) {
	sequence, at, previous, rest, ok := splitLine(line)
	if ok && p.rest != nil && bytes.Equal(rest, p.rest) {
		e := p.entry
		e.Sequence, e.Time, e.Previous = sequence, at, previous
		return e, nil
	}
	var e Entry
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return Entry{}, fmt.Errorf("not a ledger entry: %w", err)
	}
	if d.More() {
		return Entry{}, errors.New("not a ledger entry: more than one value on the line")
	}
	if ok {
		p.rest, p.entry = rest, e
	}
	return e, nil
}

// splitLine cuts `{"sequence":N,"time":"T","previous":"H"` off a line.
func splitLine(line []byte) (sequence int, at time.Time, previous string, rest []byte, ok bool) {
	rest, ok = bytes.CutPrefix(line, []byte(`{"sequence":`))
	if !ok {
		return
	}
	number, rest, ok := bytes.Cut(rest, []byte(`,"time":"`))
	if !ok {
		return
	}
	stamp, rest, ok := bytes.Cut(rest, []byte(`","previous":"`))
	if !ok {
		return
	}
	hash, rest, ok := bytes.Cut(rest, []byte(`"`))
	if !ok {
		return
	}
	sequence, err := strconv.Atoi(string(number))
	if err != nil || len(number) > 1 && (number[0] == '0' || number[0] == '+' || number[0] == '-') {
		return 0, at, "", nil, false
	}
	at, err = time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return 0, at, "", nil, false
	}
	for _, c := range hash {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return 0, at, "", nil, false
		}
	}
	return sequence, at, string(hash), rest, true
}

// check reports what makes e impossible at this place. Accesses beyond the
// plan are not refused here: what happened counts.
func (r *Record) check(e Entry) error {
	if e.Declare != nil {
		if e.Event != nil {
			return errors.New("entry both declares a run and has an event")
		}
		if err := e.Declare.validate(); err != nil {
			return err
		}
		if _, ok := r.runs[e.Declare.ID]; ok {
			return fmt.Errorf("run %q is declared twice", e.Declare.ID)
		}
		return nil
	}
	if e.Event == nil {
		return errors.New("entry neither declares a run nor has an event")
	}
	s, ok := r.runs[e.Run]
	if !ok {
		return fmt.Errorf("run %q was not declared", e.Run)
	}
	if e.Dataset != s.Dataset || e.Unit != s.Unit || e.Neighboring != s.Neighboring || e.Delta != s.Delta {
		return fmt.Errorf("entry of run %q differs from its declaration in data set, unit, neighboring relation or delta", e.Run)
	}
	if s.lastEvent != nil && *s.lastEvent == *e.Event {
		return nil // Validated before.
	}
	return validateEvents([]Event{*e.Event}, e.Neighboring)
}

// add takes in a checked entry and its line.
func (r *Record) add(e Entry, line []byte) {
	r.entries = append(r.entries, e)
	r.head = lineHash(line)
	if d := e.Declare; d != nil {
		s := &runState{Run: *d, planned: make(map[Event]int), used: make(map[Event]int)}
		for _, p := range d.Plan {
			s.planned[p.key()] += p.Count
		}
		r.runs[d.ID] = s
		r.order = append(r.order, d.ID)
		r.last = d.ID
		return
	}
	s := r.runs[e.Run]
	s.use(*e.Event)
	s.lastEvent, r.last = e.Event, e.Run
}

func (s *runState) use(e Event) {
	k := e.key()
	if s.used[k] == 0 {
		s.events = append(s.events, e)
	}
	s.used[k] += e.Count
}

// tornAccess is the access that a torn line is charged as: another one like
// the last of the run that was writing, or the first of its plan.
func (r *Record) tornAccess() (run string, e Event, ok bool) {
	s := r.runs[r.last]
	if s == nil {
		return "", Event{}, false // The torn line declared the first run.
	}
	if s.lastEvent != nil {
		return s.ID, *s.lastEvent, true
	}
	e = s.Plan[0]
	e.Count = 1
	return s.ID, e, true
}

// Count returns the number of whole lines.
func (r *Record) Count() int { return len(r.entries) }

// Entries returns the whole lines. They must not be changed.
func (r *Record) Entries() []Entry { return r.entries }

// Head returns the SHA-256 of the last whole line in hex, empty without lines.
func (r *Record) Head() string { return r.head }

// RunStatus is what a run was allowed and what it spent.
type RunStatus struct {
	Run
	Spent []Event `json:"spent"` // Grouped; a torn line counts.
	Left  []Event `json:"left"`  // What the plan still authorises.
}

// Runs returns the state of every run, in order of declaration.
func (r *Record) Runs() []RunStatus {
	var all []RunStatus
	for _, id := range r.order {
		s := r.runs[id]
		st := RunStatus{Run: s.Run}
		counts := make(map[Event]int, len(s.used))
		for k, n := range s.used {
			counts[k] = n
		}
		events := s.events
		if r.Torn {
			if run, e, ok := r.tornAccess(); ok && run == id {
				if counts[e.key()] == 0 {
					events = append(events[:len(events):len(events)], e)
				}
				counts[e.key()] += e.Count
			}
		}
		for _, e := range events {
			e.Count = counts[e.key()]
			st.Spent = append(st.Spent, e)
		}
		for _, e := range Group(s.Plan) {
			if e.Count = s.planned[e.key()] - counts[e.key()]; e.Count > 0 {
				st.Left = append(st.Left, e)
			}
		}
		all = append(all, st)
	}
	return all
}

// Events returns all that was spent, over all runs and data sets, equal steps
// grouped. A torn line counts as one more access like the last.
func (r *Record) Events() []Event {
	var all []Event
	for _, s := range r.Runs() {
		all = append(all, s.Spent...)
	}
	return Group(all)
}

// Total is what several runs, maybe in several ledgers, did to one data set.
type Total struct {
	Dataset     string      `json:"dataset"`
	Unit        string      `json:"unit"`
	Neighboring Neighboring `json:"neighboring"`
	Runs        []string    `json:"runs"`
	Spent       []Event     `json:"spent"`
	Planned     []Event     `json:"planned"` // At least Spent: plans in full.
}

// Compose adds up what the records hold on each data set, in order of first
// mention. Records of one data set with different units or neighbouring
// relations do not add up, and are an error.
func Compose(records ...*Record) ([]Total, error) {
	at := make(map[string]int)
	var totals []Total
	for _, r := range records {
		for _, s := range r.Runs() {
			i, ok := at[s.Dataset]
			if !ok {
				i = len(totals)
				at[s.Dataset] = i
				totals = append(totals, Total{Dataset: s.Dataset, Unit: s.Unit, Neighboring: s.Neighboring})
			}
			t := &totals[i]
			if t.Unit != s.Unit || t.Neighboring != s.Neighboring {
				return nil, fmt.Errorf("run %q protects %s under %s and earlier runs on data set %q protect %s under %s: want the same to add up",
					s.ID, s.Unit, s.Neighboring, s.Dataset, t.Unit, t.Neighboring)
			}
			t.Runs = append(t.Runs, s.ID)
			t.Spent = Group(append(t.Spent, s.Spent...))
			t.Planned = Group(append(append(t.Planned, s.Spent...), s.Left...))
		}
	}
	return totals, nil
}
