package finetune

import (
	"testing"

	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/models"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

// TestGradientsOfLargeCallsAreFinite: XLA's YNNPACK returned NaN for every norm of a
// call of 256 examples, whose gradients then counted as zero, and smaller calls were
// right (backend/flags.go).
func TestGradientsOfLargeCallsAreFinite(t *testing.T) {
	b := backendtest.Open(t, "xla")
	const examples = 256
	m, err := models.Load("shapes")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig([]byte(`base: shapes
method: attention
data: {path: none, examples: 60000, classes: [t-shirt, trousers, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle-boot]}
privacy: {epsilon: 10, delta: 1.0e-5}
training: {steps: 400, expected_batch_size: 2500, clipping_norm: 0.3, learning_rate: 1.0e-3}
`))
	if err != nil {
		t.Fatal(err)
	}
	plan, target, err := NewPlan(b, c, m)
	if err != nil {
		t.Fatal(err)
	}
	canvas, err := pipeline.NewCanvas(m, plan.Size, plan.Channels)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := newTrainer(t.Context(), b, c, plan, target, canvas, Options{Lowering: nn.Small, Workers: 1, Engine: dpsgd.BookKeeping, PhysicalBatchSize: examples})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.engine.Close()
	_, stats, err := tr.engine.Sum(t.Context(), tr.initial, examples, tr.draws.random(target))
	if err != nil || stats.Examples != examples || stats.NonFinite != 0 {
		t.Errorf("%+v (%v), want %d examples, none of which is not finite", stats, err, examples)
	}
}
