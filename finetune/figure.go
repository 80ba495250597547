package finetune

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
)

// figurePrefix begins the names of runs in a ledger that pay for one figure.
const figurePrefix = "figure-"

// Payment is the right to one noisy figure about private images, in the ledger of
// a run: it is there because the budget allows it. Close it after use.
type Payment struct {
	dir    string
	config *Config
	ledger *accountant.Ledger
	own    accountant.Run
	event  accountant.Event
	claim  accountant.Result
	paid   bool
}

// OpenFigure checks, before a private image is opened, that the budget of the
// run in dir has room for one figure with Gaussian noise of the given multiple of
// its sensitivity: all that the ledger holds, all that its plans still allow and
// the figure together must cost at most privacy.epsilon, and no later run may have
// counted it (privacy.previous_runs). Otherwise the error wraps
// [accountant.ErrBudget] and says what noise would fit. The ledger is locked.
func OpenFigure(dir string, c *Config, noiseMultiplier float64) (*Payment, error) {
	if exists(filepath.Join(dir, PrivateDir, countedFile)) {
		return nil, fmt.Errorf("a later run counted what this one had spent, and would not count the figure: buy it from the latest run: %w", accountant.ErrBudget)
	}
	p := &Payment{dir: dir, config: c, event: accountant.Event{Mechanism: accountant.Gaussian, NoiseMultiplier: noiseMultiplier, SamplingProbability: 1, Count: 1}}
	if err := p.event.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	var err error
	if p.ledger, err = accountant.OpenLedger(filepath.Join(dir, LedgerFile)); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, errors.Join(err, p.ledger.Close())
	}
	return p, nil
}

// check asks the accountant.
func (p *Payment) check() error {
	own, ok := ownRun(p.ledger.Record())
	if !ok {
		return fmt.Errorf("%w: the ledger of %s declares no run %q", ErrConfig, p.dir, RunID)
	}
	p.own = own.Run
	if own.Unit != unit || own.Neighboring != accountant.AddOrRemove {
		// More of one person's examples, or an exchange, would change several counts.
		return fmt.Errorf("%w: the run protects one %s under %s, and figures have sensitivity 1 for one %s under %s only",
			ErrConfig, own.Unit, own.Neighboring, unit, accountant.AddOrRemove)
	}
	if own.Delta != p.config.Privacy.Delta || own.Epsilon != p.config.Privacy.Epsilon {
		return fmt.Errorf("%w: the config of %s promises epsilon %g at delta %g, its ledger %g at %g: one was changed",
			ErrConfig, p.dir, p.config.Privacy.Epsilon, p.config.Privacy.Delta, own.Epsilon, own.Delta)
	}
	var spent []accountant.Event
	for _, s := range p.ledger.Record().Runs() {
		spent = append(append(spent, s.Spent...), s.Left...)
	}
	spent = accountant.Group(spent)
	var err error
	p.claim, err = accountant.PLD{}.Epsilon(append(spent[:len(spent):len(spent)], p.event), own.Neighboring, own.Delta)
	if err != nil {
		return fmt.Errorf("account for the figure: %w", err)
	}
	if p.claim.Epsilon <= own.Epsilon {
		return nil
	}
	least, err := accountant.CalibrateNoiseMultiplier(accountant.PLD{}, spent, p.event, own.Neighboring, own.Epsilon, own.Delta)
	if err != nil || least > maxFigureNoise {
		return fmt.Errorf("the figure would cost epsilon %.6g in all, privacy.epsilon is %g and the run has spent it: privacy.reserve of a config keeps room: %w",
			p.claim.Epsilon, own.Epsilon, accountant.ErrBudget)
	}
	return fmt.Errorf("the figure with noise %g would cost epsilon %.6g in all, privacy.epsilon is %g: the least noise that fits is %g; privacy.reserve of a config keeps room: %w",
		p.event.NoiseMultiplier, p.claim.Epsilon, own.Epsilon, least, accountant.ErrBudget)
}

// maxFigureNoise is the largest noise, in images, that a figure is worth.
const maxFigureNoise = 1e5

// Claim returns what all of the run costs with the figure.
func (p *Payment) Claim() accountant.Result { return p.claim }

// Close gives the ledger free.
func (p *Payment) Close() error { return p.ledger.Close() }

// TrainingImages opens the private images that the run was trained on. path is
// where they lie, if not at data.path.
func (p *Payment) TrainingImages(plan *Plan, path string) (*dataset.Set, error) {
	set, err := openData(p.config, plan, path)
	if err != nil {
		return nil, err
	}
	hexKey, err := os.ReadFile(filepath.Join(p.dir, PrivateDir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("data set key: %w", err)
	}
	key, err := hex.DecodeString(string(hexKey))
	if err != nil {
		return nil, fmt.Errorf("data set key of %s: %w", p.dir, err)
	}
	if p.own.Dataset != set.Fingerprint(key) {
		return nil, fmt.Errorf("%w: the private images are not those that run %s was trained on", ErrConfig, p.dir)
	}
	return set, nil
}

// Count writes to the ledger what is asked, in public words, then returns how many
// examples fall into each bin, with noise: bins holds the bin of each example, in
// [0, size). It can be called once.
//
// Guarantee: one example more or less changes one count by 1 ([dpsgd.Counts]), so
// that this is the Gaussian mechanism of sensitivity 1, charged to the run's data
// set. The examples may be others than those the run was trained on, if they are
// disjoint from them or the same: an example is then in one place, and the sum
// of both costs holds for it wherever that is.
func (p *Payment) Count(what string, size int, bins []int) (counts []float64, entry string, err error) {
	if p.paid {
		return nil, "", errors.New("the figure was paid for before; every figure needs a payment of its own")
	}
	c, err := dpsgd.NewCounts(size, bins)
	if err != nil {
		return nil, "", err
	}
	noise, err := dpsgd.NewNoise()
	if err != nil {
		return nil, "", err
	}
	counts, err = c.Release(noise, p.event.NoiseMultiplier, func() error {
		p.paid = true
		id := p.nextID()
		if err := p.ledger.Begin(accountant.Run{ID: id, Dataset: p.own.Dataset, Unit: p.own.Unit, Neighboring: p.own.Neighboring,
			Epsilon: p.own.Epsilon, Delta: p.own.Delta, Plan: []accountant.Event{p.event}, Note: what}); err != nil {
			return err
		}
		entry = FigureEntry(id, what)
		return p.ledger.Append(accountant.Entry{Run: id, Event: &p.event})
	})
	return counts, entry, err
}

// nextID names the next figure of a ledger.
func (p *Payment) nextID() string {
	n := 1
	for _, s := range p.ledger.Record().Runs() {
		if strings.HasPrefix(s.ID, figurePrefix) {
			n++
		}
	}
	return fmt.Sprintf("%s%d", figurePrefix, n)
}

// FigureEntry is what a statement calls the entries of a figure.
func FigureEntry(id, what string) string { return id + ": " + what }

// Figures returns the runs of a ledger that paid for a figure, and what each did.
func Figures(record *accountant.Record) []accountant.RunStatus {
	var all []accountant.RunStatus
	for _, s := range record.Runs() {
		if strings.HasPrefix(s.ID, figurePrefix) && len(s.Spent) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// ShareOf returns the share that count has of itself and rest, both noisy, and an
// interval that holds it 95 times in 100: by normal approximation of the noise,
// of standard deviation noise on each, and of the chance in which examples there
// were (Wilson).
func ShareOf(count, rest, noise float64) (share, low, high float64) {
	n := count + rest
	if !(n > 0) {
		return 0, 0, 1 // The noise drowns the figure.
	}
	share = min(1, max(0, count/n))
	const z = 1.959963984540054
	// d(count/n) = (rest·d(count) - count·d(rest))/n².
	fromNoise := noise * math.Hypot(count, rest) / (n * n)
	middle := (share + z*z/(2*n)) / (1 + z*z/n)
	fromChance := math.Sqrt(share*(1-share)/n+z*z/(4*n*n)) / (1 + z*z/n)
	half := z * math.Hypot(fromNoise, fromChance)
	return share, min(share, max(0, middle-half)), max(share, min(1, middle+half))
}
