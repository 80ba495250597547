package main

import (
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"
)

// Files that numpy wrote, the second of which holds the moments of the first.
func TestEvalOfFeatureFiles(t *testing.T) {
	folder := filepath.Join("..", "..", "eval", "testdata")
	features, moments := filepath.Join(folder, "features.npz"), filepath.Join(folder, "statistics.npz")
	var out struct {
		FID        *float64 `json:"frechet_inception_distance"`
		Precision  *float64 `json:"precision"`
		Covered    bool     `json:"covered"`
		NotCovered []string `json:"not_covered"`
		Notes      []string `json:"notes"`
	}
	get := func(args ...string) {
		t.Helper()
		out.FID, out.Precision, out.NotCovered, out.Notes = nil, nil, nil, nil
		if err := json.Unmarshal([]byte(runOK(t, append([]string{"eval", "--json"}, args...)...)), &out); err != nil {
			t.Fatal(err)
		}
	}
	get(features, "--reference", moments)
	// The features are in half precision, the moments are not.
	if out.FID == nil || math.Abs(*out.FID) > 1e-4 || out.Covered || len(out.NotCovered) != 1 || out.Precision != nil {
		t.Errorf("distance to its own moments is %+v, want a fid of 0, not covered, and nothing else", out)
	}
	get(features, "--reference", features, "--reference-public")
	if out.FID == nil || math.Abs(*out.FID) > 1e-9 || out.Precision == nil || *out.Precision != 1 || !out.Covered || len(out.NotCovered) != 0 {
		t.Errorf("features against themselves are %+v, want fid 0 and precision 1, covered", out)
	}
}

// The help of eval and what is below it fits a terminal and names units.
func TestEvalHelp(t *testing.T) {
	for _, name := range []string{"eval", "eval train-network"} {
		for i, line := range strings.Split(runOK(t, append(strings.Fields(name), "--help")...), "\n") {
			if len([]rune(line)) > 130 {
				t.Errorf("line %d of the help of %s has %d characters, want at most 130: %s", i+1, name, len([]rune(line)), line)
			}
		}
		usages := findCommand(t, name).LocalFlags().FlagUsages()
		for _, plain := range []string{"--seed uint", "--seeds int", "--steps int", "--metrics strings", "--kid-subsets int", "--reference string"} {
			if strings.Contains(usages, plain) {
				t.Errorf("help of %s has %q, want a word of ours for the unit", name, plain)
			}
		}
	}
}
