package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The keys of bench step are a contract.
func TestBenchStepJSON(t *testing.T) {
	out := runOK(t, strings.Fields("bench step --workload latent --trainable loda --batch 1 --rounds 1 --backend go --private-only --json --quiet")...)
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"seconds_nonprivate", "seconds_dp", "ratio", "peak_rss_bytes", "parameters", "trainable_parameters",
		"gflop_per_step", "gflops", "backend", "physical_batch", "compile_seconds"} {
		if _, ok := got[key]; !ok {
			t.Errorf("key %q is missing: %s", key, out)
		}
	}
	if got["parameters"] != 24457988.0 || got["trainable_parameters"] != 231424.0 || got["backend"] != "go" || got["physical_batch"] != 1.0 || got["seconds_nonprivate"] != nil {
		t.Errorf("figures are %s", out)
	}
}

// Flags that are wrong exit 2 and are named, before a backend is opened.
func TestBenchStepMisuse(t *testing.T) {
	for args, want := range map[string]string{
		"--workload voxel":                `--workload is "voxel", want one of pixel, latent, celebahq-vq-f4, `,
		"--trainable most":                `--trainable is "most"`,
		"--batch 0":                       "batch is 0",
		"--trainable none --private-only": "has no private step",
		"--engine steam":                  `clipping method is "steam"`,
	} {
		var out, errs bytes.Buffer
		code := run(context.Background(), append([]string{"bench", "step", "--backend", "go"}, strings.Fields(args)...), &out, &errs)
		if code != exitMisuse || !strings.Contains(errs.String(), want) || out.Len() > 0 {
			t.Errorf("%s: exit code %d, %s", args, code, errs.String())
		}
	}
}

// plan --layers lists every trainable parameter once.
func TestPlanLayers(t *testing.T) {
	config := filepath.Join(t.TempDir(), "run.yaml")
	if err := os.WriteFile(config, []byte(`base: latent
method: attention
data: {path: nowhere, examples: 8000, size: 28, channels: 1, classes: [a, b, c]}
privacy: {epsilon: 10, delta: 1.0e-5}
training: {steps: 20, expected_batch_size: 800, clipping_norm: 1, learning_rate: 1.0e-3, multiplicity: 2}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	var plan struct {
		Parameters int `json:"trainable_parameters"`
	}
	if err := json.Unmarshal([]byte(runOK(t, "plan", config, "--backend", "go", "--json", "--quiet")), &plan); err != nil {
		t.Fatal(err)
	}
	var layers struct {
		Layers []struct {
			Path, Kind, Rule string
			Parameters, Rows int
		}
		Total struct{ Parameters int }
	}
	if err := json.Unmarshal([]byte(runOK(t, "plan", config, "--layers", "--backend", "go", "--json", "--quiet")), &layers); err != nil {
		t.Fatal(err)
	}
	text := runOK(t, "plan", config, "--layers", "--backend", "go", "--quiet")
	sum := 0
	for _, l := range layers.Layers {
		sum += l.Parameters
		if l.Rows < 2 || l.Rows%2 != 0 {
			t.Errorf("%s has %d rows, want those of 2 draws", l.Path, l.Rows)
		}
		if !strings.Contains(text, l.Kind+", "+l.Path+"\n") || !strings.Contains(text, l.Rule) {
			t.Errorf("the table lacks %s", l.Path)
		}
	}
	if sum != plan.Parameters || layers.Total.Parameters != sum {
		t.Errorf("layers hold %d parameters, their total says %d, the plan %d", sum, layers.Total.Parameters, plan.Parameters)
	}
}
