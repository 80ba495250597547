package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/backend"
)

// Space below which doctor warns: a run of the demo takes less.
const (
	minMemory = 4 << 30 // Bytes.
	minDisk   = 1 << 30
)

// doctorCheck is one thing that doctor tried.
type doctorCheck struct {
	Name   string `json:"name"`
	Status string `json:"status"` // "ok", "warning" or "failed".
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

const (
	checkOK      = "ok"
	checkWarning = "warning" // Works, but slower or with less room.
	checkFailed  = "failed"
)

// diagnosis is what doctor prints.
type diagnosis struct {
	Build       buildFacts     `json:"build"`
	Cores       int            `json:"cores"`                  // That this process may use.
	MemoryBytes uint64         `json:"memory_bytes,omitempty"` // Of the machine or its container; zero where unknown.
	FreeMemory  uint64         `json:"free_memory_bytes,omitempty"`
	FreeDisk    uint64         `json:"free_disk_bytes,omitempty"` // Where runs are written.
	Backends    []backendFacts `json:"backends"`
	Checks      []doctorCheck  `json:"checks"`
}

// backendFacts is a backend and what running it gave.
type backendFacts struct {
	backend.Info
	Probe *backend.ProbeResult `json:"probe,omitempty"`
	Error string               `json:"error,omitempty"`
}

func newDoctor() *cobra.Command {
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine: backends, noise, memory, disk",
		Long: `doctor checks what a run needs: each backend computes and is compared with exact
sums, the noise of DP-SGD is drawn and tested, and memory, disk and the right to
write are looked at. It opens no data, and what it prints can be pasted into an
issue. It exits 1 when a check fails; a warning costs speed or room only.`,
		Example: "  scumble doctor --dir .",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			d := examine(c.Context(), dir)
			if err := c.Context().Err(); err != nil {
				return err
			}
			var err error
			if asJSON {
				err = printJSON(c, d)
			} else {
				d.print(c.OutOrStdout())
			}
			if failed := d.failed(); err == nil && len(failed) > 0 {
				return withHint(fmt.Errorf("failed: %s", strings.Join(failed, ", ")), "the lines above say what to do; the rest works")
			}
			return err
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&dir, "dir", ".", "`DIR` in which runs will be written")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// examine looks at the machine. What goes wrong is part of the result.
func examine(ctx context.Context, dir string) *diagnosis {
	d := &diagnosis{Build: thisBuild(), Cores: runtime.GOMAXPROCS(0)}
	for _, info := range backend.List() {
		if ctx.Err() != nil {
			return d
		}
		d.probe(info)
	}
	d.malloc()
	d.noise(ctx)
	d.memory()
	d.disk(dir)
	return d
}

func (d *diagnosis) add(name, status, hint, format string, args ...any) {
	d.Checks = append(d.Checks, doctorCheck{Name: name, Status: status, Detail: fmt.Sprintf(format, args...), Hint: hint})
}

// probe opens a backend, runs it and says what came out. That XLA is missing
// or does not work is a warning: go computes the same.
func (d *diagnosis) probe(info backend.Info) {
	name := "backend " + info.Name
	bad := checkWarning
	spec := info.Name
	if info.Name == backend.Go {
		bad = checkFailed
	} else if info.Path != "" {
		spec = info.Name + ":" + info.Path
	}
	info.Path = homeless(info.Path)
	if !info.Available {
		d.Backends = append(d.Backends, backendFacts{Info: info})
		d.add(name, bad, homeless(info.Hint), "%s", homeless(info.Reason))
		return
	}
	facts := backendFacts{Info: info}
	result, opened, err := runBackend(spec)
	if err != nil {
		facts.Error = homeless(err.Error())
		d.add(name, bad, "use another one with --backend", "%s", facts.Error)
	} else {
		facts.Devices = opened.Devices
		facts.Probe = &result
		status := checkOK
		if info.Hint != "" {
			status = checkWarning
		}
		d.add(name, status, info.Hint, "%s computes right, %.3g GFLOPS", info, result.GFLOPS)
	}
	d.Backends = append(d.Backends, facts)
}

// malloc says which allocator XLA gets. The hint that there is no XLA covers both.
func (d *diagnosis) malloc() {
	name, hint := backend.AllocatorInfo()
	xla := slices.ContainsFunc(d.Backends, func(b backendFacts) bool { return b.Name == backend.XLA && b.Platform == "cpu" && b.Probe != nil })
	if !xla || hint == "" {
		d.add("malloc", checkOK, "", "%s", name)
		return
	}
	d.add("malloc", checkWarning, homeless(hint), "%s", name)
}

func runBackend(spec string) (backend.ProbeResult, backend.Info, error) {
	b, info, err := backend.Open(spec)
	if err != nil {
		return backend.ProbeResult{}, info, err
	}
	defer b.Finalize()
	result, err := backend.Probe(b)
	return result, info, err
}

func (d *diagnosis) noise(ctx context.Context) {
	n, err := testNoise(ctx)
	if err != nil {
		d.add("noise", checkFailed, "do not train on private images here; report this output", "%s", err)
		return
	}
	d.add("noise", checkOK, "", "%d draws with a fresh key of the system's random source: standard deviation %.4f of 1, %.4f expected error", n.draws, n.deviation, n.expected)
}

func (d *diagnosis) memory() {
	total, free, ok := systemMemory()
	if !ok {
		d.add("memory", checkWarning, "the demo needs 4 GiB", "cannot be told on %s", runtime.GOOS)
		return
	}
	d.MemoryBytes, d.FreeMemory = total, free
	if free < minMemory {
		d.add("memory", checkWarning, "the demo needs up to 4 GiB; end other programs", "%s free of %s", gibibytes(free), gibibytes(total))
		return
	}
	d.add("memory", checkOK, "", "%s free of %s", gibibytes(free), gibibytes(total))
}

// disk looks for room and for the right to write in dir.
func (d *diagnosis) disk(dir string) {
	f, err := os.CreateTemp(dir, ".scumble-doctor-*")
	if err != nil {
		d.add("write", checkFailed, "give a folder of yours with --dir", "%s", homeless(err.Error()))
		return
	}
	_, err = f.Write([]byte("scumble doctor"))
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if removed := os.Remove(f.Name()); err == nil {
		err = removed
	}
	if err != nil {
		d.add("write", checkFailed, "give another folder with --dir", "%s", homeless(err.Error()))
		return
	}
	d.add("write", checkOK, "", "files can be written and synced in --dir")
	free, ok := freeDisk(dir)
	switch {
	case !ok:
		d.add("disk", checkWarning, "a run takes some hundred MiB", "free space cannot be told on %s", runtime.GOOS)
	case free < minDisk:
		d.FreeDisk = free
		d.add("disk", checkWarning, "make room, or give another folder with --dir", "%s free", gibibytes(free))
	default:
		d.FreeDisk = free
		d.add("disk", checkOK, "", "%s free", gibibytes(free))
	}
}

func (d *diagnosis) failed() []string {
	var names []string
	for _, c := range d.Checks {
		if c.Status == checkFailed {
			names = append(names, c.Name)
		}
	}
	return names
}

func (d *diagnosis) print(out io.Writer) {
	b := d.Build
	fmt.Fprintf(out, "scumble %s, revision %s\n", b.Version, b.revision())
	fmt.Fprintf(out, "%s %s, gomlx %s, %d cores\n\n", b.Go, b.Platform, b.GoMLX, d.Cores)
	for _, c := range d.Checks {
		fmt.Fprintf(out, "%-8s %-11s %s\n", c.Status, c.Name, c.Detail)
		if c.Hint != "" {
			fmt.Fprintf(out, "%-8s %-11s %s\n", "", "", "hint: "+c.Hint)
		}
	}
}

func gibibytes(n uint64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

// homeless writes ~ for the user's home folder, whose name is nobody's
// business.
func homeless(text string) string {
	home, err := os.UserHomeDir()
	if err != nil || filepath.Clean(home) == string(filepath.Separator) {
		return text
	}
	return strings.ReplaceAll(text, filepath.Clean(home), "~")
}
