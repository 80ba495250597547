// Package releasetest makes releases for tests, without training anything.
package releasetest

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/recount"
	"github.com/scumble-dp/scumble/release"
	"github.com/scumble-dp/scumble/report"
)

// The run that a release tells of.
const (
	Steps = 40
	Delta = 1e-5
)

var step = accountant.DPSGD(1.3, 0.1, 1)

// Ledger returns the released ledger of a run of Steps steps.
func Ledger(t testing.TB, note string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l, err := accountant.CreateLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Begin(accountant.Run{ID: "finetune", Dataset: "d41d8c", Unit: "example", Neighboring: accountant.AddOrRemove,
		Epsilon: 10, Delta: Delta, Plan: []accountant.Event{accountant.DPSGD(1.3, 0.1, Steps)}, Note: note}); err != nil {
		t.Fatal(err)
	}
	for range Steps {
		if err := l.Append(accountant.Entry{Run: "finetune", Event: &step}); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := finetune.ReleasedLedger(l.Record())
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// run returns what the report of that run shows.
func run(t testing.TB, lines []byte) *report.Run {
	t.Helper()
	record, err := accountant.ParseLedger(lines)
	if err != nil {
		t.Fatal(err)
	}
	events := record.Events()
	claim, err := accountant.PLD{}.Epsilon(events, accountant.AddOrRemove, Delta)
	if err != nil {
		t.Fatal(err)
	}
	second, err := recount.Epsilon(events, accountant.AddOrRemove, Delta)
	if err != nil {
		t.Fatal(err)
	}
	points, err := accountant.RDP{}.Curve(events, accountant.AddOrRemove, []float64{2, 8, 32})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	r := &report.Run{
		Title: "Synthetic digits", Version: "scumble test", Created: start, Method: "loda", Base: "pixel", BaseProvenance: "Rendered characters.",
		Weights: []report.Weight{{Name: "unet", TrainedOn: "rendered characters", Licence: "Apache-2.0", Public: true}},
		Claim: report.Claim{Epsilon: claim.Epsilon, Delta: Delta, EpsilonLower: claim.Lower, EpsilonRecount: second.Epsilon, RecountError: second.Error,
			Neighboring: accountant.AddOrRemove, Unit: "image", NoiseMultiplier: 1.3, SamplingProbability: 0.1, ExpectedBatchSize: 800, ClippingNorm: 1,
			Steps: Steps, StepsPlanned: Steps, Accountant: "scumble PLD", PublicExamples: 8000},
		Classes: []string{"0", "1"}, ImageSize: 28, Channels: 1, Config: "method: loda\nprivacy:\n    epsilon: 10\n",
		Ledger: report.Ledger{Entries: record.Count(), Head: record.Head(),
			Rows: []report.LedgerRow{{What: "DP-SGD steps", Event: events[0], First: start, Last: start}}},
	}
	for _, p := range points {
		r.Claim.RDP = append(r.Claim.RDP, report.RDP{Order: p.Order, Epsilon: p.Epsilon})
	}
	return r
}

// fixture writes a whole release, which verifies unless change breaks it before
// the manifest is made.
func New(t testing.TB, change func(r *report.Run)) string {
	t.Helper()
	return NewWith(t, Ledger(t, ""), change)
}

// NewWith is New with a ledger.
func NewWith(t testing.TB, lines []byte, change func(r *report.Run)) string {
	t.Helper()
	return newWith(t, lines, false, change)
}

// NewPrompts is New of a model that takes text: its images have prompts.
func NewPrompts(t testing.TB) string {
	t.Helper()
	return newWith(t, Ledger(t, ""), true, func(r *report.Run) { r.Classes = nil })
}

// Prompts are those of NewPrompts, one for each image.
var Prompts = []string{"a bold seven | *x*", "an eight, \"tilted\" left", "a bold seven | *x*"}

func newWith(t testing.TB, lines []byte, prompts bool, change func(r *report.Run)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "release")
	r := run(t, lines)
	Put(t, dir, "model/unet/weights.safetensors", bytes.Repeat([]byte("weights "), 400))
	Put(t, dir, "model/model_index.json", []byte("{}\n"))
	pictures := []string{"synthetic/0/000001.png", "synthetic/1/000001.png", "synthetic/1/000002.png"}
	if prompts {
		pictures = []string{"synthetic/000001.png", "synthetic/000002.png", "synthetic/000003.png"}
		var list []byte
		for i, text := range Prompts {
			list = fmt.Appendf(list, "{\"file_name\": %q, \"text\": %q}\n", filepath.Base(pictures[i]), text)
		}
		Put(t, dir, "synthetic/metadata.jsonl", list)
	}
	for _, name := range pictures {
		var picture bytes.Buffer
		if err := png.Encode(&picture, drawing(name)); err != nil {
			t.Fatal(err)
		}
		Put(t, dir, name, picture.Bytes())
	}
	Put(t, dir, release.LedgerFile, lines)
	Put(t, dir, release.ConfigFile, []byte(r.Config))
	files, err := release.Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.Files = release.Named(files)
	if change != nil {
		change(r)
	}
	if err := report.WriteRelease(dir, r); err != nil {
		t.Fatal(err)
	}
	if err := release.WriteManifest(dir, release.Model); err != nil {
		t.Fatal(err)
	}
	return dir
}

// drawing returns 28×28 pixels that differ from name to name.
func drawing(name string) image.Image {
	img := image.NewGray(image.Rect(0, 0, 28, 28))
	for i := range img.Pix {
		img.Pix[i] = byte(i * len(name) * int(name[len(name)-5]))
	}
	return img
}

// Put writes a file of a release, in a folder that is made.
func Put(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Get reads a file of a release.
func Get(t testing.TB, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
