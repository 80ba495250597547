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
	Scattering         Classifier = "scattering"   // The same on a scattering transform of the image.
	Neighbours         Classifier = "knn"          // Majority of the 5 nearest images in pixels.
	NearestMean        Classifier = "nearest-mean" // The class whose mean image is nearest.
	LDA                Classifier = "lda"          // Linear discriminant analysis on 16×16 pixels.
	WRN                Classifier = "wrn"          // A wide residual network.
	ResNet             Classifier = "resnet"       // A residual network.
	ResNeXt            Classifier = "resnext"      // A residual network of grouped convolutions.
)

// Classifiers lists all of them. Those that are [Classifier.Trained] see images
// that are turned and moved a little; the others are computed at once.
func Classifiers() []Classifier {
	return []Classifier{CNN, MLP, LogisticRegression, Scattering, Neighbours, NearestMean, LDA, WRN, ResNet, ResNeXt}
}

// Trained reports whether the classifier is trained by steps from a random start,
// so that its accuracy has a spread over seeds.
func (c Classifier) Trained() bool {
	return c == CNN || c == MLP || c == LogisticRegression || c == Scattering || c.Residual()
}

// Subgroup is a part of the test images, such as those of one hospital, that is
// scored by itself too.
type Subgroup struct {
	Name   string
	Images *dataset.Set
}

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
	Steps       int        `json:"steps,omitempty"`    // Updates of each training.
	Geometry    *Geometry  `json:"geometry,omitempty"` // Of a residual network.
	// Low and High are the ends of Wilson's 95 % interval of Mean: for the choice of
	// the test images, not for the chance in training.
	Low       float64     `json:"accuracy_low"`
	High      float64     `json:"accuracy_high"`
	Subgroups []*Accuracy `json:"subgroups,omitempty"`
	Subgroup  string      `json:"subgroup,omitempty"` // Name, where it is one.
}

// ScoreClassifier trains a classifier on train and scores it on test and on each
// subgroup, once for each of seeds seeds from o.Seed on. Classifiers that are not
// trained by steps have no seed and are scored once.
func ScoreClassifier(ctx context.Context, backend compute.Backend, kind Classifier, train, test *dataset.Set, seeds int, o ClassifierOptions, subgroups ...Subgroup) (*Accuracy, error) {
	if !slices.Contains(Classifiers(), kind) {
		return nil, fmt.Errorf("classifier is %q, want one of %q: %w", kind, Classifiers(), ErrInvalid)
	}
	if seeds < 1 {
		return nil, fmt.Errorf("%d seeds, want at least 1: %w", seeds, ErrInvalid)
	}
	tests := append([]Subgroup{{Images: test}}, subgroups...)
	for _, t := range tests {
		if err := checkSets(train, t.Images); err != nil {
			return nil, err
		}
	}
	geometry, err := kind.geometry(o.Geometry)
	if err != nil {
		return nil, err
	}
	if !kind.Trained() {
		seeds = 1
	}
	scores := make([][]Score, len(tests))
	first := o.Seed
	for i := range seeds {
		o.Seed = first + uint64(i)
		if err := scoreAll(ctx, backend, kind, train, tests, o, scores); err != nil {
			return nil, fmt.Errorf("classifier %s: %w", kind, err)
		}
	}
	a := summarize(kind, scores[0], train.Len())
	if kind.Trained() {
		a.Steps = orInt(o.Steps, kind.steps())
	}
	if kind.Residual() {
		a.Geometry = &geometry
	}
	for i, g := range subgroups {
		part := summarize(kind, scores[i+1], train.Len())
		part.Subgroup = g.Name
		a.Subgroups = append(a.Subgroups, part)
	}
	return a, nil
}

// scoreAll trains once and appends a score of each test set.
func scoreAll(ctx context.Context, backend compute.Backend, kind Classifier, train *dataset.Set, tests []Subgroup, o ClassifierOptions, scores [][]Score) error {
	p, err := TrainClassifier(ctx, backend, kind, train, o)
	if err != nil {
		return err
	}
	defer p.Close()
	for i, t := range tests {
		score, err := p.Score(ctx, t.Images)
		if err != nil {
			return err
		}
		scores[i] = append(scores[i], score)
	}
	return nil
}

func summarize(kind Classifier, scores []Score, training int) *Accuracy {
	a := &Accuracy{Classifier: kind, Seeds: len(scores), Tests: scores[0].Tests, Training: training}
	values := make([]float64, len(scores))
	for i, s := range scores {
		values[i] = s.Accuracy
		a.Best = max(a.Best, s.Accuracy)
	}
	a.Mean, a.Std = meanSpread(values)
	a.Low, a.High = wilson(a.Mean, float64(a.Tests))
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

// wilson is Wilson's 95 % interval (Wilson 1927, https://doi.org/10.2307/2276774)
// of a share of n.
func wilson(share, n float64) (low, high float64) {
	const z = 1.959963984540054
	middle := share + z*z/(2*n)
	half := z * math.Sqrt(share*(1-share)/n+z*z/(4*n*n))
	return max(0, (middle-half)/(1+z*z/n)), min(1, (middle+half)/(1+z*z/n))
}
