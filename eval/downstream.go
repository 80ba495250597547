package eval

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/dataset"
)

// Classifier names a way to learn labels from one set of images.
type Classifier string

const (
	CNN                Classifier = "cnn"          // A small convolutional network.
	MLP                Classifier = "mlp"          // Two hidden layers of 256 and 128.
	LogisticRegression Classifier = "logistic"     // Multinomial logistic regression on pixels.
	Neighbours         Classifier = "knn"          // Majority of the 5 nearest images in pixels.
	NearestMean        Classifier = "nearest-mean" // The class whose mean image is nearest.
	LDA                Classifier = "lda"          // Linear discriminant analysis on 16×16 pixels.
)

// Classifiers lists all of them. The first three are trained by gradients, on
// images that are turned and moved a little; the others are computed at once.
func Classifiers() []Classifier {
	return []Classifier{CNN, MLP, LogisticRegression, Neighbours, NearestMean, LDA}
}

// Trained reports whether the classifier is trained by steps from a random start,
// so that its accuracy has a spread over seeds.
func (c Classifier) Trained() bool { return c == CNN || c == MLP || c == LogisticRegression }

// Accuracy of one kind of classifier over seeds.
type Accuracy struct {
	Classifier  Classifier `json:"classifier"`
	Mean        float64    `json:"accuracy"`
	Std         float64    `json:"accuracy_std"` // Of one seed, with divisor seeds-1; 0 for one seed.
	Best        float64    `json:"accuracy_best"`
	Seeds       int        `json:"seeds"`
	PerClass    []float64  `json:"per_class"` // Means over seeds.
	PerClassStd []float64  `json:"per_class_std"`
	Tests       int        `json:"tests"`
	Training    int        `json:"training_images"`
}

// ScoreClassifier trains a classifier on train and scores it on test, once for
// each of seeds seeds from o.Seed on. Classifiers that are not trained by steps
// have no seed and are scored once.
func ScoreClassifier(ctx context.Context, backend compute.Backend, kind Classifier, train, test *dataset.Set, seeds int, o ClassifierOptions) (*Accuracy, error) {
	if !slices.Contains(Classifiers(), kind) {
		return nil, fmt.Errorf("classifier is %q, want one of %q: %w", kind, Classifiers(), ErrInvalid)
	}
	if seeds < 1 {
		return nil, fmt.Errorf("%d seeds, want at least 1: %w", seeds, ErrInvalid)
	}
	if err := checkSets(train, test); err != nil {
		return nil, err
	}
	var scores []Score
	if !kind.Trained() {
		score, err := scoreBaseline(ctx, kind, train, test)
		if err != nil {
			return nil, fmt.Errorf("classifier %s: %w", kind, err)
		}
		return summarize(kind, []Score{score}, train.Len()), nil
	}
	o.Kind = kind
	first := o.Seed
	for i := range seeds {
		o.Seed = first + uint64(i)
		score, err := TrainAndScore(ctx, backend, train, test, o)
		if err != nil {
			return nil, fmt.Errorf("classifier %s: %w", kind, err)
		}
		scores = append(scores, score)
	}
	return summarize(kind, scores, train.Len()), nil
}

func summarize(kind Classifier, scores []Score, training int) *Accuracy {
	a := &Accuracy{Classifier: kind, Seeds: len(scores), Tests: scores[0].Tests, Training: training}
	values := make([]float64, len(scores))
	for i, s := range scores {
		values[i] = s.Accuracy
		a.Best = max(a.Best, s.Accuracy)
	}
	a.Mean, a.Std = meanSpread(values)
	for c := range scores[0].PerClass {
		for i, s := range scores {
			values[i] = s.PerClass[c]
		}
		mean, std := meanSpread(values)
		a.PerClass, a.PerClassStd = append(a.PerClass, mean), append(a.PerClassStd, std)
	}
	return a
}

// meanSpread returns the mean and the sample standard deviation.
func meanSpread(values []float64) (mean, std float64) {
	mean, std = meanStd(values)
	n := float64(len(values))
	if n < 2 {
		return mean, 0
	}
	return mean, std * math.Sqrt(n/(n-1))
}
