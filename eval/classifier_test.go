package eval

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

func digits(t *testing.T, n int, seed uint64) *dataset.Set {
	t.Helper()
	set, err := glyphs.Render(glyphs.Options{Count: n, Seed: seed, Classes: []string{"0", "1", "7"}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// The classifier learns what can be learned, and only that: rendered digits
// almost perfectly, shuffled labels not at all.
func TestClassifierLearns(t *testing.T) {
	b := backendtest.Open(t, "go")
	train, test := digits(t, 600, 1), digits(t, 300, 2)
	o := ClassifierOptions{Steps: 80, BatchSize: 32, Seed: 1, Lowering: nn.Patches, Workers: 2}
	s, err := TrainAndScore(context.Background(), b, train, test, o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Accuracy < 0.9 || s.Tests != 300 || len(s.PerClass) != 3 {
		t.Errorf("score on rendered digits is %+v, want accuracy above 0.9 on 300", s)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range train.Labels {
		train.Labels[i] = rng.IntN(3)
	}
	// Chance is 1/3 with deviation 0.027 over 300 tests; the trained network is
	// one draw, so we allow far more.
	if s, err = TrainAndScore(context.Background(), b, train, test, o); err != nil || s.Accuracy > 0.75 {
		t.Errorf("score after training on shuffled labels is %+v (%v), want near chance", s, err)
	}
}

func TestClassifierRefusesWhatDoesNotFit(t *testing.T) {
	b := backendtest.Open(t, "go")
	set := digits(t, 20, 1)
	small, err := glyphs.Render(glyphs.Options{Count: 20, Size: 32, Classes: []string{"0", "1", "7"}})
	if err != nil {
		t.Fatal(err)
	}
	unlabelled := *set
	unlabelled.Labels = nil
	for name, test := range map[string]*dataset.Set{"size": small, "labels": &unlabelled, "empty": {}} {
		if _, err := TrainAndScore(context.Background(), b, set, test, ClassifierOptions{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Augmentation keeps the number of values and their range.
func TestAugmentKeepsRange(t *testing.T) {
	set := digits(t, 50, 3)
	rng := rand.New(rand.NewPCG(2, 2))
	for i := range set.Len() {
		v := augment(nil, set, i, rng)
		if len(v) != set.ImageSize() {
			t.Fatalf("augmented image has %d values, want %d", len(v), set.ImageSize())
		}
		for _, x := range v {
			if !(x >= -1-1e-5 && x <= 1+1e-5) {
				t.Fatalf("augmented value is %g, want in [-1, 1]", x)
			}
		}
	}
}
