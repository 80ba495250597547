package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/nn"
)

// ClassifierOptions fix the downstream classifier. They are the same for
// synthetic, public and real training images, and chosen without private data.
type ClassifierOptions struct {
	Steps        int     // Updates. Zero means 1200, 300 for residual networks.
	BatchSize    int     // Zero means 64.
	LearningRate float64 // Zero means 2e-3.
	Seed         uint64
	Kind         Classifier // Empty means CNN. One of those that are trained.
	Geometry     Geometry   // Of a residual network. Zero means the small one.

	Lowering nn.Lowering
	Workers  int // Calls to the backend at the same time. Zero means 1.
	Report   func(step, steps int)
}

// Score of a classifier on a test set.
type Score struct {
	Accuracy float64   `json:"accuracy"`
	PerClass []float64 `json:"per_class"` // Accuracy on each class; NaN-free: 0 where a class has no test image.
	Tests    int       `json:"tests"`
}

// classifier is a small convolutional network: two strided 3×3 convolutions,
// one more at a quarter of the size, and two dense layers.
func classifier(s *nn.Scope, x *graph.Node, classes int) *graph.Node {
	x = nn.SiLU(nn.Conv2D(s.In("conv1"), x, 16, nn.Conv{Kernel: 3, Stride: 2, Pad: [2]int{1, 1}}, nn.ConvOptions{}))
	x = nn.SiLU(nn.Conv2D(s.In("conv2"), x, 32, nn.Conv{Kernel: 3, Stride: 2, Pad: [2]int{1, 1}}, nn.ConvOptions{}))
	x = nn.SiLU(nn.Conv2D(s.In("conv3"), x, 32, nn.Same(3), nn.ConvOptions{}))
	x = graph.Reshape(x, x.Shape().Dimensions[0], -1)
	x = nn.SiLU(nn.Dense(s.In("dense1"), x, 96, nn.DenseOptions{}))
	return nn.Dense(s.In("dense2"), x, classes, nn.DenseOptions{})
}

// network returns the classifier's graph.
func (c Classifier) network(s *nn.Scope, x *graph.Node, classes int, g Geometry) *graph.Node {
	if c.Residual() {
		return c.residual(s, x, classes, g)
	}
	flat := func() *graph.Node { return graph.Reshape(x, x.Shape().Dimensions[0], -1) }
	switch c {
	case MLP:
		x = nn.SiLU(nn.Dense(s.In("dense1"), flat(), 256, nn.DenseOptions{}))
		x = nn.SiLU(nn.Dense(s.In("dense2"), x, 128, nn.DenseOptions{}))
		return nn.Dense(s.In("dense3"), x, classes, nn.DenseOptions{})
	case LogisticRegression:
		return nn.Dense(s.In("dense"), flat(), classes, nn.DenseOptions{ZeroInit: true})
	case Scattering:
		return scatteringHead(s, scatteringFeatures(s, x), classes)
	}
	return classifier(s, x, classes)
}

// steps is how many updates a kind takes by default.
func (c Classifier) steps() int {
	if c.Residual() {
		return 300 // They cost twenty times as much, and take fewer.
	}
	return 1200
}

// TrainAndScore trains the classifier on train and scores it on test. Both
// have labels over the same classes.
func TrainAndScore(ctx context.Context, backend compute.Backend, train, test *dataset.Set, o ClassifierOptions) (Score, error) {
	if err := checkSets(train, test); err != nil { // Before the work.
		return Score{}, err
	}
	kind := o.Kind
	if kind == "" {
		kind = CNN
	}
	if !kind.Trained() {
		return Score{}, fmt.Errorf("classifier %q is not trained by steps; use ScoreClassifier", kind)
	}
	p, err := TrainClassifier(ctx, backend, kind, train, o)
	if err != nil {
		return Score{}, err
	}
	defer p.Close()
	return p.Score(ctx, test)
}

// checkTraining says whether a classifier can be trained on a set.
func checkTraining(train *dataset.Set) error {
	if train.Len() == 0 {
		return fmt.Errorf("classifier has no training image, want at least one: %w", ErrInvalid)
	}
	if train.Labels == nil {
		return fmt.Errorf("training images have no labels, want images of named classes: %w", ErrInvalid)
	}
	return nil
}

// checkSets says whether a classifier trained on train can be scored on test.
func checkSets(train, test *dataset.Set) error {
	if train.Len() == 0 || test.Len() == 0 {
		return fmt.Errorf("classifier has %d training and %d test images, want at least one of each", train.Len(), test.Len())
	}
	return checkKind(train, test)
}

// checkKind says whether images can be given to a classifier that was trained on others.
func checkKind(train, test *dataset.Set) error {
	if train.Height != test.Height || train.Width != test.Width || train.Channels != test.Channels {
		return fmt.Errorf("training images are %dx%dx%d, test images %dx%dx%d, want the same", train.Height, train.Width, train.Channels, test.Height, test.Width, test.Channels)
	}
	if train.Labels == nil || test.Labels == nil || len(train.Classes) != len(test.Classes) {
		return fmt.Errorf("training images have %d classes, test images %d, want the same labels", len(train.Classes), len(test.Classes))
	}
	return nil
}

// scoreOf counts the test images whose label was predicted.
func scoreOf(predicted []int, test *dataset.Set) Score {
	classes := len(test.Classes)
	right, count := make([]float64, classes), make([]float64, classes)
	total := 0.0
	for i, label := range test.Labels {
		count[label]++
		if predicted[i] == label {
			right[label]++
			total++
		}
	}
	s := Score{Accuracy: total / float64(test.Len()), PerClass: make([]float64, classes), Tests: test.Len()}
	for c := range classes {
		if count[c] > 0 {
			s.PerClass[c] = right[c] / count[c]
		}
	}
	return s
}

// augment appends image i, turned, scaled and moved a little at random, as
// values in [-1, 1]: the usual augmentation, the same for every training set.
func augment(dst []float32, set *dataset.Set, i int, rng *rand.Rand) []float32 {
	img, h, w, ch := set.Image(i), set.Height, set.Width, set.Channels
	angle := 0.26 * (2*rng.Float64() - 1) // Radians: 15 degrees.
	scale := 1 + 0.12*(2*rng.Float64()-1)
	shear := 0.15 * (2*rng.Float64() - 1)
	move := 0.07 * float64(w)
	dx, dy := move*(2*rng.Float64()-1), move*(2*rng.Float64()-1)
	sin, cos := math.Sincos(angle)
	sin, cos = sin/scale, cos/scale
	cy, cx := float64(h-1)/2, float64(w-1)/2
	for y := range h {
		for x := range w {
			u, v := float64(x)-cx-dx, float64(y)-cy-dy
			sx, sy := cos*u+sin*v+shear*v+cx, -sin*u+cos*v+cy
			x0, y0 := int(math.Floor(sx)), int(math.Floor(sy))
			fx, fy := float32(sx-float64(x0)), float32(sy-float64(y0))
			for c := range ch {
				at := func(yy, xx int) float32 {
					yy, xx = min(max(yy, 0), h-1), min(max(xx, 0), w-1)
					return float32(img[(yy*w+xx)*ch+c])
				}
				top := at(y0, x0)*(1-fx) + at(y0, x0+1)*fx
				bottom := at(y0+1, x0)*(1-fx) + at(y0+1, x0+1)*fx
				dst = append(dst, (top*(1-fy)+bottom*fy)/127.5-1)
			}
		}
	}
	return dst
}

func orInt(v, d int) int {
	if v == 0 {
		return d
	}
	return v
}
