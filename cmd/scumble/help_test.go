package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/internal/releasetest"
)

var update = flag.Bool("update", false, "write the golden files")

// goldenHelp are the commands whose help is a golden file,
// testdata/help/COMMAND_SUBCOMMAND.txt.
var goldenHelp = []string{
	"account", "calibrate", "ledger", "sign", "verify", "export",
	"data", "data glyphs", "data shapes", "data check", "data convert", "data sheet",
	"backend", "backend list", "backend install",
	"doctor", "version", "parity", "import", "pull",
}

// goldenText are more of them, whose examples need what takes minutes to make;
// testdata/script has them.
var goldenText = []string{"eval", "eval train-network", "report", "audit", "audit canary", "audit mia", "audit replicas",
	"bench", "bench step", "bench sample", "bench classifier", "bench evolution"}

func TestHelp(t *testing.T) {
	for _, name := range slices.Concat(goldenHelp, goldenText) {
		t.Run(name, func(t *testing.T) {
			got := runOK(t, append(strings.Fields(name), "--help")...)
			path := filepath.Join("testdata", "help", strings.ReplaceAll(name, " ", "_")+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("help differs from %s (-want +got; -update writes it):\n%s", path, diff)
			}
			for i, line := range strings.Split(got, "\n") {
				if len([]rune(line)) > 130 {
					t.Errorf("line %d has %d characters, want at most 130: %s", i+1, len([]rune(line)), line)
				}
			}
		})
	}
}

// runOK runs the command in this process and returns its standard output.
func runOK(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(context.Background(), args, &out, &errs); code != exitDone {
		t.Fatalf("scumble %s: exit code %d\n%s", strings.Join(args, " "), code, errs.String())
	}
	return out.String()
}

// findCommand returns a command by its words.
func findCommand(t *testing.T, name string) *cobra.Command {
	t.Helper()
	c, _, err := newRoot(new(bytes.Buffer), new(bytes.Buffer)).Find(strings.Fields(name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every flag that takes a value names its unit in capitals: --size PIXELS.
func TestFlagsNameUnits(t *testing.T) {
	for _, name := range slices.Concat(goldenHelp, goldenText) {
		usages := findCommand(t, name).LocalFlags().FlagUsages()
		for _, plain := range []string{" int ", " uint", " float ", " string ", " strings ", " stringArray "} {
			if strings.Contains(usages, plain) {
				t.Errorf("help of scumble %s has a flag with the unit%s, want a word of ours:\n%s", name, plain, usages)
			}
		}
	}
}

// The flags of every example are flags of its command, also where running it would
// take minutes.
func TestExamplesParse(t *testing.T) {
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		for _, line := range strings.Split(c.Example, "\n") {
			words := strings.Fields(line)
			if len(words) == 0 || words[0] != "scumble" {
				continue
			}
			root := findCommand(t, "version").Root()
			of, rest, err := root.Find(words[1:])
			if err == nil {
				err = of.ParseFlags(rest)
			}
			if err != nil {
				t.Errorf("example of %s does not parse: %s: %v", c.CommandPath(), line, err)
			}
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(findCommand(t, "version").Root())
}

// The example that the help shows works.
func TestHelpExamplesWork(t *testing.T) {
	t.Chdir(t.TempDir())
	runOK(t, "data", "glyphs", "--out", "photos", "--count", "100", "--digits-only")
	makeLedger(t, filepath.Join("runs", "demo"))
	for dir, from := range map[string]string{"release": releasetest.New(t, nil), "private": t.TempDir()} {
		if err := os.CopyFS(filepath.Join("runs", "demo", dir), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(map[string]bool)
	for _, name := range goldenHelp {
		for _, example := range strings.Split(strings.TrimSpace(findCommand(t, name).Example), "\n") {
			example = strings.TrimSpace(example)
			args := strings.Fields(example)
			if len(args) < 2 || args[0] != "scumble" || !strings.HasPrefix(example, "scumble "+strings.Fields(name)[0]) {
				t.Errorf("example of scumble %s is %q, want a call of it", name, example)
				continue
			}
			// These need files or a network; package backend and the tests in models_test.go have them.
			if slices.Contains([]string{"backend install", "parity", "import", "pull"}, name) || seen[example] {
				continue
			}
			seen[example] = true
			runOK(t, args[1:]...)
		}
	}
}
