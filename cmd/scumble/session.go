package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gomlx/compute"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/models"
	"github.com/scumble-dp/scumble/nn"
)

// session is what commands that compute share: the backend and its settings.
type session struct {
	backend  compute.Backend
	info     backend.Info
	lowering nn.Lowering
	workers  int
	talk     *talk
	conceal  bool // Errors on private images do not say which.
}

// sessionFlags are the flags of a command that computes.
type sessionFlags struct {
	backend string
	workers int
	quiet   bool
	json    bool
}

func (f *sessionFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.backend, "backend", "auto", "what computes: auto, go, xla or xla:`PATH` of a PJRT plugin")
	c.Flags().IntVar(&f.workers, "workers", 0, "`CALLS` to the backend at the same time; 0 is one per core")
	c.Flags().BoolVar(&f.quiet, "quiet", false, "no progress")
	c.Flags().BoolVar(&f.json, "json", false, "print one JSON object on standard output")
}

// open opens the backend and says so.
func (f *sessionFlags) open(c *cobra.Command) (*session, error) {
	if f.workers < 0 {
		return nil, misuse(fmt.Errorf("--workers is %d, want at least 0", f.workers))
	}
	b, info, err := backend.Open(f.backend)
	if err != nil {
		return nil, &coded{exitResources, err}
	}
	s := &session{backend: b, info: info, lowering: nn.LoweringOn(info.Name, info.OnCPU()), workers: f.workers, talk: newTalk(c.ErrOrStderr(), f.quiet), conceal: f.json}
	if s.workers == 0 {
		s.workers = runtime.NumCPU()
	}
	s.talk.say("backend %s", info)
	if info.Hint != "" {
		s.talk.say("hint: %s", info.Hint)
	}
	return s, nil
}

func (s *session) close() { s.backend.Finalize() }

// loadBase loads a base model: a bundled one by name, or a folder.
func loadBase(name string) (*checkpoint.Model, error) {
	if models.Bundled(name) {
		return models.Load(name)
	}
	m, err := checkpoint.Load(name)
	if errors.Is(err, fs.ErrNotExist) && !strings.ContainsRune(name, filepath.Separator) {
		return nil, invalid(fmt.Errorf("base model %q is not there: %w; bundled models are %s", name, err, strings.Join(models.Names(), ", ")))
	}
	if err != nil {
		return nil, invalid(err)
	}
	return m, nil
}

// talk writes messages and progress to standard error.
type talk struct {
	out      io.Writer
	quiet    bool
	terminal bool
	line     bool      // A progress line is open.
	last     time.Time // Of the last progress line that was not for a terminal.
}

func newTalk(out io.Writer, quiet bool) *talk {
	f, ok := out.(*os.File)
	return &talk{out: out, quiet: quiet, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// say writes one line.
func (t *talk) say(format string, args ...any) {
	if t.quiet {
		return
	}
	t.endLine()
	fmt.Fprintf(t.out, "scumble: "+format+"\n", args...)
}

// progress rewrites the progress line on a terminal; elsewhere it writes a line
// every five seconds, and the last one.
func (t *talk) progress(done bool, format string, args ...any) {
	if t.quiet {
		return
	}
	text := fmt.Sprintf(format, args...)
	if t.terminal {
		fmt.Fprintf(t.out, "\r\x1b[Kscumble: %s", text)
		t.line = true
		if done {
			t.endLine()
		}
		return
	}
	if done || time.Since(t.last) > 5*time.Second {
		fmt.Fprintf(t.out, "scumble: %s\n", text)
		t.last = time.Now()
	}
}

func (t *talk) endLine() {
	if t.line {
		fmt.Fprintln(t.out)
		t.line = false
	}
}

// short writes a duration as people say it.
func short(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}
