package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/finetune"
)

// readmeConfig is the config that README shows, as printed.
func readmeConfig(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "   ```yaml\n")
	block, _, ok2 := strings.Cut(rest, "   ```\n")
	if !ok || !ok2 {
		t.Fatal("README has no config")
	}
	return block
}

// The config of README is valid as printed, and no line of it can go but those
// that it says so of.
func TestReadmeConfigIsTheShortest(t *testing.T) {
	block := readmeConfig(t)
	c, err := finetune.ParseConfig([]byte(block))
	if err != nil {
		t.Fatalf("%v\n%s", err, block)
	}
	if c.Sampling.Count == 0 {
		t.Error("the config makes no images")
	}
	lines := strings.SplitAfter(block, "\n")
	for i, line := range lines {
		name := strings.TrimSpace(strings.SplitN(line, ":", 2)[0])
		if name == "" || name == "schedule" || name == "ema" || name == "sampling" || regexp.MustCompile(`: *\n`).MatchString(line) {
			continue
		}
		if _, err := finetune.ParseConfig([]byte(strings.Join(append(append([]string{}, lines[:i]...), lines[i+1:]...), ""))); err == nil {
			t.Errorf("README's config works without the line %q", strings.TrimSpace(line))
		}
	}
}

// It runs, with fewer steps and images.
func TestReadmeConfigRuns(t *testing.T) {
	if os.Getenv("SCUMBLE_SLOW") == "" {
		t.Skip("left out: SCUMBLE_SLOW is not set")
	}
	config := strings.NewReplacer("steps: 120", "steps: 2", "count: 2500, steps: 16", "count: 4, steps: 1").Replace(readmeConfig(t))
	t.Chdir(t.TempDir())
	for i := range 40 {
		write(t, filepath.Join("clinic", []string{"benign", "malignant"}[i%2], strings.Repeat("0", 3)+string(rune('a'+i%26))+string(rune('a'+i/26))+".png"),
			picture(t, 28, 1+2*(i%2), 5*i))
	}
	write(t, "clinic.yaml", []byte(config))
	for _, args := range [][]string{
		{"data", "check", "clinic", "--channels", "1"},
		{"plan", "clinic.yaml", "--backend", "go"},
		{"finetune", "clinic.yaml", "--out", "runs/clinic", "--backend", "go", "--quiet"},
		{"finetune", "--resume", "runs/clinic", "--backend", "go", "--quiet"},
		{"sample", "runs/clinic", "--count", "4", "--steps", "1", "--out", "more", "--backend", "go", "--quiet"},
	} {
		if code, _, talk := call(args...); code != exitDone {
			t.Fatalf("scumble %s: exit code %d\n%s", strings.Join(args, " "), code, talk)
		}
	}
}
