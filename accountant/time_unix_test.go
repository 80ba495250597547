//go:build unix

package accountant

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestTimeOfGoldenCases prints the processor time of every golden case, the
// median of 5, and holds the limits: 5 s for any, and for realistic runs 0.1 s
// an epsilon and 2 s a calibration. CPU time, so that other work on the
// machine does not count. Only with SCUMBLE_SLOW.
func TestTimeOfGoldenCases(t *testing.T) {
	if os.Getenv("SCUMBLE_SLOW") == "" {
		t.Skip("left out: SCUMBLE_SLOW is not set")
	}
	for _, g := range readGolden(t) {
		times := make([]time.Duration, 5)
		for i := range times {
			start := processorTime()
			if r := g.Run(); r.Error != "" {
				t.Fatal(r.Error)
			}
			times[i] = processorTime() - start
		}
		slices.Sort(times)
		limit := 5 * time.Second
		switch {
		case g.Task == "calibrate_sigma":
			limit = 2 * time.Second
		case len(g.ID) > 4 && g.ID[:4] == "real":
			limit = 100 * time.Millisecond
		}
		t.Logf("%-28s %v", g.ID, times[2])
		if times[2] > limit {
			t.Errorf("%s took %v, want at most %v", g.ID, times[2], limit)
		}
	}
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
