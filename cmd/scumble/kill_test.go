package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/finetune"
)

const killBase = `
name: tiny
seed: 1
images: {size: 28, channels: 1, digit_share: 1}
pixel_unshuffle: 4
unet: {_class_name: UNet2DModel, sample_size: 7, in_channels: 16, out_channels: 16, block_out_channels: [8, 8], layers_per_block: 1, down_block_types: [DownBlock2D, DownBlock2D], up_block_types: [UpBlock2D, UpBlock2D], attention_head_dim: 8, norm_num_groups: 4, num_class_embeds: 37}
scheduler: {_class_name: DDIMScheduler, prediction_type: v_prediction, clip_sample: false}
denoiser: [{steps: 1, batch_size: 4, learning_rate: 1.0e-3}]
`

const killRun = `
base: base
method: loda
data: {path: private, examples: 100}
privacy: {epsilon: 5, delta: 1.0e-3}
training: {steps: 60, expected_batch_size: 4, clipping_norm: 1, learning_rate: 1.0e-3}
`

// kill -9 at random moments, then --resume, until the run is done: the ledger
// never shrinks, is never behind the checkpoint's step, and ends at exactly the
// planned number of steps.
func TestKillAndResume(t *testing.T) {
	kills := 4
	if os.Getenv("SCUMBLE_SLOW") != "" {
		kills = 60
	}
	dir := t.TempDir()
	scumble := func(args ...string) *exec.Cmd {
		c := exec.Command("scumble", args...)
		c.Dir = dir
		return c
	}
	for name, text := range map[string]string{"base.yaml": killBase, "run.yaml": killRun} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"pretrain", "base.yaml", "--out", "base", "--backend", "go", "--quiet"},
		{"data", "glyphs", "--out", "private", "--count", "100", "--seed", "1", "--digits-only", "--format", "folder"},
	} {
		if out, err := scumble(args...).CombinedOutput(); err != nil {
			t.Fatalf("scumble %v: %v\n%s", args, err, out)
		}
	}
	run := filepath.Join(dir, "run")
	start := []string{"finetune", "run.yaml", "--out", "run", "--backend", "go", "--json"}
	before, killed := 0, 0
	for attempt := 0; ; attempt++ {
		if attempt > 20*kills {
			t.Fatalf("run is not done after %d starts", attempt)
		}
		args := start
		if _, err := os.Stat(run); err == nil {
			args = []string{"finetune", "--resume", "run", "--backend", "go", "--json"}
		}
		var out, talk bytes.Buffer
		c := scumble(args...)
		c.Stdout, c.Stderr = &out, &talk
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if killed < kills {
			time.AfterFunc(time.Duration(200+rand.IntN(1500))*time.Millisecond, func() { c.Process.Kill() })
		}
		err := c.Wait()
		now := ledgerSteps(t, run)
		if now < before || now > 60 {
			t.Fatalf("ledger went from %d to %d steps of 60", before, now)
		}
		before = now
		if err == nil {
			var result demoResult
			if err := json.Unmarshal(out.Bytes(), &result); err != nil {
				t.Fatal(err)
			}
			if result.Epsilon > 5 || now != 60 {
				t.Errorf("after %d kills: epsilon %g, %d steps in the ledger, want at most 5 and 60", killed, result.Epsilon, now)
			}
			return
		}
		if c.ProcessState.ExitCode() != -1 { // Not killed by us.
			t.Fatalf("scumble %v: %v\n%s", args, err, talk.String())
		}
		killed++
	}
}

// ledgerSteps counts the steps that a run is charged, 0 before it has a ledger.
func ledgerSteps(t *testing.T, run string) int {
	t.Helper()
	path := filepath.Join(run, finetune.LedgerFile)
	if _, err := os.Stat(path); err != nil {
		return 0
	}
	record, err := accountant.ReadLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range record.Events() {
		n += e.Count
	}
	return n
}
