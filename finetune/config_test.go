package finetune

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/internal/parsebound"
)

const goodConfig = `
base: latent
method: attention
data: {path: somewhere, examples: 1000}
privacy: {epsilon: 3, delta: 1.0e-4}
training: {steps: 10, expected_batch_size: 100, clipping_norm: 1, learning_rate: 1.0e-3}
`

func TestConfigDefaultsAndRoundTrip(t *testing.T) {
	c, err := ParseConfig([]byte(goodConfig))
	if err != nil {
		t.Fatal(err)
	}
	if c.Privacy.Neighboring != "add-or-remove" || c.Training.Multiplicity != 1 || c.Sampling.GuidanceScale != 1 || c.LoDA.Rank != 4 {
		t.Errorf("defaults are %+v", c)
	}
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseConfig(text)
	if err != nil {
		t.Fatalf("resolved config does not parse: %v\n%s", err, text)
	}
	first, _ := c.hash()
	second, _ := again.hash()
	if first != second {
		t.Error("the hash of a config changes when it is written and read")
	}
}

func TestConfigRefusals(t *testing.T) {
	for name, k := range map[string]struct{ old, new, want string }{
		"unknown key":       {"clipping_norm", "clip_norm", "clip_norm is not known; did you mean clipping_norm?"},
		"no base":           {"base: latent", "", "base is missing"},
		"no path":           {"path: somewhere, ", "", "data.path is missing"},
		"method":            {"attention", "atention", `method is "atention", want attention, loda, lora or full`},
		"epsilon zero":      {"epsilon: 3", "epsilon: 0", "privacy.epsilon is 0, want positive"},
		"epsilon negative":  {"epsilon: 3", "epsilon: -1", "privacy.epsilon is -1"},
		"epsilon nan":       {"epsilon: 3", "epsilon: .nan", "privacy.epsilon is NaN"},
		"delta zero":        {"delta: 1.0e-4", "delta: 0", "privacy.delta is 0"},
		"delta of one in n": {"delta: 1.0e-4", "delta: 1.0e-3", "below 1/data.examples"},
		"delta of no draw":  {"expected_batch_size: 100", "expected_batch_size: 0.001", "not below the chance 1e-05"},
		"replace-one":       {"epsilon: 3", "epsilon: 3, neighboring: replace-one", "want add-or-remove"},
		"steps":             {"steps: 10", "steps: 0", "training.steps is 0"},
		"batch":             {"expected_batch_size: 100", "expected_batch_size: 1001", "expected_batch_size is 1001"},
		"clip":              {"clipping_norm: 1", "clipping_norm: -1", "training.clipping_norm is -1"},
		"rate":              {"learning_rate: 1.0e-3", "learning_rate: 0", "training.learning_rate is 0"},
		"compute":           {"learning_rate: 1.0e-3", "learning_rate: 1.0e-3, compute: float16", `training.compute is "float16"`},
		"schedule":          {"steps: 10", "steps: 10, schedule: cosin", `training.schedule is "cosin"`},
		"ema":               {"steps: 10", "steps: 10, ema: 1", "training.ema is 1"},
		"drop":              {"steps: 10", "steps: 10, label_drop: 1", "training.label_drop is 1"},
		"warmup":            {"steps: 10", "steps: 10, warmup: 10", "training.warmup is 10"},
		"channels":          {"examples: 1000", "examples: 1000, channels: 2", "data.channels is 2"},
		"not yaml":          {"base: latent", "base: [", "config is not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseConfig([]byte(strings.Replace(goodConfig, k.old, k.new, 1)))
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), k.want) {
				t.Errorf("error is %v, want one with %q", err, k.want)
			}
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("training: {steps: 1e99}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c *Config
		var err error
		parsebound.Check(t, len(data), func() { c, err = ParseConfig(data) })
		if err != nil {
			return
		}
		if !(c.Privacy.Epsilon > 0) || !(c.Privacy.Delta*float64(c.Data.Examples) < 1) || c.Training.Steps < 1 {
			t.Errorf("accepted %+v", c)
		}
	})
}

// The plan opens no image: its data may not even be there when the classes are
// named. Its noise holds the claim, and not with room to spare.
func TestPlanIsComputedFromPublicInputs(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := tinyConfig(Attention, "/nowhere")
	plan, target, err := NewPlan(b, c, tinyBase(t, b))
	if err != nil {
		t.Fatal(err)
	}
	if plan.Epsilon > 5 || plan.Epsilon < 4.99 {
		t.Errorf("plan costs epsilon %g, want just below 5", plan.Epsilon)
	}
	if plan.EpsilonRDP < plan.Epsilon {
		t.Errorf("RDP claims epsilon %g, below PLD's %g", plan.EpsilonRDP, plan.Epsilon)
	}
	if q := plan.Mechanism.SamplingProbability; math.Abs(q-8.0/40) > 1e-15 {
		t.Errorf("sampling probability is %g, want 8/40", q)
	}
	if len(target.trainable) == 0 || plan.TrainableParameters >= plan.TotalParameters {
		t.Errorf("plan trains %d of %d parameters", plan.TrainableParameters, plan.TotalParameters)
	}
	less := 0.0
	for steps := range c.Training.Steps {
		spent, err := plan.Spent(steps + 1)
		if err != nil {
			t.Fatal(err)
		}
		if spent.Epsilon <= less {
			t.Errorf("epsilon after step %d is %g, not above %g", steps+1, spent.Epsilon, less)
		}
		less = spent.Epsilon
	}
}

func TestFirstLayerNarrowsTheTrainableSet(t *testing.T) {
	b := backendtest.Open(t, "go")
	last := 1 << 30
	modules := len(tinyBase(t, b).UNet.AttentionModules())
	for first := range modules {
		c := tinyConfig(Attention, "/nowhere")
		c.Attention.FirstLayer = first
		plan, _, err := NewPlan(b, c, tinyBase(t, b))
		if err != nil {
			t.Fatal(err)
		}
		if plan.TrainableParameters >= last {
			t.Errorf("first layer %d trains %d parameters, not below %d", first, plan.TrainableParameters, last)
		}
		last = plan.TrainableParameters
	}
	c := tinyConfig(Attention, "/nowhere")
	c.Attention.FirstLayer = modules
	if _, _, err := NewPlan(b, c, tinyBase(t, b)); !errors.Is(err, ErrConfig) {
		t.Errorf("first layer %d of %d gave %v", modules, modules, err)
	}
}

// Classes that the base knows keep their row; others get rows of their own;
// the null class stays last.
func TestSetClassesMapsRows(t *testing.T) {
	b := backendtest.Open(t, "go")
	base := tinyBase(t, b)
	old := base.Weights.Get(embedderName(base))
	width := old.Shape[1]
	rows := make([][]float32, old.Shape[0])
	for i := range rows {
		rows[i] = append([]float32(nil), old.Data[i*width:(i+1)*width]...)
	}
	target := &target{model: base}
	if err := target.setClasses([]string{"cat", "2", "dog"}); err != nil {
		t.Fatal(err)
	}
	table := base.Weights.Get(embedderName(base))
	if table.Shape[0] != 4 || base.UNet.NumClassEmbeds != 4 {
		t.Fatalf("table has %d rows, the UNet %d, want 4", table.Shape[0], base.UNet.NumClassEmbeds)
	}
	for i, from := range []int{0, 2, 1, 4} { // cat: first free row; 2: its own; dog: next free; null.
		for j := range width {
			if table.Data[i*width+j] != rows[from][j] {
				t.Fatalf("row %d is not row %d of the base", i, from)
			}
		}
	}
}
