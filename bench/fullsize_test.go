package bench

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// TestFullSize makes a private step of each published model at full size with
// random weights. It takes minutes and up to 19 GiB a model, so it runs with
// SCUMBLE_SLOW=1 only; SCUMBLE_FULL_SIZE names some of them, with commas.
func TestFullSize(t *testing.T) {
	if os.Getenv("SCUMBLE_SLOW") == "" {
		t.Skip("takes minutes and up to 19 GiB a model; SCUMBLE_SLOW=1 runs it")
	}
	b := backendtest.Open(t, "xla")
	for _, name := range PublishedModels {
		if asked := os.Getenv("SCUMBLE_FULL_SIZE"); asked != "" && !strings.Contains(","+asked+",", ","+name+",") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			r, err := Step(context.Background(), b, StepOptions{Workload: name, Set: Attention, Batch: 2, Rounds: 1, PrivateOnly: true,
				Engine: dpsgd.PerExampleLoop, FreezeEmbedder: name != CelebAHQ, BasePrecision: nn.BFloat16, Lowering: nn.LoweringFor("xla")})
			if err != nil {
				t.Fatal(err)
			}
			text, _ := json.Marshal(r)
			t.Log(string(text))
			if !(*r.SecondsDP > 0) || r.PeakRSS > 20<<30 {
				t.Errorf("%g s, peak %d MiB", *r.SecondsDP, r.PeakRSS>>20)
			}
		})
	}
}
