package finetune

import (
	"testing"

	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// The layers of a plan hold its trainable parameters, each once, and more draws
// make more rows.
func TestLayersHoldWhatTrains(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, method := range []Method{Attention, LoDA, Full} {
		t.Run(string(method), func(t *testing.T) {
			rows := map[int]int{}
			for _, draws := range []int{1, 3} {
				c := tinyConfig(method, tinyData(t, 40))
				c.Training.Multiplicity = draws
				plan, target, err := NewPlan(b, c, tinyBase(t, b))
				if err != nil {
					t.Fatal(err)
				}
				layers, err := target.Layers(b, nn.Patches, plan)
				if err != nil {
					t.Fatal(err)
				}
				parameters := 0
				for _, l := range layers {
					parameters += l.Parameters
					rows[draws] += l.Rows
					if flops, _ := l.Added(); l.Rule == "" || l.Kind == "" || !(flops > 0) || !(l.GradientFlops > 0) {
						t.Errorf("layer %+v has no rule, kind or cost", l)
					}
					if l.Rule != dpsgd.Direct && l.Rule != dpsgd.ChooseRule(nn.Patches, dpsgd.Shape{Kind: nn.Linear, Rows: l.Rows, In: l.In, Out: l.Out}) {
						t.Errorf("%s: rule is %s, the engine takes another", l.Path, l.Rule)
					}
				}
				if parameters != plan.TrainableParameters {
					t.Errorf("layers hold %d parameters, the plan says %d", parameters, plan.TrainableParameters)
				}
			}
			if rows[3] != 3*rows[1] {
				t.Errorf("3 draws have %d rows, 1 draw has %d", rows[3], rows[1])
			}
		})
	}
}

// A parameter that no layer owns is refused by name.
func TestLayersRefuseAParameterWithoutARule(t *testing.T) {
	b := backendtest.Open(t, "go")
	plan, target, err := NewPlan(b, tinyConfig(Attention, tinyData(t, 40)), tinyBase(t, b))
	if err != nil {
		t.Fatal(err)
	}
	target.trainable = append(target.trainable, "unet.no_such.weight")
	if _, err := target.Layers(b, nn.Patches, plan); err == nil || err.Error() != `trainable parameter "unet.no_such.weight" has no per-example gradient rule; is the name right?` {
		t.Errorf("error is %v", err)
	}
}
