package accountant_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/scumble-dp/scumble/accountant"
)

func ExamplePLD_Epsilon() {
	events := []accountant.Event{accountant.DPSGD(1.0, 0.01, 1000)}
	claim, err := accountant.PLD{}.Epsilon(events, accountant.AddOrRemove, 1e-5)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("epsilon between %.3f and %.3f, %s\n", claim.Lower, claim.Epsilon, claim.Neighboring)
	// Output: epsilon between 1.828 and 1.828, add-or-remove
}

func ExampleCalibrateNoiseMultiplier() {
	plan := accountant.DPSGD(0, 4096.0/60000, 2197) // Noise multiplier open.
	nm, err := accountant.CalibrateNoiseMultiplier(accountant.PLD{}, nil, plan, accountant.AddOrRemove, 1, 1e-5)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.2f\n", nm)
	// Output: 11.99
}

func ExampleLedger() {
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := accountant.CreateLedger(filepath.Join(dir, "ledger.jsonl"))
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	step := accountant.DPSGD(1.2, 0.01, 1)
	err = l.Begin(accountant.Run{
		ID: "run-1", Dataset: "d41d8c", Unit: "example", Neighboring: accountant.AddOrRemove,
		Epsilon: 2, Delta: 1e-5, Plan: []accountant.Event{accountant.DPSGD(1.2, 0.01, 2)},
	})
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		err := l.Append(accountant.Entry{Run: "run-1", Event: &step}) // Then release the step.
		fmt.Println(err == nil, errors.Is(err, accountant.ErrBudget))
	}
	// Output:
	// true false
	// true false
	// false true
}
