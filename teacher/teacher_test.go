package teacher

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
	"github.com/scumble-dp/scumble/subsample"
)

// halves are images of two classes that are bright on one side.
func halves(n int) *dataset.Set {
	set := &dataset.Set{Height: 8, Width: 8, Channels: 1, Classes: []string{"left", "right"}, Pixels: make([]byte, n*64)}
	for i := range n {
		set.Labels = append(set.Labels, i%2)
		for p := range 64 {
			if (p%8 >= 4) == (i%2 == 1) {
				set.Pixels[i*64+p] = byte(200 + (i*7+p*3)%50)
			}
		}
	}
	return set
}

func mechanism(t *testing.T, set *dataset.Set, record func() error) Mechanism {
	t.Helper()
	sampler, err := subsample.NewInsecurePoisson(set.Len(), 0.5, 1)
	if err != nil {
		t.Fatal(err)
	}
	return Mechanism{NoiseMultiplier: 0.5, Noise: dpsgd.NewInsecureNoise(2), Sampler: sampler, Record: record}
}

// What was learned survives its file, and names the sides of images it did not see.
func TestTeacherLearnsAndIsKept(t *testing.T) {
	for _, kind := range []eval.Classifier{eval.CNN, eval.Scattering} {
		t.Run(string(kind), func(t *testing.T) { testLearnsAndIsKept(t, kind) })
	}
}

func testLearnsAndIsKept(t *testing.T, kind eval.Classifier) {
	b := backendtest.Open(t, "go")
	set := halves(200)
	charged := 0
	o := Options{Classifier: kind, Steps: 30, ExpectedBatchSize: 100, ClippingNorm: 1, LearningRate: 1e-2, EMA: 0.8, Seed: 1, Lowering: nn.Patches, Workers: 2}
	net, err := Train(t.Context(), b, set, mechanism(t, set, func() error { charged++; return nil }), o)
	if err != nil {
		t.Fatal(err)
	}
	if charged != 30 {
		t.Errorf("%d steps were charged, want 30", charged)
	}
	path := filepath.Join(t.TempDir(), "teacher.safetensors")
	if err := Save(path, net, set, Label); err != nil {
		t.Fatal(err)
	}
	judge, err := Load(b, nn.Patches, path)
	if err != nil {
		t.Fatal(err)
	}
	defer judge.Close()
	test := halves(40)
	for i := range test.Pixels {
		test.Pixels[i] = byte(min(255, int(test.Pixels[i])+i%11))
	}
	said, err := judge.Label(t.Context(), test)
	if err != nil || !slices.Equal(said, test.Labels) {
		t.Errorf("labels are %v (%v), want %v", said, err, test.Labels)
	}
	if got := judge.Role(); got != Label {
		t.Errorf("role is %q, want that it was saved with", got)
	}
	if got := judge.Classes(); !slices.Equal(got, set.Classes) {
		t.Errorf("classes are %v, want %v", got, set.Classes)
	}
	other := halves(2)
	other.Height, other.Width = 4, 16
	if _, err := judge.Label(t.Context(), other); err == nil {
		t.Error("images of another shape are labelled")
	}
}

// Public images are learned before the first step, and cost none.
func TestTeacherLearnsPublicImagesFirst(t *testing.T) {
	b := backendtest.Open(t, "go")
	set := halves(60)
	none := &dataset.Set{Height: 8, Width: 8, Channels: 1, Classes: set.Classes, Labels: []int{}}
	charged := 0
	net, err := Train(t.Context(), b, none, mechanism(t, none, func() error { charged++; return nil }),
		Options{Steps: 1, ExpectedBatchSize: 2, ClippingNorm: 1, LearningRate: 1e-9, Seed: 1, Public: set, Lowering: nn.Patches})
	if err != nil || charged != 1 {
		t.Fatalf("%d steps charged: %v", charged, err)
	}
	p, err := net.Predictor()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if score, err := p.Score(t.Context(), halves(20)); err != nil || score.Accuracy != 1 {
		t.Errorf("accuracy %g of what public images teach (%v), want 1", score.Accuracy, err)
	}
	other := halves(4)
	other.Width = 4
	if _, err := Train(t.Context(), b, set, mechanism(t, set, func() error { return nil }),
		Options{Steps: 1, ExpectedBatchSize: 2, ClippingNorm: 1, LearningRate: 1e-2, Public: other}); err == nil || !strings.Contains(err.Error(), "public images of the teacher") {
		t.Errorf("public images of another shape: %v", err)
	}
}

// A step that cannot be charged is not made.
func TestUnchargedStepIsNotMade(t *testing.T) {
	b := backendtest.Open(t, "go")
	set := halves(10)
	full := errors.New("the ledger is full")
	calls := 0
	net, err := Train(t.Context(), b, set, mechanism(t, set, func() error {
		if calls++; calls == 3 {
			return full
		}
		return nil
	}), Options{Steps: 5, ExpectedBatchSize: 5, ClippingNorm: 1, LearningRate: 1e-2, Seed: 1})
	if !errors.Is(err, full) || net != nil || calls != 3 {
		t.Errorf("after %d charges: %v, %v", calls, net, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	b := backendtest.Open(t, "go")
	set := halves(4)
	net, err := Train(t.Context(), b, set, mechanism(t, set, func() error { return nil }),
		Options{Steps: 1, ExpectedBatchSize: 2, ClippingNorm: 1, LearningRate: 1e-2, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	if err := Save(good, net, set, Choose); err != nil {
		t.Fatal(err)
	}
	list, metadata, err := safetensors.Read(good)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(m map[string]string, l []safetensors.Tensor) []safetensors.Tensor{
		`height is "0"`: func(m map[string]string, l []safetensors.Tensor) []safetensors.Tensor { m["height"] = "0"; return l },
		`width is "many"`: func(m map[string]string, l []safetensors.Tensor) []safetensors.Tensor {
			m["width"] = "many"
			return l
		},
		`channels is ""`: func(m map[string]string, l []safetensors.Tensor) []safetensors.Tensor {
			delete(m, "channels")
			return l
		},
		`role is "boss"`: func(m map[string]string, l []safetensors.Tensor) []safetensors.Tensor { m["role"] = "boss"; return l },
		`classifier is "knn"`: func(m map[string]string, l []safetensors.Tensor) []safetensors.Tensor {
			m["classifier"] = "knn"
			return l
		},
		"classes are":                 func(m map[string]string, l []safetensors.Tensor) []safetensors.Tensor { m["classes"] = "[]"; return l },
		"is not the classifier's":     func(m map[string]string, l []safetensors.Tensor) []safetensors.Tensor { l[0].Name = "x"; return l },
		"tensors, want":               func(m map[string]string, l []safetensors.Tensor) []safetensors.Tensor { return l[1:] },
		"[3] is not the classifier's": func(m map[string]string, l []safetensors.Tensor) []safetensors.Tensor { return resized(l) },
	} {
		m := maps.Clone(metadata)
		path := filepath.Join(dir, "bad")
		if err := safetensors.Write(path, change(m, slices.Clone(list)), m); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(b, nn.Native, path); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
	if _, err := Load(b, nn.Native, filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

// resized gives the first tensor three values.
func resized(l []safetensors.Tensor) []safetensors.Tensor {
	l[0] = safetensors.FromFloat32s(l[0].Name, []int{3}, []float32{1, 2, 3})
	return l
}
