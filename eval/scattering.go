package eval

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/nn"
)

// scatteringGroup is how many neighbouring maps of a scattering transform are normalised
// together: 27 groups of the 81 of a grey image, as in Tramèr & Boneh 2021
// (https://arxiv.org/abs/2011.11660, appendix B).
const scatteringGroup = 3

// scatteringFeatures are what the classifier [Scattering] is linear in: the scattering transform
// of x [rows, height, width, channels] in [-1, 1], -1 being what lies around an image,
// every group of maps with mean 0 and variance 1 over the image: [rows, features].
func scatteringFeatures(s *nn.Scope, x *graph.Node) *graph.Node {
	y := nn.Scattering(s, graph.MulScalar(graph.AddScalar(x, 1), 0.5))
	d := y.Shape().Dimensions
	y = graph.Reshape(y, d[0], d[1]*d[2], d[3]/scatteringGroup, scatteringGroup)
	mean := func(v *graph.Node) *graph.Node {
		return graph.ReduceAndKeep(v, graph.ReduceMean, 1, 3)
	}
	centred := graph.Sub(y, mean(y))
	y = graph.Div(centred, graph.Sqrt(graph.AddScalar(mean(graph.Mul(centred, centred)), 1e-5)))
	return graph.Reshape(y, d[0], -1)
}

// scatteringHead is the trained part of the classifier: x [rows, features].
func scatteringHead(s *nn.Scope, x *graph.Node, classes int) *graph.Node {
	return nn.Dense(s.In("dense"), x, classes, nn.DenseOptions{ZeroInit: true})
}

// Takes says why a kind of classifier cannot take images of a size, nil if it can.
func (c Classifier) Takes(height, width int) error {
	if c == Scattering && max(height, width) > nn.MaxScatteringSize {
		return fmt.Errorf("classifier %s takes images of up to %d pixels, these are %dx%d: %w", c, nn.MaxScatteringSize, height, width, ErrInvalid)
	}
	return nil
}

// Examples are what [Untrained.Losses] takes of images.
type Examples struct {
	shape  []int
	row    func(dst []float32, i int) []float32
	labels []int
}

// Batch returns the inputs of Losses for some images; rows beyond them, up to size, are zero.
func (e *Examples) Batch(images []int, size int) []*tensors.Tensor {
	row := 1
	for _, n := range e.shape {
		row *= n
	}
	values := make([]float32, 0, size*row)
	labels := make([]int32, size)
	for k, i := range images {
		values = e.row(values, i)
		labels[k] = int32(e.labels[i])
	}
	return []*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(values[:size*row], append([]int{size}, e.shape...)...),
		tensors.FromFlatDataAndDimensions(labels, size),
	}
}

// Examples prepares labelled images for Losses: pixels, or for [Scattering] the features that have no
// weights, which are computed once. Each image's are computed in a call of its own, so
// that not even their last bits depend on other images. report, if not nil, hears how much is
// done, from one goroutine at a time, where that takes time: 1 to 100 percent, each once, however few
// images there are, since their number may be private.
func (u *Untrained) Examples(ctx context.Context, set *dataset.Set, workers int, report func(percent int)) (*Examples, error) {
	n := u.network
	if err := checkKind(n.train, set); err != nil {
		return nil, err
	}
	if n.kind != Scattering {
		return &Examples{shape: []int{set.Height, set.Width, set.Channels}, labels: set.Labels,
			row: func(dst []float32, i int) []float32 { return plainPixels(dst, set, i) }}, nil
	}
	program, err := nn.NewProgram(n.backend, nn.ProgramOptions{NN: nn.Options{Lowering: n.options.Lowering}, Weights: nn.NewWeights(),
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
			return []*graph.Node{scatteringFeatures(s, in[0])}
		}})
	if err != nil {
		return nil, err
	}
	defer program.Close()
	dim := nn.ScatteringValues(set.Height, set.Width, set.Channels)
	features := make([]float32, set.Len()*dim)
	var next atomic.Int64
	var wait sync.WaitGroup
	var mutex sync.Mutex
	done := 0
	failed := make([]error, max(1, workers))
	for w := range failed {
		wait.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= set.Len() {
					return
				}
				if failed[w] = scatterOne(ctx, program, set, i, features[i*dim:(i+1)*dim]); failed[w] != nil {
					next.Store(int64(set.Len()))
					return
				}
				mutex.Lock()
				before := done * 100 / set.Len()
				done++
				for percent := before + 1; percent <= done*100/set.Len() && report != nil; percent++ {
					report(percent)
				}
				mutex.Unlock()
			}
		})
	}
	wait.Wait()
	for _, err := range failed {
		if err != nil {
			return nil, err
		}
	}
	return &Examples{shape: []int{dim}, labels: set.Labels,
		row: func(dst []float32, i int) []float32 { return append(dst, features[i*dim:(i+1)*dim]...) }}, nil
}

// scatterOne computes the features of image i.
func scatterOne(ctx context.Context, program *nn.Program, set *dataset.Set, i int, into []float32) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	pixels := tensors.FromFlatDataAndDimensions(plainPixels(nil, set, i), 1, set.Height, set.Width, set.Channels)
	out, err := program.Run(nil, pixels)
	if err != nil {
		return err
	}
	values, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		return err
	}
	if len(values) != len(into) {
		return fmt.Errorf("an image has %d features, want %d", len(values), len(into))
	}
	copy(into, values)
	return nil
}
