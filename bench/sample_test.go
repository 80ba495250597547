package bench

import (
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

func TestSample(t *testing.T) {
	b := backendtest.Open(t, "go")
	told := 0
	r, err := Sample(t.Context(), b, SampleOptions{Workload: Latent, Batch: 2, Steps: 1, Rounds: 2, Workers: 1, PhysicalBatch: 1, Lowering: nn.Patches,
		Report: func(done, total int) {
			if told++; done != told || total != 6 {
				t.Errorf("report %d: %d of %d, want %d of 6", told, done, total, told)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	if told != 6 {
		t.Errorf("%d calls were reported, want 6: three batches of two images, one a call", told)
	}
	if !(r.SecondsPerBatch > 0 && r.CPUSecondsPerBatch > 0) || r.ImagesPerSecond*r.SecondsPerBatch < 1.99 || r.ImagesPerSecond*r.SecondsPerBatch > 2.01 {
		t.Errorf("%g images and %g seconds (processor: %g), want positive, and two images a batch", r.ImagesPerSecond, r.SecondsPerBatch, r.CPUSecondsPerBatch)
	}
}

func TestSampleRefused(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, c := range []struct {
		o    SampleOptions
		want string
	}{
		{SampleOptions{Workload: "none"}, "workload"},
		{SampleOptions{Workload: Pixel, Batch: -1}, "negative"},
		{SampleOptions{Workload: Pixel, Batch: 10, PhysicalBatch: 4}, "divided"},
	} {
		if _, err := Sample(t.Context(), b, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one about %q", c.o, err, c.want)
		}
	}
}
