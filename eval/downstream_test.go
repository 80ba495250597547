package eval

import (
	"context"
	"errors"
	"math"
	"os"
	"testing"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// Every classifier learns what can be learned. Chance is 1/3.
func TestEveryClassifierLearns(t *testing.T) {
	b := backendtest.Open(t, "go")
	train, test := digits(t, 400, 1), digits(t, 150, 2)
	least := map[Classifier]float64{CNN: 0.85, MLP: 0.7, LogisticRegression: 0.6, Scattering: 0.9, Neighbours: 0.8, NearestMean: 0.55, LDA: 0.7, WRN: 0.6, ResNet: 0.5, ResNeXt: 0.5}
	for _, kind := range Classifiers() {
		o := ClassifierOptions{Steps: 80, BatchSize: 32, Seed: 1, Lowering: nn.Patches, Workers: 2}
		if kind.Residual() { // Dear: a few small updates show that they learn.
			if o.Steps, o.BatchSize, o.LearningRate = 60, 16, 5e-3; os.Getenv("SCUMBLE_SLOW") == "" {
				continue // TestProtocol has them.
			}
		}
		a, err := ScoreClassifier(context.Background(), b, kind, train, test, 1, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.3f", kind, a.Mean)
		if a.Mean < least[kind] || a.Mean > 1 || a.Best != a.Mean || a.Std != 0 || len(a.PerClass) != 3 || a.Tests != 150 || a.Training != 400 {
			t.Errorf("%s: accuracy is %+v, want at least %g", kind, a, least[kind])
		}
	}
}

func TestAccuracyOverSeeds(t *testing.T) {
	b := backendtest.Open(t, "go")
	train, test := digits(t, 60, 1), digits(t, 60, 2)
	o := ClassifierOptions{Steps: 3, Seed: 5, Lowering: nn.Patches}
	a, err := ScoreClassifier(context.Background(), b, MLP, train, test, 3, o)
	if err != nil {
		t.Fatal(err)
	}
	var values []float64
	for seed := range 3 {
		o.Seed, o.Kind = uint64(5+seed), MLP
		s, err := TrainAndScore(context.Background(), b, train, test, o)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, s.Accuracy)
	}
	mean := (values[0] + values[1] + values[2]) / 3
	square := 0.0
	for _, v := range values {
		square += (v - mean) * (v - mean) / 2
	}
	if a.Seeds != 3 || math.Abs(a.Mean-mean) > 1e-12 || math.Abs(a.Std-math.Sqrt(square)) > 1e-12 {
		t.Errorf("accuracy over seeds is %+v, want mean %v and deviation %v of %v", a, mean, math.Sqrt(square), values)
	}
	// The mean over classes, weighted by their tests, is the mean.
	counts := map[int]float64{}
	for _, label := range test.Labels {
		counts[label]++
	}
	weighted := 0.0
	for c, v := range a.PerClass {
		weighted += v * counts[c] / 60
	}
	if math.Abs(weighted-a.Mean) > 1e-12 {
		t.Errorf("classes add up to %v, want %v", weighted, a.Mean)
	}
}

func TestClassifiersRefuse(t *testing.T) {
	set := digits(t, 20, 1)
	unlabelled := *set
	unlabelled.Labels = nil
	ctx := context.Background()
	if _, err := ScoreClassifier(ctx, nil, "svm", set, set, 1, ClassifierOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("unknown classifier: error is %v, want ErrInvalid", err)
	}
	if _, err := ScoreClassifier(ctx, nil, LDA, set, set, 0, ClassifierOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no seeds: error is %v, want ErrInvalid", err)
	}
	if _, err := TrainAndScore(ctx, nil, set, set, ClassifierOptions{Kind: LDA}); err == nil {
		t.Error("training of a classifier that is not trained: no error")
	}
	for _, kind := range []Classifier{Neighbours, NearestMean, LDA} {
		if _, err := ScoreClassifier(ctx, nil, kind, set, &unlabelled, 1, ClassifierOptions{}); err == nil {
			t.Errorf("%s without labels: no error", kind)
		}
	}
	stopped, stop := context.WithCancel(ctx)
	stop()
	if _, err := ScoreClassifier(stopped, nil, LDA, set, set, 1, ClassifierOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: error is %v, want context.Canceled", err)
	}
}

// Closed forms on images of one bright pixel: each classifier must find the
// pixel, also where a class has no training image.
func TestBaselinesOnPlainImages(t *testing.T) {
	set := func(labels ...int) *dataset.Set {
		s := &dataset.Set{Height: 16, Width: 16, Channels: 1, Classes: []string{"a", "b", "c"}, Labels: labels}
		for i, label := range labels {
			image := make([]byte, 256)
			image[label] = byte(200 + i%50)
			s.Pixels = append(s.Pixels, image...)
		}
		return s
	}
	train, test := set(0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 2), set(0, 2, 2, 0, 1)
	for _, kind := range []Classifier{Neighbours, NearestMean, LDA} {
		a, err := ScoreClassifier(context.Background(), nil, kind, train, test, 4, ClassifierOptions{})
		if err != nil || a.Mean != 0.8 || a.Seeds != 1 || a.PerClass[1] != 0 {
			t.Errorf("%s: accuracy is %+v (%v), want 0.8 and none of the class it never saw", kind, a, err)
		}
	}
}
