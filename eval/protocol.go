package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/optim"
)

// Protocol is how a benchmark turns synthetic images into accuracies. A zero
// field means that of DPImageBench (https://arxiv.org/abs/2503.14681), for
// images other than CIFAR's.
type Protocol struct {
	Images      int                     // Synthetic images that are taken, the first ones. Zero means 60,000.
	Held        int                     // The last of them, which choose the epoch. Zero means a twelfth: 5,000.
	Epochs      int                     // Zero means 50.
	BatchSize   int                     // Zero means 256.
	Classifiers []Classifier            // Nil means ResNet, WRN and ResNeXt.
	Geometries  map[Classifier]Geometry // Nil means ResNet-110, WRN-40-4 and ResNeXt-29 (8×64).
}

// DPImageBench are the numbers of the benchmark.
func DPImageBench() Protocol {
	return Protocol{Images: 60000, Held: 5000, Epochs: 50, BatchSize: 256, Classifiers: []Classifier{ResNet, WRN, ResNeXt}, Geometries: fullGeometry}
}

// resolve fills in what is zero.
func (p Protocol) resolve() Protocol {
	d := DPImageBench()
	p.Images, p.Epochs, p.BatchSize = orInt(p.Images, d.Images), orInt(p.Epochs, d.Epochs), orInt(p.BatchSize, d.BatchSize)
	p.Held = orInt(p.Held, p.Images/12)
	if p.Classifiers == nil {
		p.Classifiers = d.Classifiers
	}
	if p.Geometries == nil {
		p.Geometries = d.Geometries
	}
	return p
}

// ProtocolScore is what a protocol finds.
type ProtocolScore struct {
	Name        string      `json:"name"`
	AsPublished bool        `json:"as_published"` // Images, split, epochs, batch and geometries are the benchmark's.
	Images      int         `json:"images"`
	Training    int         `json:"training_images"`
	Held        int         `json:"held_images"`
	Epochs      int         `json:"epochs"`
	BatchSize   int         `json:"batch_size"`
	Classifiers []*Accuracy `json:"classifiers"`
	Epoch       []int       `json:"epoch"` // Chosen, of each classifier; of its first seed.
	Mean        float64     `json:"accuracy_mean"`
	Std         float64     `json:"accuracy_std"`  // Over classifiers, with divisor n, as the benchmark prints.
	Best        float64     `json:"accuracy_best"` // What the benchmark's tables show.
	Differences []string    `json:"differences"`   // From the benchmark, whatever its numbers.
}

// protocolDifferences are what we do otherwise, and why figures may differ.
var protocolDifferences = []string{
	"group normalisation in place of batch normalisation, and no dropout",
	"one recipe for all images (Adam at 0.01, a fifth of it after every 20 epochs), also for CIFAR, where the benchmark takes SGD and deeper networks",
	"updates of 256 images exactly; what is left of an epoch begins the next",
}

// RunProtocol trains each classifier of the protocol on the first synthetic
// images, takes of all epochs the one whose averaged weights (decay 0.9999 per
// step) do best on the held synthetic images, and scores it on test: no choice
// looks at test. It is repeated for seeds seeds.
func RunProtocol(ctx context.Context, backend compute.Backend, p Protocol, synthetic, test *dataset.Set, seeds int, o ClassifierOptions, report func(c Classifier, step, steps int)) (*ProtocolScore, error) {
	p = p.resolve()
	if err := p.check(synthetic, seeds); err != nil {
		return nil, err
	}
	if err := checkSets(synthetic, test); err != nil {
		return nil, err
	}
	indices := make([]int, p.Images)
	for i := range indices {
		indices[i] = i
	}
	rand.New(rand.NewPCG(0, 55000)).Shuffle(len(indices), func(i, j int) { indices[i], indices[j] = indices[j], indices[i] }) // Folders come class by class.
	training, held := synthetic.Subset(indices[p.Held:]), synthetic.Subset(indices[:p.Held])
	out := &ProtocolScore{Name: "dpimagebench", AsPublished: p.asPublished(), Images: p.Images, Training: training.Len(), Held: held.Len(),
		Epochs: p.Epochs, BatchSize: p.BatchSize, Differences: protocolDifferences}
	first := o.Seed
	var means []float64
	for _, kind := range p.Classifiers {
		o.Kind, o.Geometry = kind, p.Geometries[kind]
		o.Report = nil
		if report != nil {
			o.Report = func(step, steps int) { report(kind, step, steps) }
		}
		var scores []Score
		for i := range seeds {
			o.Seed = first + uint64(i)
			score, epoch, err := p.score(ctx, backend, training, held, test, o)
			if err != nil {
				return nil, fmt.Errorf("classifier %s: %w", kind, err)
			}
			scores = append(scores, score)
			if i == 0 {
				out.Epoch = append(out.Epoch, epoch)
			}
		}
		a := summarize(kind, scores, training.Len())
		geometry, err := kind.geometry(o.Geometry)
		if err != nil {
			return nil, err
		}
		a.Geometry = &geometry
		out.Classifiers = append(out.Classifiers, a)
		means = append(means, a.Mean)
		out.Best = max(out.Best, a.Mean)
	}
	out.Mean, out.Std = meanStd(means)
	return out, nil
}

func (p Protocol) check(synthetic *dataset.Set, seeds int) error {
	switch {
	case p.Images > synthetic.Len():
		return fmt.Errorf("the protocol takes %d synthetic images and there are %d; draw more, or take fewer: %w", p.Images, synthetic.Len(), ErrInvalid)
	case p.Held < 1 || p.Held >= p.Images:
		return fmt.Errorf("the protocol holds %d of %d images back, want at least 1 and not all: %w", p.Held, p.Images, ErrInvalid)
	case p.Epochs < 1 || p.BatchSize < 1 || p.BatchSize > p.Images-p.Held:
		return fmt.Errorf("the protocol trains for %d epochs in batches of %d of %d images, want at least 1 and no batch above all: %w", p.Epochs, p.BatchSize, p.Images-p.Held, ErrInvalid)
	case seeds < 1:
		return fmt.Errorf("%d seeds, want at least 1: %w", seeds, ErrInvalid)
	}
	for _, kind := range p.Classifiers {
		if !kind.Residual() {
			return fmt.Errorf("classifier of the protocol is %q, want residual networks: %w", kind, ErrInvalid)
		}
	}
	return nil
}

func (p Protocol) asPublished() bool {
	d := DPImageBench()
	same := p.Images == d.Images && p.Held == d.Held && p.Epochs == d.Epochs && p.BatchSize == d.BatchSize && len(p.Classifiers) == len(d.Classifiers)
	for i := 0; same && i < len(p.Classifiers); i++ {
		same = p.Classifiers[i] == d.Classifiers[i] && p.Geometries[p.Classifiers[i]] == fullGeometry[p.Classifiers[i]]
	}
	return same
}

// score trains one classifier and scores its best epoch.
func (p Protocol) score(ctx context.Context, backend compute.Backend, training, held, test *dataset.Set, o ClassifierOptions) (Score, int, error) {
	n, err := newNetwork(backend, o.Kind, training, o)
	if err != nil {
		return Score{}, 0, err
	}
	perEpoch := training.Len() / p.BatchSize
	order := newOrder(training.Len(), o.Seed)
	best, chosen := -1.0, 0
	names := n.weights.Names()
	var kept []float32
	err = n.fit(ctx, lesson{
		steps: p.Epochs * perEpoch, batch: p.BatchSize, ema: 0.9999, shardExamples: 64,
		adam:   optim.AdamW{LearningRate: 0.01},
		factor: func(step int) float64 { return math.Pow(0.2, float64(step/perEpoch/20)) },
		example: func(dst []float32, step, position int) ([]float32, int) {
			i := order.at(step*p.BatchSize + position)
			return plainPixels(dst, training, i), i
		},
		epoch: perEpoch,
		after: func(epoch int, n *network) error {
			share, err := n.accuracy(ctx, held)
			if share >= best { // The later one of equals, as the benchmark does.
				best, chosen, kept = share, epoch, n.weights.Flatten(names)
			}
			return err
		},
	})
	if err != nil {
		return Score{}, 0, err
	}
	n.weights.SetFlat(names, kept)
	predictor, err := n.predictor()
	if err != nil {
		return Score{}, 0, err
	}
	defer predictor.Close()
	s, err := predictor.Score(ctx, test)
	return s, chosen, err
}

// accuracy scores the network with its weights as they are now.
func (n *network) accuracy(ctx context.Context, held *dataset.Set) (float64, error) {
	p, err := n.predictor()
	if err != nil {
		return 0, err
	}
	defer p.Close()
	s, err := p.Score(ctx, held)
	return s.Accuracy, err
}
