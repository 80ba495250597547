package accountant

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

var step = DPSGD(1.2, 0.01, 1)

func testRun(id string, steps int) Run {
	return Run{ID: id, Dataset: "d1", Unit: "example", Neighboring: AddOrRemove, Epsilon: 8, Delta: 1e-5, Plan: []Event{DPSGD(1.2, 0.01, steps)}}
}

func newLedger(t testing.TB, steps int) (*Ledger, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l, err := CreateLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := l.Begin(testRun("r1", steps)); err != nil {
		t.Fatal(err)
	}
	return l, path
}

func appendSteps(t testing.TB, l *Ledger, n int) {
	t.Helper()
	for range n {
		if err := l.Append(Entry{Run: "r1", Event: &step}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLedgerRoundTrip(t *testing.T) {
	l, path := newLedger(t, 10)
	appendSteps(t, l, 4)
	head := l.Head()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := ReadLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.Head() != head || r.Count() != 5 || r.Torn {
		t.Errorf("read head %q, %d lines, torn %v; wrote head %q, 5 lines", r.Head(), r.Count(), r.Torn, head)
	}
	if diff := cmp.Diff([]Event{DPSGD(1.2, 0.01, 4)}, r.Events()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	status := r.Runs()
	if len(status) != 1 || len(status[0].Left) != 1 || status[0].Left[0].Count != 6 {
		t.Errorf("status %+v, want 6 steps left", status)
	}
	e := r.Entries()[3]
	if e.Time.Location() != time.UTC || e.Dataset != "d1" || e.Unit != "example" || e.Delta != 1e-5 || e.Neighboring != AddOrRemove {
		t.Errorf("entry %+v lacks what its run declares", e)
	}
	if l, err = OpenLedger(path); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	appendSteps(t, l, 6)
	if err := l.Append(Entry{Run: "r1", Event: &step}); !errors.Is(err, ErrBudget) {
		t.Errorf("step 11 of 10 gave %v, want ErrBudget", err)
	}
	if got := l.Record().Count(); got != 11 {
		t.Errorf("refused step was written: %d lines", got)
	}
}

func TestLedgerRefuses(t *testing.T) {
	l, path := newLedger(t, 10)
	over := testRun("r2", 1e6)
	if err := l.Begin(over); !errors.Is(err, ErrBudget) {
		t.Errorf("plan over budget gave %v, want ErrBudget", err)
	}
	if err := l.Begin(testRun("r1", 1)); err == nil {
		t.Error("second declaration of one run: no error")
	}
	other := DPSGD(0.6, 0.01, 1)
	if err := l.Append(Entry{Run: "r1", Event: &other}); !errors.Is(err, ErrBudget) {
		t.Errorf("unplanned event gave %v, want ErrBudget", err)
	}
	many := DPSGD(1.2, 0.01, 11)
	if err := l.Append(Entry{Run: "r1", Event: &many}); !errors.Is(err, ErrBudget) {
		t.Errorf("11 steps at once of 10 gave %v, want ErrBudget", err)
	}
	for name, e := range map[string]Entry{"unknown run": {Run: "x", Event: &step}, "no event": {Run: "r1"}} {
		if err := l.Append(e); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := OpenLedger(path); err == nil {
		t.Error("two writers hold one ledger")
	}
	if _, err := CreateLedger(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("creating over a ledger gave %v", err)
	}
	if got := l.Record().Count(); got != 1 {
		t.Errorf("%d lines after refusals only, want 1", got)
	}
	bad := testRun("r3", 5)
	bad.Unit = ""
	if err := l.Begin(bad); err == nil {
		t.Error("run without unit: no error")
	}
}

// TestLedgerShowsTampering: each change of a whole line is found, except what
// cuts whole lines off the end, which only the head can show.
func TestLedgerShowsTampering(t *testing.T) {
	l, path := newLedger(t, 10)
	appendSteps(t, l, 5)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	for i := range 5 {
		missing := append(append([]byte(nil), bytes.Join(lines[:i], nil)...), bytes.Join(lines[i+1:], nil)...)
		if _, err := ParseLedger(missing); err == nil {
			t.Errorf("line %d is missing: no error", i)
		}
		changed := bytes.Replace(data, lines[i], bytes.Replace(lines[i], []byte("20"), []byte("21"), 1), 1)
		if _, err := ParseLedger(changed); !errors.Is(err, ErrBrokenChain) {
			t.Errorf("line %d was changed: got %v", i, err)
		}
	}
	cut, err := ParseLedger(bytes.Join(lines[:4], nil))
	if err != nil || cut.Head() == l.Head() {
		t.Errorf("cut ledger: %v, head %q equals the true head", err, cut.Head())
	}
}

// TestTornLine cuts the file inside its last line at every byte: what was
// announced is charged, whole lines stay, and appending goes on.
func TestTornLine(t *testing.T) {
	l, path := newLedger(t, 10)
	appendSteps(t, l, 3)
	l.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(data[:len(data)-1], '\n') + 1
	for cut := last + 1; cut < len(data); cut += 7 {
		torn := filepath.Join(t.TempDir(), "torn.jsonl")
		if err := os.WriteFile(torn, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := ReadLedger(torn)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if got := r.Events(); !r.Torn || len(got) != 1 || got[0].Count != 3 {
			t.Fatalf("cut at %d: torn %v, events %+v, want 3 steps charged", cut, r.Torn, got)
		}
		again, err := OpenLedger(torn)
		if err != nil {
			t.Fatal(err)
		}
		appendSteps(t, again, 7)
		if err := again.Append(Entry{Run: "r1", Event: &step}); !errors.Is(err, ErrBudget) {
			t.Errorf("cut at %d: step 11 gave %v, want ErrBudget", cut, err)
		}
		again.Close()
		if r, err = ReadLedger(torn); err != nil || r.Torn || r.Events()[0].Count != 10 {
			t.Errorf("cut at %d: after repair %v, %+v", cut, err, r)
		}
	}
	// Torn while declaring the first run: nothing was accessed.
	if r, err := ParseLedger(data[:20]); err != nil || !r.Torn || len(r.Events()) != 0 {
		t.Errorf("torn declaration: %v, %+v", err, r)
	}
	// Torn right after the declaration: one step of the plan.
	first := bytes.IndexByte(data, '\n') + 1
	if r, err := ParseLedger(data[:first+9]); err != nil || len(r.Events()) != 1 || r.Events()[0].Count != 1 {
		t.Errorf("torn first step: %v, %+v", err, r)
	}
}

// TestKilledWriter kills a writing process and checks that every step it had
// been told was recorded is in the ledger.
func TestKilledWriter(t *testing.T) {
	if path := os.Getenv("ACCOUNTANT_TEST_LEDGER"); path != "" {
		l, err := OpenLedger(path)
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		for i := 0; ; i++ {
			if err := l.Append(Entry{Run: "r1", Event: &step}); err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
			fmt.Println("step", i)
		}
	}
	l, path := newLedger(t, 5000)
	l.Close()
	promised := 0
	for round := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
		cmd.Env = append(os.Environ(), "ACCOUNTANT_TEST_LEDGER="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if strings.HasPrefix(lines.Text(), "error") {
				t.Fatal(lines.Text())
			}
			if strings.HasPrefix(lines.Text(), "step") {
				promised++
			}
			if n == 20+13*round {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		r, err := ReadLedger(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Events()[0].Count; got < promised {
			t.Fatalf("round %d: %d steps in the ledger, %d were promised", round, got, promised)
		}
	}
}

func TestCompose(t *testing.T) {
	l1, _ := newLedger(t, 10)
	appendSteps(t, l1, 3)
	l2, _ := newLedger(t, 20)
	appendSteps(t, l2, 2)
	totals, err := Compose(l1.Record(), l2.Record())
	if err != nil {
		t.Fatal(err)
	}
	want := []Total{{Dataset: "d1", Unit: "example", Neighboring: AddOrRemove, Runs: []string{"r1", "r1"},
		Spent: []Event{DPSGD(1.2, 0.01, 5)}, Planned: []Event{DPSGD(1.2, 0.01, 30)}}}
	if diff := cmp.Diff(want, totals); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	l3, _ := newLedger(t, 1)
	other := testRun("r9", 1)
	other.Neighboring = ReplaceOne
	if err := l3.Begin(other); err != nil {
		t.Fatal(err)
	}
	if _, err := Compose(l3.Record()); err == nil {
		t.Error("mixed neighbouring relations added up")
	}
}

// marshalEntry gives e its place after r and returns its line.
func marshalEntry(t testing.TB, r *Record, e *Entry) []byte {
	t.Helper()
	e.Sequence, e.Previous = r.Count(), r.Head()
	e.Time = time.Date(2026, 1, 1, 0, 0, r.Count(), 0, time.UTC)
	line, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// longLedger returns the bytes of a ledger with so many steps, without a file.
func longLedger(t testing.TB, steps int) []byte {
	t.Helper()
	var b bytes.Buffer
	r := newRecord()
	write := func(e Entry) {
		line := marshalEntry(t, r, &e)
		b.Write(append(line, '\n'))
		r.add(e, line)
	}
	run := testRun("r1", steps)
	write(Entry{Declare: &run})
	for range steps {
		write(r.filled(Entry{Run: "r1", Event: &step}))
	}
	return b.Bytes()
}

func BenchmarkParseLedger100k(b *testing.B) {
	data := longLedger(b, 100000)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if r, err := ParseLedger(data); err != nil || r.Events()[0].Count != 100000 {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	l, _ := newLedger(b, 4000)
	for b.Loop() {
		if l.Record().Count() > 3900 {
			l.record.runs["r1"].used[step.key()] = 0
		}
		if err := l.Append(Entry{Run: "r1", Event: &step}); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParseLedger(f *testing.F) {
	data := longLedger(f, 3)
	f.Add(data)
	f.Add(data[:len(data)-5])
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"sequence":0,"time":"2026-01-01T00:00:00Z","previous":"","declare":null}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r *Record
		var err error
		parsebound.Check(t, len(data), func() { r, err = ParseLedger(data) })
		if err != nil {
			return
		}
		r.Events()
		if _, err := Compose(r); err != nil && len(r.Runs()) < 2 {
			t.Errorf("one run does not add up: %v", err)
		}
	})
}
