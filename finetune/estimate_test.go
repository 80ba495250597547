package finetune

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

func tinyWork(t *testing.T, change func(c *Config)) *Work {
	t.Helper()
	b := backendtest.Open(t, "go")
	c := tinyConfig(Attention, tinyData(t, 40))
	change(c)
	plan, target, err := NewPlan(b, c, tinyBase(t, b))
	if err != nil {
		t.Fatal(err)
	}
	w, err := target.Estimate(b, nn.Small, c, plan)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestEstimateGrows: more draws, steps and what trains cost more; a base in half
// precision lies in less memory, and computes as much.
func TestEstimateGrows(t *testing.T) {
	base := tinyWork(t, func(c *Config) { c.Training.Multiplicity, c.Training.EMA = 1, 0 })
	one := func(change func(c *Config)) *Work {
		return tinyWork(t, func(c *Config) {
			c.Training.Multiplicity, c.Training.EMA = 1, 0
			change(c)
		})
	}
	if !(base.PerExample > 0) || !(base.DenseShare > 0 && base.DenseShare < 1) || base.Frozen <= 0 || base.Trainable <= 0 || base.Activations <= 0 || base.NextExample <= 0 {
		t.Fatalf("work is %+v", base)
	}
	// The norms of biases' gradients cost the same.
	draws := one(func(c *Config) { c.Training.Multiplicity = 4 })
	if !(draws.PerExample > 3.9*base.PerExample) || draws.NextExample <= base.NextExample || draws.Frozen != base.Frozen {
		t.Errorf("four draws: %+v, one: %+v", draws, base)
	}
	steps := one(func(c *Config) { c.Training.Steps *= 3 })
	if steps.Examples != 3*base.Examples || steps.PerExample != base.PerExample {
		t.Errorf("three times the steps: %+v, before %+v", steps, base)
	}
	full := one(func(c *Config) { c.Method = Full })
	if full.PerExample <= base.PerExample || full.Trainable <= base.Trainable || full.Host <= base.Host || full.Frozen+full.Trainable/2 != base.Frozen+base.Trainable/2 {
		t.Errorf("everything trains: %+v, attention: %+v", full, base)
	}
	half := one(func(c *Config) { c.Training.BasePrecision = nn.BFloat16 })
	if half.PerExample != base.PerExample || half.Frozen >= base.Frozen || 2*half.Frozen < base.Frozen {
		t.Errorf("half precision: %+v, before %+v", half, base)
	}
	average := one(func(c *Config) { c.Training.EMA = 0.9 })
	if average.Host != base.Host+base.Trainable { // 8 bytes a parameter each.
		t.Errorf("an average takes %d bytes on the host, want %d", average.Host, base.Host+base.Trainable)
	}
}

// TestEstimateOnCards: hours fall with the card's rate and are those of its
// closed form, memory never exceeds the card's where something fits.
func TestEstimateOnCards(t *testing.T) {
	for _, g := range GPUs {
		if got, err := FindGPU(g.Name); err != nil || got != g {
			t.Errorf("%s: %+v, %v", g.Name, got, err)
		}
		if g.BFloat16 != 0 && g.BFloat16 < g.Float32 || g.Memory < 16*gib {
			t.Errorf("%+v is not a card", g)
		}
	}
	if _, err := FindGPU("voodoo2"); err == nil {
		t.Error("an unknown card is taken")
	}
	rapid.Check(t, func(t *rapid.T) {
		w := &Work{Examples: rapid.Float64Range(1, 1e7).Draw(t, "examples"), PerExample: rapid.Float64Range(1e6, 1e13).Draw(t, "flops"),
			DenseShare: rapid.Float64Range(0, 1).Draw(t, "dense"), Frozen: rapid.Int64Range(0, 8*gib).Draw(t, "frozen"),
			Trainable: rapid.Int64Range(1, 16*gib).Draw(t, "trainable"), Activations: rapid.Int64Range(1, 8*gib).Draw(t, "activations"),
			NextExample: rapid.Int64Range(1, 4*gib).Draw(t, "next"), BFloat16: rapid.Bool().Draw(t, "bfloat16"),
			expectedBatch: rapid.Float64Range(1, 4096).Draw(t, "batch")}
		card := rapid.SampledFrom(GPUs).Draw(t, "card")
		e := w.On(card)
		if e.Fits != (e.PhysicalBatch > 0) || e.PhysicalBatch > 64 || float64(e.PhysicalBatch) > w.expectedBatch+1 {
			t.Fatalf("estimate is %+v", e)
		}
		if e.Fits && e.DeviceBytes > card.Memory {
			t.Fatalf("%d bytes on a card of %d", e.DeviceBytes, card.Memory)
		}
		slower := card
		slower.Float32, slower.BFloat16 = card.Float32/2, card.BFloat16/2
		if half := w.On(slower); !(half.Hours >= 2*e.Hours*(1-1e-9)) {
			t.Fatalf("half of the rate takes %g hours, the whole %g", half.Hours, e.Hours)
		}
		if most := w.Examples * w.PerExample / (card.Float32 * 1e12 * Efficiency) / 3600; !(e.Hours <= most*(1+1e-9)) || !w.BFloat16 && e.Hours < most*(1-1e-9) {
			t.Fatalf("%g hours, want %g, or less with bfloat16", e.Hours, most)
		}
		larger := card
		larger.Memory *= 2
		if w.On(larger).PhysicalBatch < e.PhysicalBatch {
			t.Fatal("twice the memory holds fewer examples")
		}
	})
}
