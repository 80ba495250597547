package bench

import (
	"context"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// TestStep times two examples of each kind of step and checks that the figures
// are of what was asked for.
func TestStep(t *testing.T) {
	b := backendtest.Open(t, backend.Go)
	for _, o := range []StepOptions{
		{Workload: Latent, Set: LoRA, Batch: 2, Multiplicity: 2, Rounds: 2},
		{Workload: Latent, Set: LoDA, Batch: 2, Rounds: 1, PrivateOnly: true, Engine: dpsgd.PerExampleLoop, Workers: 2},
		{Workload: Latent, Set: None, Batch: 2, Rounds: 1, PhysicalBatch: 1},
	} {
		t.Run(string(o.Set), func(t *testing.T) {
			o.Lowering = nn.Patches
			var said []string
			o.Report = func(what string) { said = append(said, what) }
			r, err := Step(context.Background(), b, o)
			if err != nil {
				t.Fatal(err)
			}
			ordinary, private := !o.PrivateOnly, o.Set != None
			for _, figure := range []struct {
				name  string
				value *float64
				asked bool
			}{
				{"seconds_nonprivate", r.SecondsNonPrivate, ordinary}, {"cpu_seconds_nonprivate", r.CPUSecondsNonPrivate, ordinary},
				{"seconds_dp", r.SecondsDP, private}, {"cpu_seconds_dp", r.CPUSecondsDP, private},
				{"ratio", r.Ratio, ordinary && private}, {"cpu_ratio", r.CPURatio, ordinary && private},
				{"compile_seconds_nonprivate", r.CompileSecondsNonPrivate, ordinary},
			} {
				if (figure.value != nil) != figure.asked || figure.value != nil && !(*figure.value > 0) {
					t.Errorf("%s is %v, asked for: %t", figure.name, figure.value, figure.asked)
				}
			}
			seconds := r.SecondsDP
			if !private {
				seconds = r.SecondsNonPrivate
			}
			if d := r.GFLOPS * *seconds / r.GFLOPPerStep; !(d > 0.999999 && d < 1.000001) || !(r.CompileSeconds > 0) {
				t.Errorf("%g GFLOP/s are not %g GFLOP in %g s", r.GFLOPS, r.GFLOPPerStep, *seconds)
			}
			if r.PeakRSS != 0 && r.PeakRSS < 4*int64(r.Parameters) {
				t.Errorf("peak memory is %d bytes, less than the weights", r.PeakRSS)
			}
			if len(said) < r.Rounds+1 {
				t.Errorf("it said %q, want each round", said)
			}
		})
	}
}

// Draws count as work: K times the operations, however the batch is cut.
func TestStepCountsDraws(t *testing.T) {
	for _, c := range []struct{ batch, multiplicity, workers, asked, want int }{
		{64, 1, 2, 0, 16}, {256, 1, 2, 0, 16}, {64, 4, 2, 0, 4}, {8, 1, 2, 0, 4}, {7, 1, 1, 4, 1}, {12, 1, 1, 5, 4}, {1, 8, 2, 0, 1}, {8, 1, 1, 64, 8},
	} {
		o := StepOptions{Workload: Pixel, Set: Full, Batch: c.batch, Multiplicity: c.multiplicity, Workers: c.workers, PhysicalBatch: c.asked}
		o.setDefaults()
		if o.PhysicalBatch != c.want || o.Batch%o.PhysicalBatch != 0 {
			t.Errorf("%+v: physical batch is %d, want %d", c, o.PhysicalBatch, c.want)
		}
	}
}

func TestStepRefuses(t *testing.T) {
	b := backendtest.Open(t, backend.Go)
	for _, c := range []struct {
		want string
		o    StepOptions
	}{
		{"batch is 0", StepOptions{Workload: Pixel, Set: Full}},
		{"workload is \"voxel\"", StepOptions{Workload: "voxel", Set: Full, Batch: 1}},
		{"trainable set is \"most\"", StepOptions{Workload: Pixel, Set: "most", Batch: 1}},
		{"multiplicity is -1", StepOptions{Workload: Pixel, Set: Full, Batch: 1, Multiplicity: -1}},
		{"rounds is -1", StepOptions{Workload: Pixel, Set: Full, Batch: 1, Rounds: -1}},
		{"workers is -1", StepOptions{Workload: Pixel, Set: Full, Batch: 1, Workers: -1}},
		{"physical batch is -1", StepOptions{Workload: Pixel, Set: Full, Batch: 1, PhysicalBatch: -1}},
		{"has no private step", StepOptions{Workload: Pixel, Set: None, Batch: 1, PrivateOnly: true}},
	} {
		if _, err := Step(context.Background(), b, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error is %v, want %q", err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Step(ctx, b, StepOptions{Workload: Latent, Set: LoRA, Batch: 1, Lowering: nn.Patches, PrivateOnly: true}); err == nil {
		t.Error("a cancelled step returned no error")
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.v); got != c.want {
			t.Errorf("median of %v is %g, want %g", c.v, got, c.want)
		}
	}
}
