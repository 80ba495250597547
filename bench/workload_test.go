package bench

import (
	"math"
	"testing"

	"github.com/scumble-dp/scumble/internal/backendtest"
)

// TestWorkloads compares parameters, tensors and floating-point operations with
// those that diffusers, PEFT and torch's FlopCounterMode count for the same
// models (docs/engine.md says which versions), the latter in GFLOP to 3 digits.
func TestWorkloads(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, c := range []struct {
		name              string
		set               Set
		trainable, tensor int
		forward, total    float64
	}{
		{Pixel, Full, 6804225, 319, 3.223, 9.667},
		{Pixel, Attention, 732160, 111, 3.223, 6.767},
		{Pixel, LoRA, 45056, 88, 3.236, 6.200},
		{Pixel, LoDA, 180736, 68, 3.336, 6.883},
		{Pixel, None, 6804225, 319, 3.223, 9.667},
		{Latent, Full, 24457988, 435, 1.153, 3.458},
		{Latent, Attention, 10106880, 287, 1.153, 2.739},
		{Latent, LoRA, 133120, 176, 1.159, 2.286},
		{Latent, LoDA, 231424, 48, 1.167, 2.3126}, // Torch counted 2.336: gradients that no adapter needs.
	} {
		t.Run(c.name+"/"+string(c.set), func(t *testing.T) {
			w, err := NewWorkload(b, c.name, c.set)
			if err != nil {
				t.Fatal(err)
			}
			all := map[string]int{Pixel: 6804225, Latent: 24457988}[c.name]
			if w.Parameters() != all || w.TrainableParameters() != c.trainable || len(w.Trainable) != c.tensor {
				t.Errorf("%d parameters, %d trainable in %d tensors, want %d, %d in %d",
					w.Parameters(), w.TrainableParameters(), len(w.Trainable), all, c.trainable, c.tensor)
			}
			forward, total := w.Flops(b)
			t.Logf("GFLOP: forward %.4f, with backward %.4f", forward/1e9, total/1e9)
			if math.Abs(forward/1e9-c.forward) > 2e-3 || math.Abs(total/1e9-c.total) > 2e-3 {
				t.Errorf("GFLOP are %.4f forward, %.4f with backward, want %.3f, %.3f", forward/1e9, total/1e9, c.forward, c.total)
			}
		})
	}
}
