package pretrain

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/nn"
)

func TestExp(t *testing.T) {
	if os.Getenv("EXP") == "" {
		t.Skip()
	}
	b, info, err := backend.Open(os.Getenv("BK"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(info)
	c, err := ReadConfig(os.Getenv("EXP"))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	o := Options{Lowering: nn.LoweringFor(os.Getenv("LOW")), Workers: 2, Report: func(p Progress) {
		fmt.Printf("%s %d/%d %.4f  %.1fs\n", p.Stage, p.Step, p.Steps, p.Loss, time.Since(start).Seconds())
	}}
	if d := os.Getenv("BASE"); d != "" {
		if o.Base, err = checkpoint.Load(d); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Run(context.Background(), b, c, o)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("parameters", m.Weights.Size())
	if err := checkpoint.Save(os.Getenv("OUT"), m); err != nil {
		t.Fatal(err)
	}
}
