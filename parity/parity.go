package parity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/nn"
)

// Tolerance is what a float32 implementation should hold: of the largest entry
// for outputs, of each norm for norms, in the 2-norm for clipped sums.
const Tolerance = 1e-4

// Entry is one comparison.
type Entry struct {
	Path             string   `json:"path"` // Of the file with the recorded values, below the folder.
	What             string   `json:"what"`
	MaxRelativeError *float64 `json:"max_relative_error"` // Null if it could not be computed.
	Tolerance        float64  `json:"tolerance"`
	OK               bool     `json:"ok"`
	Error            string   `json:"error,omitempty"`
}

// Report is what Walk found.
type Report struct {
	OK      bool    `json:"ok"`
	Entries []Entry `json:"entries"`
}

// Options of Walk.
type Options struct {
	Lowering nn.Lowering
	Report   func(e Entry) // Called for each entry as it comes; may be nil.
}

// walker is the state of one walk.
type walker struct {
	ctx     context.Context
	backend compute.Backend
	root    string
	o       Options
	report  *Report
	shared  map[string]array // Of the schedulers, by folder of the file.
}

// Walk compares everything below dir. An error means that dir could not be
// walked; what does not agree, or is not known, is in the report.
func Walk(ctx context.Context, backend compute.Backend, dir string, o Options) (*Report, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is a file, want a folder of records", dir)
	}
	w := &walker{ctx: ctx, backend: backend, root: dir, o: o, report: &Report{OK: true, Entries: []Entry{}}}
	if err := w.folder(dir); err != nil {
		return nil, err
	}
	if len(w.report.Entries) == 0 {
		w.fail(dir, "folder", errors.New("no record is in it, want folders such as unet2d/ or schedulers/"))
	}
	return w.report, nil
}

// Files that say something about a set of records as a whole.
var aboutTheSet = []string{"README.md", "manifest.json", "LICENSE"}

// folder compares what is in dir, then in its folders.
func (w *walker) folder(dir string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	files := map[string]bool{}
	var folders []string
	for _, e := range entries {
		switch {
		case e.IsDir():
			folders = append(folders, e.Name())
		case !slices.Contains(aboutTheSet, e.Name()):
			files[e.Name()] = true
		}
	}
	if len(files) > 0 {
		w.record(dir, files)
	}
	for _, name := range folders {
		if err := w.folder(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// record tells what kind of record the files of a folder are, and compares it.
func (w *walker) record(dir string, files map[string]bool) {
	known := []string{}
	compare := func(what string, path string, check func() error, more ...string) {
		known = append(append(known, filepath.Base(path)), more...)
		// Graphs panic on shapes that do not fit.
		err := func() (err error) {
			defer func() {
				if r := recover(); r != nil {
					err = fmt.Errorf("%v", r)
				}
			}()
			return check()
		}()
		if err != nil {
			w.fail(path, what, err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	switch {
	case files["scheduler_config.json"]:
		compare("scheduler", in("trajectory.safetensors"), func() error { return w.scheduler(dir) }, "scheduler_config.json")
	case files["adapter_config.json"]:
		compare("adapter", in("io.safetensors"), func() error { return w.adapter(dir) }, "adapter_config.json", "adapter_model.safetensors")
		for _, name := range []string{"pytorch_lora_weights.safetensors", "lycoris.safetensors"} {
			if files[name] {
				compare("adapter file", in(name), func() error { return w.adapterFile(dir, name) })
			}
		}
	case files["config.json"]:
		compare("model", in("io.safetensors"), func() error { return w.model(dir) }, "config.json")
		for name := range files {
			if strings.HasPrefix(name, "diffusion_pytorch_model") || strings.HasPrefix(name, "model") || name == "pytorch_model.safetensors.index.json" {
				known = append(known, name)
			}
		}
	case files["shared.safetensors"]:
		known = append(known, "shared.safetensors") // Read with each scheduler below.
	default:
		for _, name := range sorted(files) {
			set, ok := strings.CutSuffix(name, ".names.json")
			if !ok {
				continue
			}
			compare("gradients", in(set+".safetensors"), func() error { return w.gradients(dir, set) }, name)
		}
		for name := range files {
			if len(known) > 0 && strings.HasPrefix(name, "batch_") {
				known = append(known, name)
			}
		}
	}
	for _, name := range sorted(files) {
		if !slices.Contains(known, name) {
			w.fail(in(name), "file", errors.New("this kind of record is not known; nothing was compared"))
		}
	}
}

func sorted(files map[string]bool) []string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// add records a comparison.
func (w *walker) add(path, what string, off, tolerance float64) {
	e := Entry{Path: w.relative(path), What: what, Tolerance: tolerance, OK: off <= tolerance}
	if math.IsNaN(off) || math.IsInf(off, 0) {
		e.Error = fmt.Sprintf("the difference is %g", off)
	} else {
		e.MaxRelativeError = &off
	}
	w.keep(e)
}

// fail records that a comparison could not be made.
func (w *walker) fail(path, what string, err error) {
	w.keep(Entry{Path: w.relative(path), What: what, Tolerance: Tolerance, Error: err.Error()})
}

func (w *walker) keep(e Entry) {
	w.report.OK = w.report.OK && e.OK
	w.report.Entries = append(w.report.Entries, e)
	if w.o.Report != nil {
		w.o.Report(e)
	}
}

func (w *walker) relative(path string) string {
	r, err := filepath.Rel(w.root, path)
	if err != nil {
		return path
	}
	return filepath.ToSlash(r)
}

// near records how far got is from want, relative to want's largest entry.
func (w *walker) near(path, what string, got, want array) {
	if !slices.Equal(got.shape, want.shape) {
		w.fail(path, what, fmt.Errorf("shape is %v, recorded is %v", got.shape, want.shape))
		return
	}
	var worst, scale float64
	for i, v := range want.data {
		if d := math.Abs(got.data[i] - v); !(d <= worst) { // NaN sticks.
			worst = d
		}
		scale = max(scale, math.Abs(v))
	}
	if scale == 0 { // All zeros are met exactly or not at all.
		scale = math.SmallestNonzeroFloat64
	}
	w.add(path, what, worst/scale, Tolerance)
}

// readJSON reads a small JSON file.
func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
