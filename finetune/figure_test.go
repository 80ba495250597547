package finetune

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/accountant"
)

// figureRun makes a run directory of 40 steps, of which done are made, that has
// spent about half of epsilon 10.
func figureRun(t *testing.T, done int) (string, *Config) {
	t.Helper()
	dir := t.TempDir()
	l, err := accountant.CreateLedger(filepath.Join(dir, LedgerFile))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Begin(accountant.Run{ID: RunID, Dataset: "d41d8c", Unit: unit, Neighboring: accountant.AddOrRemove,
		Epsilon: 10, Delta: 1e-3, Plan: []accountant.Event{accountant.DPSGD(1.3, 0.1, 40)}}); err != nil {
		t.Fatal(err)
	}
	step := accountant.DPSGD(1.3, 0.1, 1)
	for range done {
		if err := l.Append(accountant.Entry{Run: RunID, Event: &step}); err != nil {
			t.Fatal(err)
		}
	}
	return dir, &Config{Privacy: Privacy{Epsilon: 10, Delta: 1e-3, Neighboring: "add-or-remove"}}
}

func record(t *testing.T, dir string) *accountant.Record {
	t.Helper()
	r, err := accountant.ReadLedger(filepath.Join(dir, LedgerFile))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A figure is charged before it is known, to the data set of the run, and the
// claim is that of all events together.
func TestFigureIsPaidForFirst(t *testing.T) {
	dir, c := figureRun(t, 40)
	before := epsilonOf(t, record(t, dir).Events()...)
	p, err := OpenFigure(dir, c, 2)
	if err != nil {
		t.Fatal(err)
	}
	counts, entry, err := p.Count("noisy histogram of the classes", 3, []int{0, 1, 1, 2, 2, 2})
	if err != nil || len(counts) != 3 || entry != "figure-1: noisy histogram of the classes" {
		t.Fatalf("counts are %v of entry %q (%v)", counts, entry, err)
	}
	if _, _, err := p.Count("again", 3, nil); err == nil {
		t.Error("a second figure for one payment: no error")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	r := record(t, dir)
	figures := Figures(r)
	if len(figures) != 1 || figures[0].Dataset != "d41d8c" || figures[0].Spent[0].NoiseMultiplier != 2 || figures[0].Spent[0].Mechanism != accountant.Gaussian {
		t.Fatalf("ledger has figures %+v", figures)
	}
	after := epsilonOf(t, r.Events()...)
	if !(after > before && after <= 10) || math.Abs(after-p.Claim().Epsilon) > 1e-9 {
		t.Errorf("epsilon goes from %g to %g, the payment says %g; want more, at most 10", before, after, p.Claim().Epsilon)
	}
	totals, err := accountant.Compose(r)
	if err != nil || len(totals) != 1 {
		t.Errorf("the ledger adds up to %d data sets (%v), want one", len(totals), err)
	}
	// A later run on the same images pays for the figure too.
	later, _, err := readPrevious([]string{dir})
	if err != nil || epsilonOf(t, earlierEvents(later)...) < after*(1-1e-9) {
		t.Errorf("a later run is charged %+v (%v), want the figure as well", later, err)
	}
	if got := Own(r); len(got) != 1 || got[0].Count != 40 {
		t.Errorf("the run itself did %+v, want its 40 steps alone", got)
	}
	second, err := OpenFigure(dir, c, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, entry, err := second.Count("b", 1, nil); err != nil || entry != "figure-2: b" {
		t.Errorf("second figure has entry %q (%v)", entry, err)
	}
}

// What the budget has no room for exits before an image is opened, and says what
// would fit; the least noise it names does fit.
func TestFigureKeepsTheBudget(t *testing.T) {
	dir, c := figureRun(t, 40)
	size := fileSize(t, dir)
	_, err := OpenFigure(dir, c, 0.1)
	if !errors.Is(err, accountant.ErrBudget) {
		t.Fatalf("error is %v, want ErrBudget", err)
	}
	_, text, ok := strings.Cut(err.Error(), "the least noise that fits is ")
	text, _, _ = strings.Cut(text, ";")
	if !ok {
		t.Fatalf("error is %v, want the least noise", err)
	}
	least, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	p, err := OpenFigure(dir, c, least)
	if err != nil {
		t.Fatalf("the least noise %g does not fit: %v", least, err)
	}
	p.Close()
	if p, err := OpenFigure(dir, c, least*0.999); err == nil {
		p.Close()
		t.Errorf("less than the least noise %g fits", least)
	}
	if got := fileSize(t, dir); got != size {
		t.Errorf("the ledger grew from %d to %d bytes", size, got)
	}
	for name, noise := range map[string]float64{"zero": 0, "NaN": math.NaN(), "infinite": math.Inf(1)} {
		if _, err := OpenFigure(dir, c, noise); !errors.Is(err, ErrConfig) {
			t.Errorf("%s noise: error is %v, want ErrConfig", name, err)
		}
	}
	// Steps that a run that stopped may still make are charged as well.
	stopped, c := figureRun(t, 1)
	p, err = OpenFigure(stopped, c, least)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := OpenFigure(dir, c, least)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	if math.Abs(p.Claim().Epsilon-whole.Claim().Epsilon) > 1e-9 {
		t.Errorf("a run that stopped costs %g, a finished one %g; want the same", p.Claim().Epsilon, whole.Claim().Epsilon)
	}
	p.Close()
	// Nothing left, whatever the noise.
	c.Privacy.Epsilon = 5
	if _, err := OpenFigure(stopped, c, 10); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "one was changed") {
		t.Errorf("config of another budget: error is %v", err)
	}
	spent := t.TempDir()
	l, err := accountant.CreateLedger(filepath.Join(spent, LedgerFile))
	if err != nil {
		t.Fatal(err)
	}
	step := accountant.DPSGD(1.3, 0.1, 40)
	if err := l.Begin(accountant.Run{ID: RunID, Dataset: "d", Unit: unit, Neighboring: accountant.AddOrRemove,
		Epsilon: epsilonOf(t, step) * (1 + 1e-12), Delta: 1e-3, Plan: []accountant.Event{step}}); err != nil {
		t.Fatal(err)
	}
	budget := l.Record().Runs()[0].Epsilon
	l.Close()
	c.Privacy.Epsilon = budget
	if _, err := OpenFigure(spent, c, 100); !errors.Is(err, accountant.ErrBudget) || !strings.Contains(err.Error(), "privacy.reserve") {
		t.Errorf("spent budget: error is %v, want ErrBudget and a word of privacy.reserve", err)
	}
}

// Where one unit may be in several bins, or is exchanged, sensitivity 1 would be
// wrong: no figure is sold.
func TestFigureNeedsItsSensitivity(t *testing.T) {
	for name, r := range map[string]accountant.Run{
		"patients":    {Unit: "patient", Neighboring: accountant.AddOrRemove},
		"replace one": {Unit: unit, Neighboring: accountant.ReplaceOne},
	} {
		dir := t.TempDir()
		l, err := accountant.CreateLedger(filepath.Join(dir, LedgerFile))
		if err != nil {
			t.Fatal(err)
		}
		r.ID, r.Dataset, r.Epsilon, r.Delta, r.Plan = RunID, "d", 50, 1e-3, []accountant.Event{accountant.DPSGD(2, 0.1, 3)}
		if err := l.Begin(r); err != nil {
			t.Fatal(err)
		}
		l.Close()
		if _, err := OpenFigure(dir, &Config{Privacy: Privacy{Epsilon: 50, Delta: 1e-3}}, 10); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "sensitivity 1") {
			t.Errorf("%s: error is %v, want ErrConfig and the reason", name, err)
		}
	}
}

// A ledger that cannot be written gives no figure.
func TestFigureNeedsItsLedger(t *testing.T) {
	dir, c := figureRun(t, 40)
	p, err := OpenFigure(dir, c, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil { // Its file is closed: no write can succeed.
		t.Fatal(err)
	}
	if counts, _, err := p.Count("x", 2, []int{0, 1}); err == nil || counts != nil {
		t.Errorf("counts are %v without a ledger (%v)", counts, err)
	}
	if _, err := OpenFigure(t.TempDir(), c, 2); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no ledger: error is %v, want not exist", err)
	}
}

// The interval of a share holds the truth about 95 times in 100: with 3,000 draws
// a rate below 93.4 or above 97.5 comes by chance less than once in 1e5, and the
// approximation itself is off by less than half a point.
func TestShareOfHoldsTheTruth(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ share, n, noise float64 }{{0.9, 2000, 10}, {0.9, 2000, 100}, {0.5, 300, 20}, {0.97, 500, 0}} {
		held := 0
		const draws = 3000
		for range draws {
			right := 0.0
			for range int(c.n) {
				if random.Float64() < c.share {
					right++
				}
			}
			_, low, high := ShareOf(right+c.noise*random.NormFloat64(), c.n-right+c.noise*random.NormFloat64(), c.noise)
			if low <= c.share && c.share <= high {
				held++
			}
		}
		if rate := float64(held) / draws; rate < 0.929 || rate > 0.98 {
			t.Errorf("share %g of %g with noise %g: the interval holds it in %.3f of cases, want 0.95", c.share, c.n, c.noise, rate)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Float64Range(-1e3, 1e6)
		share, low, high := ShareOf(draw.Draw(t, "count"), draw.Draw(t, "rest"), rapid.Float64Range(0, 1e5).Draw(t, "noise"))
		if !(0 <= low && low <= share && share <= high && high <= 1) {
			t.Fatalf("share is %g, interval %g to %g; want an interval around it in [0, 1]", share, low, high)
		}
	})
}

func fileSize(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, LedgerFile))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
