package finetune

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/internal/backendtest"
)

// A LoRA run moves the branches and the class table and nothing else, charges its
// steps, and releases an adapter that PEFT's reader takes. Dense layers and
// convolutions are targets alike.
func TestLoRARun(t *testing.T) {
	b := backendtest.Open(t, "go")
	for name, targets := range map[string][]string{"attention": nil, "convolutions": {"conv1", "time_emb_proj"}} {
		t.Run(name, func(t *testing.T) {
			c := tinyConfig(LoRA, tinyData(t, 40))
			c.LoRA.Rank, c.LoRA.Alpha, c.LoRA.Targets = 2, 3, targets
			base := tinyBase(t, b)
			before := base.Weights.Clone()
			dir := filepath.Join(t.TempDir(), "run")
			r, err := Run(context.Background(), b, c, base, options(dir))
			if err != nil {
				t.Fatal(err)
			}
			record, err := accountant.ReadLedger(filepath.Join(dir, LedgerFile))
			if err != nil {
				t.Fatal(err)
			}
			if events := record.Events(); len(events) != 1 || events[0].Count != c.Training.Steps {
				t.Errorf("ledger holds %+v, want one event %d times", events, c.Training.Steps)
			}
			model := filepath.Join(dir, ReleaseDir, "model")
			released, err := checkpoint.Load(model)
			if err != nil {
				t.Fatal(err)
			}
			if !released.Adapter.IsLoRA() {
				t.Errorf("released adapter is %+v, want LoRA", released.Adapter)
			}
			trained := 0
			for _, w := range released.Weights.All() {
				old := before.Get(w.Name)
				moved := old == nil || !slices.Equal(old.Data, w.Data)
				want := strings.Contains(w.Name, ".lora_") || w.Name == "unet.class_embedding.weight"
				if moved != want {
					t.Errorf("%s: moved is %t, want %t", w.Name, moved, want)
				}
				if want {
					trained += len(w.Data)
				}
				if strings.Contains(w.Name, ".lora_B.") && !slices.ContainsFunc(w.Data, func(v float32) bool { return v != 0 }) {
					t.Errorf("%s is still zero", w.Name)
				}
			}
			if trained != r.Plan.TrainableParameters {
				t.Errorf("%d parameters trained, the plan says %d", trained, r.Plan.TrainableParameters)
			}
			specs, err := released.UNet.Specs(b)
			if err != nil {
				t.Fatal(err)
			}
			config, branches, err := checkpoint.ReadAdapter(filepath.Join(model, "adapter"), specs, "unet")
			if err != nil {
				t.Fatal(err)
			}
			if config.Rank != 2 || config.Alpha != 3 || len(branches) != 2*len(adapter.Branches(released.Weights)) {
				t.Errorf("PEFT folder has %+v and %d tensors", config, len(branches))
			}
		})
	}
}

func TestLoRARefuses(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := tinyConfig(LoRA, tinyData(t, 40))
	c.LoRA.Targets = []string{"nowhere"}
	if _, _, err := NewPlan(b, c, tinyBase(t, b)); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("error is %v, want one that names the target", err)
	}
	base := tinyBase(t, b)
	base.Adapter = &adapter.Config{Rank: 1, Targets: []string{"to_q"}}
	if _, _, err := NewPlan(b, tinyConfig(LoRA, tinyData(t, 40)), base); err == nil || !strings.Contains(err.Error(), "adapter already") {
		t.Errorf("error is %v, want one about the base's adapter", err)
	}
}
