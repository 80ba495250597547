package dpsgd

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

func TestEngineOptions(t *testing.T) {
	p := convolutions(t)
	b := backendtest.Open(t, "go")
	for _, c := range []struct {
		name string
		edit func(o *EngineOptions)
		want string
	}{
		{"method", func(o *EngineOptions) { o.Method = "ghost" }, `"ghost", want "book-keeping" or "loop"`},
		{"zero clip", func(o *EngineOptions) { o.ClippingNorm = 0 }, "clipping norm is 0"},
		{"infinite clip", func(o *EngineOptions) { o.ClippingNorm = math.Inf(1) }, "clipping norm is +Inf"},
		{"clip below float32", func(o *EngineOptions) { o.ClippingNorm = 1e-30 }, "clipping norm is 1e-30"},
		{"batch", func(o *EngineOptions) { o.PhysicalBatchSize = -1 }, "physical batch size is -1"},
		{"workers", func(o *EngineOptions) { o.Workers = -2 }, "workers is -2"},
		{"nothing trainable", func(o *EngineOptions) { o.Trainable = nil }, "no trainable parameters"},
		{"unknown name", func(o *EngineOptions) { o.Trainable = []string{"first.wait"} }, `"first.wait" is not in the weights`},
		{"name twice", func(o *EngineOptions) { o.Trainable = []string{"first.weight", "first.weight"} }, "listed twice"},
	} {
		o := EngineOptions{ClippingNorm: 1, Weights: p.weights, Trainable: p.trainable, Loss: p.loss}
		c.edit(&o)
		if _, err := NewEngine(b, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q in it", c.name, err, c.want)
		}
	}
}

// TestTrainableWithoutRule: mistakes in the model are found without any data.
func TestTrainableWithoutRule(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, c := range []struct {
		name string
		edit func(p *problem, o *EngineOptions)
		want string
	}{
		{"parameter that the model does not use", func(p *problem, o *EngineOptions) {
			p.weights.Add(&nn.Tensor{Name: "extra.weight", Shape: []int{2}, Data: make([]float32, 2)})
			o.Trainable = append(o.Trainable, "extra.weight")
		}, `"extra.weight" has no per-example gradient rule`},
		{"parameter used twice", func(p *problem, o *EngineOptions) {
			o.Loss = func(s *nn.Scope, in []*graph.Node) *graph.Node {
				return graph.Add(p.loss(s, in), p.loss(s, in))
			}
		}, `"first.weight" is used twice`},
		{"parameter that the weights lack", func(p *problem, o *EngineOptions) {
			o.Loss = func(s *nn.Scope, in []*graph.Node) *graph.Node {
				x := nn.Dense(s.In("unknown"), in[0], 2, nn.DenseOptions{})
				return graph.Add(p.loss(s, in), graph.ReduceSum(x, 1, 2, 3))
			}
		}, `"unknown.weight" [4 2], which the weights lack`},
		{"losses of rows, not examples", func(p *problem, o *EngineOptions) {
			o.Loss = func(s *nn.Scope, in []*graph.Node) *graph.Node { return graph.ReduceSum(in[1], 1, 2, 3) }
		}, ""},
	} {
		for _, method := range []Method{BookKeeping, PerExampleLoop} {
			p := convolutions(t)
			o := EngineOptions{Method: method, ClippingNorm: 1, Weights: p.weights, Trainable: p.trainable, Loss: p.loss}
			c.edit(p, &o)
			e, err := NewEngine(b, o)
			if err == nil {
				err = e.Prepare(o.Weights.Flatten(o.Trainable), func(positions []int, size int) ([]*tensors.Tensor, error) {
					if len(positions) > 0 {
						t.Errorf("%s: fetch is asked for data", c.name)
					}
					return p.fetch(positions, size)
				})
				e.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: error is %v, want %q in it", c.name, method, err, c.want)
			}
		}
	}
}

// TestExtraLayerIsRefused: the tape owns the trainable names, no more and no less.
func TestExtraLayerIsRefused(t *testing.T) {
	tape := []*nn.Layer{{Weight: "a"}, {Weight: "b", Bias: "c"}}
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"a", "b", "c"}, ""},
		{[]string{"c", "b", "a"}, ""},
		{[]string{"a", "b"}, `not in the list, first "c"`},
		{[]string{"a", "b", "c", "d"}, `"d" has no per-example gradient rule`},
	} {
		err := nn.CheckCovered(tape, c.names)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error is %v, want %q", c.names, err, c.want)
		}
	}
	if err := nn.CheckCovered([]*nn.Layer{{Weight: "a"}, {Bias: "a"}}, []string{"a"}); err == nil {
		t.Error("a parameter of two layers is let through")
	}
}

// TestFetchFails: an error stops the sum, from whichever worker, and nothing
// hangs or is released.
func TestFetchFails(t *testing.T) {
	p := convolutions(t)
	broken := errors.New("disk is gone")
	for _, at := range []int{0, 4, 9} {
		e := p.engine(t, backendtest.Open(t, "go"), nn.Patches, func(o *EngineOptions) { o.PhysicalBatchSize, o.Workers = 2, 3 })
		s, _, err := e.Sum(context.Background(), p.weights.Flatten(p.trainable), 10, func(positions []int, size int) ([]*tensors.Tensor, error) {
			for _, i := range positions {
				if i == at {
					return nil, broken
				}
			}
			return p.fetch(positions, size)
		})
		if s != nil || !errors.Is(err, broken) {
			t.Errorf("error at %d: sum %v, error %v", at, s, err)
		}
	}
	e := p.engine(t, backendtest.Open(t, "go"), nn.Patches, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if s, _, err := e.Sum(ctx, p.weights.Flatten(p.trainable), 10, p.fetch); s != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: sum %v, error %v", s, err)
	}
	if _, _, err := e.Sum(context.Background(), make([]float32, 3), 1, p.fetch); err == nil {
		t.Error("a trainable vector of the wrong length is taken")
	}
}

// TestChooseRule pins the rule table of the doc.
func TestChooseRule(t *testing.T) {
	for _, c := range []struct {
		lowering nn.Lowering
		shape    Shape
		want     Rule
	}{
		{nn.Native, Shape{nn.ScaleShift, 49, 64, 64, 0}, Direct},
		{nn.Native, Shape{nn.Linear, 1, 64, 64, 0}, OneRow},
		{nn.Native, Shape{nn.Linear, 4, 256, 256, 0}, Ghost},
		{nn.Native, Shape{nn.Linear, 49, 64, 64, 0}, Explicit},
		{nn.Native, Shape{nn.Linear, 8, 64, 512, 0}, Ghost},
		{nn.Native, Shape{nn.Linear, 98, 64, 512, 0}, Explicit},
		{nn.Native, Shape{nn.Linear, 64, 9 * 128, 128, 128}, PixelGram},
		{nn.Native, Shape{nn.Linear, 4, 9 * 256, 256, 256}, PixelGram},
		{nn.Native, Shape{nn.Linear, 1024, 9 * 64, 64, 64}, Explicit},
		{nn.Patches, Shape{nn.Linear, 8, 64, 512, 0}, Ghost},
		{nn.Patches, Shape{nn.Linear, 98, 576, 64, 64}, Explicit},
	} {
		if got := ChooseRule(c.lowering, c.shape); got != c.want {
			t.Errorf("%+v: rule is %s", c, got)
		}
	}
}
