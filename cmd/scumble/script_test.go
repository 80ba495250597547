package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/finetune"
)

func TestMain(m *testing.M) {
	testscript.Main(isolated{m}, map[string]func(){"scumble": main})
}

// isolated runs tests that keep nothing in the caches of who runs them: neither
// could a measurement kept there change what they see.
type isolated struct{ *testing.M }

func (m isolated) Run() int {
	cache, err := os.MkdirTemp("", "scumble-test-cache-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(cache)
	if err := os.Setenv("XDG_CACHE_HOME", cache); err != nil {
		panic(err)
	}
	return m.M.Run()
}

// TestScripts runs testdata/script/*.txt. Beside the commands of testscript
// they may use:
//
//	exits CODE scumble ARGS...                    run, and want that exit code
//	spend DIR RUN DATASET PLANNED SPENT           declare a run and record accesses
//	tear FILE                                     cut the last line in half
//	cutline FILE N                                remove line N, counted from 1
//	mnist LINK                                    link the data set of the repository
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, ".cache"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "spend": spend, "tear": tear, "cutline": cutLine, "mnist": linkMNIST,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE scumble ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		code = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code is %d, want %s", code, args[0])
	}
}

// spend plans and spends steps of noise multiplier 2 and sampling probability
// 0.01, for epsilon 8 at delta 1e-5.
func spend(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: spend DIR RUN DATASET PLANNED SPENT")
	}
	dir := ts.MkAbs(args[0])
	planned, err := strconv.Atoi(args[3])
	ts.Check(err)
	spent, err := strconv.Atoi(args[4])
	ts.Check(err)
	ts.Check(os.MkdirAll(dir, 0o755))
	path := filepath.Join(dir, finetune.LedgerFile)
	ledger, err := accountant.OpenLedger(path)
	if errors.Is(err, os.ErrNotExist) {
		ledger, err = accountant.CreateLedger(path)
	}
	ts.Check(err)
	ts.Check(ledger.Begin(accountant.Run{
		ID: args[1], Dataset: args[2], Unit: "example", Neighboring: accountant.AddOrRemove,
		Epsilon: 8, Delta: 1e-5, Plan: []accountant.Event{accountant.DPSGD(2, 0.01, planned)},
	}))
	step := accountant.DPSGD(2, 0.01, 1)
	for range spent {
		ts.Check(ledger.Append(accountant.Entry{Run: args[1], Event: &step}))
	}
	ts.Check(ledger.Close())
}

func tear(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tear FILE")
	}
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	last := bytes.LastIndexByte(data[:len(data)-1], '\n')
	ts.Check(os.WriteFile(path, data[:(last+len(data))/2], 0o644))
}

func cutLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cutline FILE N")
	}
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	lines := bytes.SplitAfter(data, []byte("\n"))
	if n < 1 || n > len(lines) {
		ts.Fatalf("%s has %d lines", args[0], len(lines))
	}
	ts.Check(os.WriteFile(path, bytes.Join(append(lines[:n-1:n-1], lines[n:]...), nil), 0o644))
}

var mnistFolder, _ = filepath.Abs(filepath.Join("..", "..", "data", "mnist-10k"))

func linkMNIST(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mnist LINK")
	}
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o755))
	ts.Check(os.Symlink(mnistFolder, ts.MkAbs(args[0])))
}
