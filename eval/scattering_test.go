package eval

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

func loweringOf(t *testing.T, b compute.Backend) nn.Lowering {
	if b == backendtest.Open(t, "go") {
		return nn.Patches
	}
	return nn.Small
}

// The loss on features that were computed before is that of the whole classifier on pixels.
func TestExamplesAreWhatTheClassifierSees(t *testing.T) {
	set := digits(t, 5, 3)
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, kind := range []Classifier{CNN, Scattering} {
			u, err := NewUntrained(b, set, ClassifierOptions{Kind: kind, Seed: 1, Lowering: loweringOf(t, b)})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range u.Weights().All() { // The linear one begins at zero.
				for i := range w.Data {
					w.Data[i] += float32(math.Sin(float64(i))) / 10
				}
			}
			examples, err := u.Examples(t.Context(), set, 2, nil)
			if err != nil {
				t.Fatal(err)
			}
			run := func(build func(s *nn.Scope, in []*graph.Node) *graph.Node, in []*tensors.Tensor) []float32 {
				p, err := nn.NewProgram(b, nn.ProgramOptions{NN: nn.Options{Lowering: loweringOf(t, b)}, Weights: u.Weights(),
					Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node { return []*graph.Node{build(s, in)} }})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				out, err := p.Run(nil, in...)
				if err != nil {
					t.Fatal(err)
				}
				values, err := tensors.CopyFlatData[float32](out[0])
				if err != nil {
					t.Fatal(err)
				}
				return values
			}
			order := []int{4, 0, 2}
			got := run(u.Losses, examples.Batch(order, 4)) // One row is padding.
			var pixels []float32
			labels := make([]int32, len(order))
			for k, i := range order {
				pixels, labels[k] = plainPixels(pixels, set, i), int32(set.Labels[i])
			}
			want := run(func(s *nn.Scope, in []*graph.Node) *graph.Node {
				return crossEntropy(u.network.build(s, in[0]), in[1], len(set.Classes))
			}, []*tensors.Tensor{tensors.FromFlatDataAndDimensions(pixels, 3, set.Height, set.Width, set.Channels), tensors.FromFlatDataAndDimensions(labels, 3)})
			for k, w := range want {
				if math.Abs(float64(got[k]-w)) > 1e-4 {
					t.Errorf("%s: loss %d is %g, want %g", kind, k, got[k], w)
				}
			}
		}
	})
}

// Without an image those of the others are the same to the last bit: one image moves a sum
// of clipped gradients by its own alone.
func TestExamplesOfNeighbours(t *testing.T) {
	set := digits(t, 6, 4)
	less := set.Subset([]int{0, 2, 3, 4, 5})
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		rows := func(set *dataset.Set, i int) []float32 {
			u, err := NewUntrained(b, set, ClassifierOptions{Kind: Scattering, Lowering: loweringOf(t, b)})
			if err != nil {
				t.Fatal(err)
			}
			examples, err := u.Examples(t.Context(), set, 2, nil)
			if err != nil {
				t.Fatal(err)
			}
			return examples.row(nil, i)
		}
		for i := range less.Len() {
			j := i
			if i > 0 {
				j++
			}
			if !slices.Equal(rows(less, i), rows(set, j)) {
				t.Errorf("features of image %d changed with an image that is not it", j)
			}
		}
	})
}

// What is said on the way does not tell how many images there are.
func TestExamplesReportPercent(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, n := range []int{1, 3, 120} {
		set := digits(t, n, 5)
		u, err := NewUntrained(b, set, ClassifierOptions{Kind: Scattering, Lowering: nn.Patches})
		if err != nil {
			t.Fatal(err)
		}
		var heard []int
		if _, err := u.Examples(t.Context(), set, 2, func(percent int) { heard = append(heard, percent) }); err != nil {
			t.Fatal(err)
		}
		for i, percent := range heard {
			if percent != i+1 {
				t.Fatalf("%d images: call %d says %d percent", n, i+1, percent)
			}
		}
		if len(heard) != 100 {
			t.Errorf("%d images: %d calls, want 100", n, len(heard))
		}
	}
}

func TestScatteringRefuses(t *testing.T) {
	b := backendtest.Open(t, "go")
	large := &dataset.Set{Height: 65, Width: 8, Channels: 1, Classes: []string{"a", "b"}, Labels: []int{0, 1}, Pixels: make([]byte, 2*65*8)}
	if _, err := NewUntrained(b, large, ClassifierOptions{Kind: Scattering}); !errors.Is(err, ErrInvalid) {
		t.Errorf("images of 65x8: %v, want ErrInvalid", err)
	}
	if _, err := NewUntrained(b, large, ClassifierOptions{Kind: Neighbours}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a classifier that is not trained: %v, want ErrInvalid", err)
	}
}
