package baseline

import (
	"fmt"

	"github.com/scumble-dp/scumble/accountant"
)

// Run is the name of a baseline's run in its ledger.
const Run = "baseline"

// Budget is what a baseline may spend, and where it is written down.
type Budget struct {
	Epsilon, Delta float64
	Ledger         *accountant.Ledger // Has no run named "baseline" yet.
	Dataset        string             // Name of the private images in the ledger: their fingerprint.
}

// spend calibrates the noise of an event, declares the run and returns the noise
// multiplier with a function that records one access, before its noise exists.
func (b Budget) spend(e accountant.Event, note string) (noiseMultiplier float64, record func() error, err error) {
	e.NoiseMultiplier, err = accountant.CalibrateNoiseMultiplier(accountant.PLD{}, nil, e, accountant.AddOrRemove, b.Epsilon, b.Delta)
	if err != nil {
		return 0, nil, fmt.Errorf("calibrate the noise: %w", err)
	}
	if err := b.Ledger.Begin(accountant.Run{ID: Run, Dataset: b.Dataset, Unit: "example", Neighboring: accountant.AddOrRemove,
		Epsilon: b.Epsilon, Delta: b.Delta, Plan: []accountant.Event{e}, Note: note}); err != nil {
		return 0, nil, err
	}
	one := e
	one.Count = 1
	return e.NoiseMultiplier, func() error { return b.Ledger.Append(accountant.Entry{Run: Run, Event: &one}) }, nil
}
