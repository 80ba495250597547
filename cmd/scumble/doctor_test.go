package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/backend"
)

func normals(seed uint64, scale, shift float64) []float64 {
	r := rand.New(rand.NewPCG(seed, 1))
	values := make([]float64, noiseDraws)
	for i := range values {
		values[i] = scale*r.NormFloat64() + shift
	}
	return values
}

func TestNoiseOfThisMachine(t *testing.T) {
	facts, err := testNoise(context.Background())
	if err != nil { // False alarms: fewer than one in 10^8 runs.
		t.Fatal(err)
	}
	if facts.draws != noiseDraws || facts.deviation == 0 {
		t.Errorf("facts are %+v, want %d draws", facts, noiseDraws)
	}
}

func TestBadNoiseIsFound(t *testing.T) {
	smooth := normals(1, 1, 0)
	for i := range smooth[1:] {
		smooth[i+1] = 0.05*smooth[i] + 0.99875*smooth[i+1]
	}
	for _, c := range []struct {
		name          string
		first, second []float64
		want          string // Part of the error; "" where there is none.
	}{
		{"good", normals(1, 1, 0), normals(2, 1, 0), ""},
		{"a percent too little", normals(1, 0.99, 0), normals(2, 1, 0), "standard deviation"},
		{"a percent too much", normals(1, 1.01, 0), normals(2, 1, 0), "standard deviation"},
		{"none", make([]float64, noiseDraws), normals(2, 1, 0), "standard deviation"},
		{"shifted", normals(1, 1, 0.02), normals(2, 1, 0), "mean"},
		{"the same key twice", normals(1, 1, 0), normals(1, 1, 0), "two keys"},
		{"dependent neighbours", smooth, normals(2, 1, 0), "neighbours"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := judgeNoise(c.first, c.second)
			if c.want == "" && err != nil {
				t.Errorf("error is %v, want none", err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error is %v, want one about %q", err, c.want)
			}
		})
	}
}

// What can be pasted into an issue does not name the user's home folder.
func TestDoctorKeepsTheHomeFolderToItself(t *testing.T) {
	home := filepath.Join(t.TempDir(), "alice")
	plugin := filepath.Join(home, "plugins", "pjrt_c_api_cpu_plugin.so")
	if err := os.MkdirAll(filepath.Dir(plugin), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(plugin, []byte("not a library"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("PJRT_PLUGIN_LIBRARY_PATH", filepath.Dir(plugin))
	d := examine(context.Background(), filepath.Join(home, "nowhere"))
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	d.print(&lines)
	for _, s := range []string{string(text), lines.String()} {
		if strings.Contains(s, home) {
			t.Errorf("the home folder is named in:\n%s", s)
		}
	}
	if got := d.failed(); len(got) != 1 || got[0] != "write" {
		t.Errorf("failed checks are %q, want write alone:\n%s", got, lines.String())
	}
	found := false
	for _, b := range d.Backends {
		if b.Name == backend.Go {
			found = b.Probe != nil && b.Probe.GFLOPS > 0
		}
	}
	if !found {
		t.Errorf("the go backend was not run:\n%s", lines.String())
	}
}

func TestBuildInformation(t *testing.T) {
	var b buildFacts
	b.read(&debug.BuildInfo{
		Main: debug.Module{Version: "v0.3.0"},
		Deps: []*debug.Module{{Path: "github.com/gomlx/gomlx", Version: "v0.28.6"}},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"},
		},
	})
	want := buildFacts{Version: "v0.3.0", Revision: "abc", Time: "2026-01-02T03:04:05Z", Modified: true, GoMLX: "v0.28.6"}
	if b != want {
		t.Errorf("got %+v, want %+v", b, want)
	}
	if got := b.revision(); got != "abc, with changes" {
		t.Errorf("revision is %q", got)
	}
}
