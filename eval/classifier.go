package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
)

// ClassifierOptions fix the downstream classifier. They are the same for
// synthetic, public and real training images, and chosen without private data.
type ClassifierOptions struct {
	Steps        int     // Updates. Zero means 1200.
	BatchSize    int     // Zero means 64.
	LearningRate float64 // Zero means 2e-3.
	Seed         uint64
	Kind         Classifier // Empty means CNN. One of those that are trained.

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
func (c Classifier) network(s *nn.Scope, x *graph.Node, classes int) *graph.Node {
	flat := func() *graph.Node { return graph.Reshape(x, x.Shape().Dimensions[0], -1) }
	switch c {
	case MLP:
		x = nn.SiLU(nn.Dense(s.In("dense1"), flat(), 256, nn.DenseOptions{}))
		x = nn.SiLU(nn.Dense(s.In("dense2"), x, 128, nn.DenseOptions{}))
		return nn.Dense(s.In("dense3"), x, classes, nn.DenseOptions{})
	case LogisticRegression:
		return nn.Dense(s.In("dense"), flat(), classes, nn.DenseOptions{ZeroInit: true})
	}
	return classifier(s, x, classes)
}

// TrainAndScore trains the classifier on train and scores it on test. Both
// have labels over the same classes.
func TrainAndScore(ctx context.Context, backend compute.Backend, train, test *dataset.Set, o ClassifierOptions) (Score, error) {
	if err := checkSets(train, test); err != nil {
		return Score{}, err
	}
	if o.Kind != "" && !o.Kind.Trained() {
		return Score{}, fmt.Errorf("classifier %q is not trained by steps; use ScoreClassifier", o.Kind)
	}
	steps, batch, rate := orInt(o.Steps, 1200), orInt(o.BatchSize, 64), o.LearningRate
	if rate == 0 {
		rate = 2e-3
	}
	workers := max(1, o.Workers)
	shard := batch
	if batch%workers == 0 {
		shard = batch / workers
	}
	classes := len(train.Classes)
	height, width, channels := train.Height, train.Width, train.Channels
	build := func(s *nn.Scope, x *graph.Node) *graph.Node { return o.Kind.network(s, x, classes) }
	specs, err := nn.Collect(backend, nn.Options{Lowering: o.Lowering}, func(s *nn.Scope) {
		build(s, graph.Zeros(s.Graph(), shapes.Make(dtypes.Float32, 1, height, width, channels)))
	})
	if err != nil {
		return Score{}, err
	}
	weights := nn.InitWeights(specs, rand.New(rand.NewPCG(o.Seed, 1)))
	trainer, err := optim.NewTrainer(backend, optim.TrainerOptions{
		NN: nn.Options{Lowering: o.Lowering}, Weights: weights, Trainable: weights.Names(),
		Loss: func(s *nn.Scope, in []*graph.Node) *graph.Node {
			target := graph.OneHot(in[1], classes, dtypes.Float32)
			target = graph.AddScalar(graph.MulScalar(target, 0.95), 0.05/float64(classes)) // Label smoothing.
			return graph.Neg(graph.ReduceSum(graph.Mul(target, graph.LogSoftmax(build(s, in[0]))), -1))
		},
		ShardSize: shard, Workers: workers, EMADecay: 0.99, ClipNorm: 5,
		Adam: optim.AdamW{LearningRate: rate, WeightDecay: 1e-2},
	})
	if err != nil {
		return Score{}, err
	}
	defer trainer.Close()
	for step := range steps {
		_, err := trainer.Step(ctx, batch, optim.Cosine.Factor(step, steps, 20), func(positions []int) ([]*tensors.Tensor, error) {
			pixels := make([]float32, 0, len(positions)*train.ImageSize())
			labels := make([]int32, len(positions))
			for k, p := range positions {
				rng := rand.New(rand.NewPCG(o.Seed+2, uint64(step*batch+p)))
				i := rng.IntN(train.Len())
				pixels = augment(pixels, train, i, rng)
				labels[k] = int32(train.Labels[i])
			}
			return []*tensors.Tensor{
				tensors.FromFlatDataAndDimensions(pixels, len(positions), height, width, channels),
				tensors.FromFlatDataAndDimensions(labels, len(positions)),
			}, nil
		})
		if err != nil {
			return Score{}, fmt.Errorf("classifier step %d: %w", step+1, err)
		}
		if o.Report != nil {
			o.Report(step+1, steps)
		}
	}
	trainer.Finish()
	return score(ctx, backend, weights, test, o.Lowering, build)
}

// checkSets says whether a classifier trained on train can be scored on test.
func checkSets(train, test *dataset.Set) error {
	if train.Len() == 0 || test.Len() == 0 {
		return fmt.Errorf("classifier has %d training and %d test images, want at least one of each", train.Len(), test.Len())
	}
	if train.Height != test.Height || train.Width != test.Width || train.Channels != test.Channels {
		return fmt.Errorf("training images are %dx%dx%d, test images %dx%dx%d, want the same", train.Height, train.Width, train.Channels, test.Height, test.Width, test.Channels)
	}
	if train.Labels == nil || test.Labels == nil || len(train.Classes) != len(test.Classes) {
		return fmt.Errorf("training images have %d classes, test images %d, want the same labels", len(train.Classes), len(test.Classes))
	}
	return nil
}

// score classifies the test images.
func score(ctx context.Context, backend compute.Backend, weights *nn.Weights, test *dataset.Set, lowering nn.Lowering, build func(*nn.Scope, *graph.Node) *graph.Node) (Score, error) {
	const batch = 64
	program, err := nn.NewProgram(backend, nn.ProgramOptions{NN: nn.Options{Lowering: lowering}, Weights: weights,
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node { return []*graph.Node{build(s, in[0])} }})
	if err != nil {
		return Score{}, err
	}
	defer program.Close()
	classes := len(test.Classes)
	predicted := make([]int, 0, test.Len())
	for at := 0; at < test.Len(); at += batch {
		if err := ctx.Err(); err != nil {
			return Score{}, err
		}
		pixels := make([]float32, batch*test.ImageSize())
		n := min(batch, test.Len()-at)
		for k, b := range test.Pixels[at*test.ImageSize() : (at+n)*test.ImageSize()] {
			pixels[k] = float32(b)/127.5 - 1
		}
		out, err := program.Run(nil, tensors.FromFlatDataAndDimensions(pixels, batch, test.Height, test.Width, test.Channels))
		if err != nil {
			return Score{}, err
		}
		logits, err := tensors.CopyFlatData[float32](out[0])
		if err != nil {
			return Score{}, err
		}
		for k := range n {
			best := 0
			for c := range classes {
				if logits[k*classes+c] > logits[k*classes+best] {
					best = c
				}
			}
			predicted = append(predicted, best)
		}
	}
	return scoreOf(predicted, test), nil
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
