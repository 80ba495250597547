package finetune

import (
	"context"
	"math"
	"testing"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/internal/backendtest"
)

// Measure: the mean norm does not depend on the clipping norm; the clipped share goes
// from none to all as the clipping norm falls below every gradient.
func TestMeasureCountsTheClipped(t *testing.T) {
	b := backendtest.Open(t, "go")
	folder := tinyData(t, 40)
	public, err := dataset.Open(folder, dataset.Options{Classes: []string{"0", "1", "2", "3"}})
	if err != nil {
		t.Fatal(err)
	}
	var means []float64
	for _, k := range []struct{ clippingNorm, clipped float64 }{{1e6, 0}, {1e-9, 1}} {
		c := tinyConfig(LoDA, folder)
		c.Training.ClippingNorm = k.clippingNorm
		o := options("")
		o.InsecureSeed = 3 // The same draws for both.
		n, err := Measure(context.Background(), b, c, tinyBase(t, b), public, o)
		if err != nil {
			t.Fatal(err)
		}
		if n.Examples != public.Len() || n.Clipped != k.clipped || n.ClippingNorm != k.clippingNorm || !(n.Seconds > 0) {
			t.Errorf("at clipping norm %g: %+v, want %d examples, share %g clipped", k.clippingNorm, n, public.Len(), k.clipped)
		}
		means = append(means, n.MeanNorm)
	}
	if !(means[0] > 0) || math.Abs(means[0]-means[1]) > 1e-6*means[0] {
		t.Errorf("mean norms are %g and %g, want the same above zero", means[0], means[1])
	}
}
