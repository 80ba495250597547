package finetune

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/teacher"
)

func taughtConfig(data string) *Config {
	c := tinyConfig(LoDA, data)
	c.Teacher = TeacherConfig{Share: 0.3, Steps: 4, ExpectedBatchSize: 10, PublicImages: 12}
	return c
}

// A run with a teacher charges each of its steps before the run's own, keeps its claim,
// and goes on after an interruption with the same teacher.
func TestTeacherIsPaidFor(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := taughtConfig(tinyData(t, 40))
	dir := filepath.Join(t.TempDir(), "run")
	path := filepath.Join(dir, ReleaseDir, TeacherFile)
	ctx, cancel := context.WithCancel(context.Background())
	o := options(dir)
	taught := 0
	o.Taught = func(step, steps int) {
		if taught++; step != taught || steps != 4 {
			t.Errorf("report %d is of step %d of %d", taught, step, steps)
		}
	}
	o.Report = func(p Progress) {
		if p.Step == 3 {
			cancel()
		}
	}
	if _, err := Run(ctx, b, c, tinyBase(t, b), o); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted run returned %v", err)
	}
	weights, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o.Report, o.Resume = nil, true
	r, err := Run(context.Background(), b, c, tinyBase(t, b), o)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(path); err != nil || !slices.Equal(again, weights) || taught != 4 {
		t.Errorf("the teacher is another after the run went on (%v), %d steps", err, taught)
	}
	q := r.Plan.query(teacherRun)
	want := []accountant.Event{accountant.DPSGD(q.Event.NoiseMultiplier, 0.25, 4), r.Plan.Event(6)}
	events := r.Ledger.Events()
	for i := range events {
		events[i].ExamplesPerUnit = 0
	}
	if !slices.Equal(events, want) {
		t.Errorf("ledger holds %+v, want %+v", events, want)
	}
	if alone := epsilonOf(t, want[0]); alone > 1.5 || alone < 1.499 {
		t.Errorf("the teacher costs epsilon %g alone, want 0.3 of 5", alone)
	}
	if e := r.Claim.Epsilon; e > 5 || e < 0.99*5 {
		t.Errorf("claim is epsilon %g, want just below 5", e)
	}
	judge, err := teacher.Load(b, nn.Native, path)
	if err != nil {
		t.Fatal(err)
	}
	defer judge.Close()
	if got := judge.Classes(); !slices.Equal(got, r.Plan.Classes) {
		t.Errorf("classes of the teacher are %v, want %v", got, r.Plan.Classes)
	}
}

// A teacher that a crash took is not trained again: the ledger has no room.
func TestLostTeacherIsNotTrainedAgain(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := taughtConfig(tinyData(t, 40))
	dir := filepath.Join(t.TempDir(), "run")
	ctx, cancel := context.WithCancel(context.Background())
	o := options(dir)
	o.Taught = func(step, _ int) {
		if step == 2 {
			cancel()
		}
	}
	if _, err := Run(ctx, b, c, tinyBase(t, b), o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	o.Taught, o.Resume = nil, true
	if _, err := Run(context.Background(), b, c, tinyBase(t, b), o); !errors.Is(err, accountant.ErrBudget) {
		t.Errorf("a run whose teacher is lost goes on: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ReleaseDir, TeacherFile)); err == nil {
		t.Error("half of a teacher was released")
	}
}

func TestTeacherRefuses(t *testing.T) {
	for want, change := range map[string]func(*TeacherConfig){
		"needs noise_multiplier or share": func(c *TeacherConfig) { c.Share = 0 },
		"not both":                        func(c *TeacherConfig) { c.NoiseMultiplier = 1 },
		"teacher.share is 1":              func(c *TeacherConfig) { c.Share = 1 },
		"teacher: steps is -1":            func(c *TeacherConfig) { c.Steps = -1 },
		"expected batch size is 41":       func(c *TeacherConfig) { c.ExpectedBatchSize = 41 },
		"clipping norm is NaN":            func(c *TeacherConfig) { c.ClippingNorm = math.NaN() },
		"teacher.public_images is -1":     func(c *TeacherConfig) { c.PublicImages = -1 },
		"learning rate is -1":             func(c *TeacherConfig) { c.LearningRate = -1 },
		`classifier is "knn"`:             func(c *TeacherConfig) { c.Classifier = eval.Neighbours },
		`teacher.role is "boss"`:          func(c *TeacherConfig) { c.Role = "boss" },
	} {
		c := taughtConfig("somewhere")
		c.Data.Examples = 40
		change(&c.Teacher)
		if err := c.Validate(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
}

// One image less changes nothing of a step that it was not drawn for, and the sum of
// one that it was drawn for by at most the clipping norm: the engine's own tests show it for
// every network; here, that a teacher sees labels and pixels of drawn images only.
func TestTeacherSeesDrawnImagesOnly(t *testing.T) {
	b := backendtest.Open(t, "go")
	set := &dataset.Set{Height: 8, Width: 8, Channels: 1, Classes: []string{"a", "b"}, Pixels: make([]byte, 6*64), Labels: []int{0, 1, 0, 1, 0, 1}}
	for i := range set.Pixels {
		set.Pixels[i] = byte(i * 37)
	}
	train := func(s *dataset.Set) []float32 {
		q := &Query{Event: accountant.DPSGD(1, 1e-9, 3)} // Nobody is drawn, but for a chance of 2e-8.
		noise, sampler, err := querySecrets(q, s.Len(), Options{InsecureSeed: 7})
		if err != nil {
			t.Fatal(err)
		}
		charged := 0
		net, err := teacher.Train(context.Background(), b, s, teacher.Mechanism{NoiseMultiplier: 1, Noise: noise, Sampler: sampler,
			Record: func() error { charged++; return nil }}, teacher.Options{Steps: 3, ExpectedBatchSize: 2, ClippingNorm: 1, LearningRate: 1e-2, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if charged != 3 {
			t.Errorf("%d steps were charged, want 3", charged)
		}
		return net.Weights().Flatten(net.Weights().Names())
	}
	one := train(set)
	other := *set
	other.Pixels, other.Labels = slices.Repeat([]byte{200}, len(set.Pixels)), []int{1, 1, 1, 1, 1, 0}
	if !slices.Equal(one, train(&other)) {
		t.Error("images that no step drew changed the teacher")
	}
}

// The memory that a plan names is that of the features that the classifier then makes.
func TestPlanSaysMemoryOfFeatures(t *testing.T) {
	b := backendtest.Open(t, "go")
	c := taughtConfig(tinyData(t, 40))
	c.Teacher.NoiseMultiplier, c.Teacher.Share = 1, 0
	plan := &Plan{Size: 28, Channels: 3, Classes: []string{"a", "b"}}
	for _, kind := range []eval.Classifier{eval.CNN, eval.Scattering} {
		c.Teacher.Classifier = kind
		q, err := c.teacherQuery(plan)
		if err != nil {
			t.Fatal(err)
		}
		want := int64(0)
		if kind == eval.Scattering {
			set := &dataset.Set{Height: 28, Width: 28, Channels: 3, Classes: plan.Classes, Pixels: make([]byte, 28*28*3), Labels: []int{0}}
			u, err := eval.NewUntrained(b, set, eval.ClassifierOptions{Kind: kind})
			if err != nil {
				t.Fatal(err)
			}
			x, err := u.Examples(context.Background(), set, 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			want = int64(c.Data.Examples) * int64(x.Batch([]int{0}, 1)[0].Memory())
		}
		if q.HostBytes != want {
			t.Errorf("%s: plan says %d bytes, want %d", kind, q.HostBytes, want)
		}
	}
}
