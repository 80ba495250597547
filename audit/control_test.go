package audit

import (
	"os"
	"testing"

	"github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/models"
	"github.com/scumble-dp/scumble/nn"
)

// TestControlIsCaught: a model that remembers its images is told from one that
// never saw them, by every attack. Minutes on the Go backend: it takes XLA where it
// is.
func TestControlIsCaught(t *testing.T) {
	if os.Getenv("SCUMBLE_SLOW") == "" {
		t.Skip("left out, since it trains for minutes; SCUMBLE_SLOW=1 runs it")
	}
	b, info, err := backend.Open("auto")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Finalize()
	m, err := models.Load("latent")
	if err != nil {
		t.Fatal(err)
	}
	all, err := glyphs.Render(glyphs.Options{Count: 160, Seed: 77, Classes: m.Classes})
	if err != nil {
		t.Fatal(err)
	}
	var first, second []int
	for i := range all.Len() {
		if i%2 == 0 {
			first = append(first, i)
		} else {
			second = append(second, i)
		}
	}
	members, others := all.Subset(first), all.Subset(second)
	areas := func() map[Attack]*ROC {
		a, err := NewMembership(b, m, MembershipOptions{Lowering: nn.LoweringFor(info.Name), Workers: 2, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		attacks := []Attack{Loss, PIA}
		of := map[Attack]*ROC{}
		in, err := a.Scores(t.Context(), members, attacks)
		if err != nil {
			t.Fatal(err)
		}
		out, err := a.Scores(t.Context(), others, attacks)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range attacks {
			of[k] = NewROC(in[k], out[k])
		}
		return of
	}
	for k, r := range areas() { // False alarm: one in 10,000 per attack.
		if d := r.AUCHigh - r.AUCLow; r.AUC > 0.5+d || r.AUC < 0.5-d {
			t.Errorf("%s finds members of nothing: area %.3f (%.3f to %.3f)", k, r.AUC, r.AUCLow, r.AUCHigh)
		}
	}
	err = TrainControl(t.Context(), b, m, members, ControlOptions{Steps: 400, Lowering: nn.LoweringFor(info.Name), Workers: 2, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	for k, r := range areas() {
		if r.AUCLow < 0.7 {
			t.Errorf("%s does not see the control: area %.3f (%.3f to %.3f), want above 0.7", k, r.AUC, r.AUCLow, r.AUCHigh)
		}
	}
}
