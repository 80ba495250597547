package finetune

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// TestReleasesLargeBases: small models keep their host copies.
func TestReleasesLargeBases(t *testing.T) {
	small, large := nn.NewWeights(), nn.NewWeights()
	small.Add(&nn.Tensor{Name: "unet.a", Shape: []int{4}, Data: make([]float32, 4)})
	large.Add(&nn.Tensor{Name: "unet.a", Shape: []int{releaseFrom}, Data: make([]float32, releaseFrom)}) // Untouched pages cost nothing.
	c := &Config{}
	if baseOptions(c, small, nil, 0).Release || !baseOptions(c, large, nil, 0).Release || baseOptions(c, large, []string{"unet.a"}, 0).Release {
		t.Error("what does not train and is large is given up on the host, nothing else")
	}
	c.WarmStart.Means = 1
	if baseOptions(c, large, nil, 0).Release {
		t.Error("a warm start needs the weights on the host")
	}
}

// TestRunWithHalfBase: a run whose frozen weights are in bfloat16, and for its
// time not on the host, releases them rounded, and trains what it trains without
// parting from them; vectors and what trains are not rounded.
func TestRunWithHalfBase(t *testing.T) {
	b := backendtest.Open(t, "go")
	data := tinyData(t, 40)
	run := func(precision nn.Precision, from int) (released, before *nn.Weights) {
		c := tinyConfig(Attention, data)
		c.Training.BasePrecision = precision
		base := tinyBase(t, b)
		before = base.Weights.Clone()
		o := options(filepath.Join(t.TempDir(), "run"))
		o.InsecureSeed, o.releaseFrom = 7, from
		if _, err := Run(context.Background(), b, c, base, o); err != nil {
			t.Fatal(err)
		}
		m, err := checkpoint.Load(filepath.Join(o.Dir, ReleaseDir, "model"))
		if err != nil {
			t.Fatal(err)
		}
		return m.Weights, before
	}
	got, before := run(nn.BFloat16, 1)
	kept, _ := run(nn.BFloat16, 0)
	plain, _ := run(nn.Float32, 1)
	rounded := 0
	for _, w := range got.All() {
		old := before.Get(w.Name)
		if !slices.Equal(w.Data, kept.Get(w.Name).Data) {
			t.Errorf("%s differs from that of a run that kept its host copy", w.Name)
		}
		if isTrained(Attention, w.Name) {
			continue
		}
		if !slices.Equal(plain.Get(w.Name).Data, old.Data) {
			t.Errorf("%s changed in a run in float32", w.Name)
		}
		for i, v := range w.Data {
			bits := math.Float32bits(v)
			switch {
			case v != old.Data[i]:
				rounded++
				if bits&0xffff != 0 || math.Abs(float64(v-old.Data[i])) > math.Abs(float64(v))/128 {
					t.Fatalf("%s: value %d is %g, want %g rounded", w.Name, i, v, old.Data[i])
				}
			case w.Kind == nn.KindKernel && bits&0xffff != 0:
				t.Fatalf("%s: value %d is not rounded", w.Name, i)
			}
		}
	}
	if rounded == 0 {
		t.Error("nothing was rounded")
	}
}

// TestRunReleasesHostCopies: a run that parts from the host's copy of its frozen weights for its time
// releases the weights of one that keeps it, adapters and all weights as well.
func TestRunReleasesHostCopies(t *testing.T) {
	b := backendtest.Open(t, "go")
	data := tinyData(t, 40)
	for _, method := range []Method{LoDA, Full} {
		run := func(from int) *nn.Weights {
			o := options(filepath.Join(t.TempDir(), "run"))
			o.InsecureSeed, o.releaseFrom = 7, from
			if _, err := Run(context.Background(), b, tinyConfig(method, data), tinyBase(t, b), o); err != nil {
				t.Fatal(method, err)
			}
			m, err := checkpoint.Load(filepath.Join(o.Dir, ReleaseDir, "model"))
			if err != nil {
				t.Fatal(method, err)
			}
			return m.Weights
		}
		got, want := run(1), run(0)
		for _, w := range want.All() {
			if !slices.Equal(got.Get(w.Name).Data, w.Data) {
				t.Errorf("%s: %s differs from that of a run that kept its host copy", method, w.Name)
			}
		}
	}
}
