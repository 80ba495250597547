package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/finetune"
)

// Both baselines, from a config to a ledger that a later run could name.
func TestBaselines(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	runOK(t, "data", "glyphs", "--digits-only", "--count", "200", "--seed", "4", "--out", at("private"))
	runOK(t, "data", "glyphs", "--digits-only", "--count", "100", "--seed", "5", "--out", at("test"))
	config := `base: latent
method: attention
data: {path: ` + at("private") + `, examples: 200, classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]}
privacy: {epsilon: 5, delta: 1.0e-4}
training: {steps: 1, expected_batch_size: 10, clipping_norm: 1, learning_rate: 1.0e-3}
sampling: {count: 50}
`
	if err := os.WriteFile(at("config.yaml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"classifier": {"--steps", "3", "--expected-batch-size", "20"},
		"evolution":  {"--pool", "glyphs", "--pool-images", "400", "--votes", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			out := runOK(t, append([]string{"bench", name, at("config.yaml"), "--out", at(name), "--reference", at("test"), "--quiet", "--json", "--backend", "go"}, args...)...)
			var r baselineResult
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				t.Fatal(err)
			}
			if r.Baseline != name || !(r.Epsilon > 4.9 && r.Epsilon <= 5) || r.Accuracy == nil || len(r.NotCovered) != 2 {
				t.Errorf("result is %+v, want epsilon of nearly 5 and an accuracy that is not covered", r)
			}
			lines, err := os.ReadFile(filepath.Join(at(name), finetune.LedgerFile))
			if err != nil {
				t.Fatal(err)
			}
			ledger, err := accountant.ParseLedger(lines)
			if err != nil {
				t.Fatal(err)
			}
			claim, err := accountant.PLD{}.Epsilon(ledger.Events(), accountant.AddOrRemove, 1e-4)
			if err != nil || claim.Epsilon != r.Epsilon {
				t.Errorf("the ledger holds epsilon %g (%v), the result says %g", claim.Epsilon, err, r.Epsilon)
			}
		})
	}
	if pictures, err := filepath.Glob(at("evolution/synthetic/*/*.png")); err != nil || len(pictures) != 50 {
		t.Errorf("%d images (%v), want 50", len(pictures), err)
	}
	// Refused before anything is spent.
	for want, args := range map[string][]string{
		"exists":            {"classifier", at("config.yaml"), "--out", at("classifier")},
		"--pool":            {"evolution", at("config.yaml"), "--out", at("x")},
		"--out is missing":  {"classifier", at("config.yaml")},
		"lies in":           {"classifier", at("config.yaml"), "--out", filepath.Join(at("private"), "x")},
		"steps is 0":        {"classifier", at("config.yaml"), "--out", at("y"), "--steps", "0"},
		"want glyphs or sh": {"evolution", at("config.yaml"), "--pool", "faces", "--out", at("z")},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"bench"}, append(args, "--quiet", "--backend", "go")...), &out, &errs)
		if code == exitDone || !strings.Contains(errs.String(), want) {
			t.Errorf("%v: exit code %d, %s; want %q", args, code, errs.String(), want)
		}
	}
	// With --json no error names a file of private or reference images.
	if err := os.WriteFile(at("test/0/smith.png"), []byte("no picture"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"bench", "classifier", at("config.yaml"), "--out", at("v"), "--reference", at("test"), "--json", "--quiet", "--backend", "go"}, &out, &errs); code == exitDone ||
		strings.Contains(errs.String()+out.String(), "smith") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	if _, err := os.Stat(at("y")); err == nil {
		t.Error("a run that spent nothing left a folder")
	}
}
