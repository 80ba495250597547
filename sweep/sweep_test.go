package sweep

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/dataset"
)

const config = `base: latent
method: attention
data: {path: clinic, examples: 600, classes: ["0", "1"]}
privacy: {epsilon: 3, delta: 1.0e-3}
training: {steps: 2, expected_batch_size: 10, clipping_norm: 1, learning_rate: 1.0e-3}
sampling: {count: 20}
`

// read writes a config and a sweep and reads them.
func read(t testing.TB, config, text string) (*Sweep, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"run.yaml": config, "sweep.yaml": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Read(filepath.Join(dir, "sweep.yaml"))
}

const public = `config: run.yaml
public: {train: {renderer: glyphs, held: true, seed: 3}, test: {renderer: glyphs, seed: 4, count: 40}}
`

// Rows set keys over those of all rows over the config, each from the config as it was.
func TestConfigOf(t *testing.T) {
	s, err := read(t, config, public+`
all: {training.steps: 7, training.timesteps.distribution: logit-normal}
rows:
  - {name: a}
  - {name: b, set: {training.steps: 9, warm_start: {means: 2, noise_multiplier: 4}, method: full}}
  - {name: c, set: {training.multiplicity: 3}}
`)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		steps, k, means int
		method          string
	}{{7, 1, 0, "attention"}, {9, 1, 2, "full"}, {7, 3, 0, "attention"}} {
		c, err := s.ConfigOf(s.Rows[i])
		if err != nil {
			t.Fatal(err)
		}
		if c.Training.Steps != want.steps || c.Training.Multiplicity != want.k || c.WarmStart.Means != want.means || string(c.Method) != want.method {
			t.Errorf("row %d: %d steps, K = %d, %d means, %s, want %+v", i, c.Training.Steps, c.Training.Multiplicity, c.WarmStart.Means, c.Method, want)
		}
	}
	if s.Repeats != 1 {
		t.Errorf("repeats is %d, want 1", s.Repeats)
	}
}

func TestReadRefuses(t *testing.T) {
	const rows = "rows: [{name: a}]\n"
	for want, k := range map[string][2]string{
		"0 rows":                              {config, public},
		"field rowz not found":                {config, public + "rowz: 1\n" + rows},
		"repeats is -1":                       {config, public + "repeats: -1\n" + rows},
		"classifier_steps is -1":              {config, public + "classifier_steps: -1\n" + rows},
		`row 1 has the name ""`:               {config, public + "rows: [{}]\n"},
		"base is a value, not a group":        {config, public + "rows: [{name: a, set: {base.x: 1}}]\n"},
		"training.steps is 0":                 {config, public + "all: {training.steps: 0}\n" + rows},
		"sampling.count is 0":                 {config, public + "all: {sampling.count: 0}\n" + rows},
		"data.classes is missing":             {strings.Replace(config, `, classes: ["0", "1"]`, "", 1), public + rows},
		"previous_runs":                       {config, public + "all: {privacy.previous_runs: [x]}\n" + rows},
		`renderer is "dots"`:                  {config, strings.Replace(public, "glyphs", "dots", 1) + rows},
		"path and renderer":                   {config, strings.Replace(public, "renderer: glyphs,", "renderer: glyphs, path: x,", 1) + rows},
		"want a path alone":                   {config, strings.Replace(public, "renderer: glyphs,", "path: x,", 1) + rows},
		"public.train has a count":            {config, strings.Replace(public, "seed: 3", "seed: 3, count: 9", 1) + rows},
		"public.test: count is 0":             {config, strings.Replace(public, ", count: 40", "", 1) + rows},
		"public.test has the images of":       {config, strings.Replace(public, "seed: 4", "seed: 3", 1) + rows},
		"config: ":                            {config, strings.Replace(public, "run.yaml", "walk.yaml", 1) + rows},
		"config run.yaml: ":                   {"base: [", public + rows},
		"config run.yaml: yaml: construct er": {"- a\n", public + rows},
	} {
		if _, err := read(t, k[0], k[1]); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), strings.TrimSuffix(want, " yaml: construct er")) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
}

// A folder may have a part for training and one for testing; one without gives the
// same images twice.
func TestApart(t *testing.T) {
	a, b := &dataset.Set{Height: 1, Width: 2, Channels: 1, Pixels: []byte{1, 2}}, &dataset.Set{Height: 1, Width: 2, Channels: 1, Pixels: []byte{1, 3}}
	if err := Apart(a, b); err != nil {
		t.Errorf("other images: %v", err)
	}
	if err := Apart(a, a); !errors.Is(err, ErrInvalid) {
		t.Errorf("the same images: %v", err)
	}
}

func TestSummarise(t *testing.T) {
	rows := []Row{{Name: "a"}, {Name: "b"}, {Name: "none"}, {Name: "once"}}
	all := Summarise(rows, []Result{
		{Row: "b", Accuracy: 0.9, Epsilon: 1.001, Seconds: 4, TrainableParameters: 7}, {Row: "a", Accuracy: 0.5, Seconds: 1}, {Row: "a", Accuracy: 0.7, Seconds: 3},
		{Row: "b", Accuracy: 0.8, Epsilon: 1, Seconds: 6, TrainableParameters: 7}, {Row: "once", Accuracy: 0.65}})
	if len(all) != 3 {
		t.Fatalf("%d summaries, want 3: %+v", len(all), all)
	}
	// Variances 0.02 and 0.005, two runs each.
	b := all[1]
	if b.Row != "b" || math.Abs(b.Mean-0.85) > 1e-12 || b.Worst != 0.8 || math.Abs(b.Difference-0.25) > 1e-12 || math.Abs(b.StandardError-math.Sqrt(0.0125)) > 1e-12 || b.Seconds != 5 || b.Epsilon != 1.001 {
		t.Errorf("b is %+v", b)
	}
	if all[2].StandardError != 0 || math.Abs(all[2].Difference-0.05) > 1e-12 {
		t.Errorf("a row that was run once is %+v", all[2])
	}
	const want = "| a | 0 | 60.0 % | 50.0 | 50.0, 70.0 |  | 0 | 2 s |\n| b | 1.01 | 85.0 % | 80.0 | 90.0, 80.0 | +25.0 ± 11.2 | 7 | 5 s |\n" +
		"| once | 0 | 65.0 % | 65.0 | 65.0 | +5.0 | 0 | 0 s |\n"
	if got := Table(all); !strings.HasSuffix(got, want) {
		t.Errorf("table is\n%swant it to end with\n%s", got, want)
	}
}

// Columns of FID and KID are there where a row has them, and hold the means.
func TestTableOfMetrics(t *testing.T) {
	two, four, tenth := 2.0, 4.0, 0.1
	all := Summarise([]Row{{Name: "a"}, {Name: "b"}}, []Result{
		{Row: "a", Accuracy: 0.5, Epsilon: 1, EpsilonSecond: 0.999, FID: &two, KID: &tenth}, {Row: "a", Accuracy: 0.5, Epsilon: 1, FID: &four, KID: &tenth},
		{Row: "b", Accuracy: 0.5}})
	got := Table(all)
	for _, want := range []string{"| FID | KID |", "| a | 1 (1) | 50.0 % | 50.0 | 50.0, 50.0 |  | 3.00 | 0.1000 | 0 | 0 s |\n", "| b | 0 | 50.0 % | 50.0 | 50.0 | +0.0 |  |  | 0 | 0 s |\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("table is\n%swant %q in it", got, want)
		}
	}
}

// An epsilon is never shown smaller than it is, nor larger by more than a hundredth.
func TestAbove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := rapid.Float64Range(0, 100).Draw(t, "epsilon")
		if got := above(e); got < e-1e-7 || got > e+0.01 {
			t.Fatalf("%g is shown as %g", e, got)
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add(public[17:] + "all: {training.steps: 7}\nrows: [{name: a, set: {training.multiplicity: 2}}]\n")
	f.Add("rows: [{name: a, set: {a.b.c: {d: 1}}}]\n")
	f.Add("rows: {a: &x [*x]}\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<16 {
			return
		}
		s, err := read(t, config, "config: run.yaml\n"+text)
		if err == nil && (len(s.Rows) == 0 || s.Repeats < 1) {
			t.Errorf("a sweep without runs is taken: %+v", s)
		}
	})
}
