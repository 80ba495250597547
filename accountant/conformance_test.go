package accountant_test

import (
	"os"
	"testing"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/accountant/accountanttest"
)

func draws(few, many int) int {
	if os.Getenv("SCUMBLE_SLOW") != "" {
		return many
	}
	return few
}

func TestPLDConforms(t *testing.T) { accountanttest.Run(t, accountant.PLD{}, draws(2, 100)) }
func TestRDPConforms(t *testing.T) { accountanttest.Run(t, accountant.RDP{}, draws(2, 100)) }

func TestUpperOnlyConforms(t *testing.T) {
	accountanttest.Run(t, accountant.PLD{UpperOnly: true}, draws(1, 20))
}

// TestPLDBelowRDP: two upper bounds that share only the dominating pairs, and
// a lower bound.
func TestPLDBelowRDP(t *testing.T) {
	for i := range draws(8, 500) {
		e := []accountant.Event{accountanttest.DrawDPSGD(i)}
		n := []accountant.Neighboring{accountant.AddOrRemove, accountant.ReplaceOne}[i%2]
		p, err := accountant.PLD{}.Epsilon(e, n, 1e-6)
		if err != nil {
			t.Fatal(err)
		}
		r, err := accountant.RDP{}.Epsilon(e, n, 1e-6)
		if err != nil {
			t.Fatal(err)
		}
		if p.Epsilon > r.Epsilon*(1+1e-9) || p.Lower > p.Epsilon {
			t.Errorf("%+v: lower %.9g, PLD %.9g, RDP %.9g", e, p.Lower, p.Epsilon, r.Epsilon)
		}
		if p.Lower < p.Epsilon*0.9 {
			t.Logf("%+v: wide interval %.9g to %.9g", e, p.Lower, p.Epsilon)
		}
	}
}
