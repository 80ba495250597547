package dpsgd

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// TestPeak: a chain of products by hand. Element-wise work between them has no
// array of its own until a product reads it; what the backward pass reads lives
// until then.
func TestPeak(t *testing.T) {
	g := graph.NewGraph(backendtest.Open(t, "go"), "peak")
	defer g.Finalize()
	float := func(dims ...int) shapes.Shape { return shapes.Make(dtypes.Float32, dims...) }
	x := graph.Parameter(g, "x", float(10, 20))
	w, v := graph.Parameter(g, "w", float(20, 30)), graph.Parameter(g, "v", float(30, 5))
	h := graph.Dot(x, w).Product()           // [10, 30], read by the product's operand below.
	a := graph.Tanh(graph.AddScalar(h, 1))   // [10, 30], an array since a product reads it.
	y := graph.Dot(a, v).Product()           // [10, 5].
	unused := graph.Dot(h, v).Product()      // Not on the way to any output.
	z := graph.ReduceAllSum(graph.Mul(y, y)) // A scalar; the square has no array.
	_ = unused
	if got, want := peak(g.Nodes(), []*graph.Node{z}), int64(4*(300+300)); got != want {
		t.Errorf("peak is %d bytes, want %d: h and a", got, want)
	}
	if got, want := peak(g.Nodes(), []*graph.Node{z, h}), int64(4*(300+300+50)); got != want {
		t.Errorf("with h as an output the peak is %d bytes, want %d", got, want)
	}
}

// TestFootprint: more examples take more, each further one the same; the loop
// holds one; and at least the sums are there.
func TestFootprint(t *testing.T) {
	b := backendtest.Open(t, "go")
	p := convolutions(t)
	inputs := func(g *graph.Graph, examples int) []*graph.Node {
		o := TuneOptions{Public: p.fetch}
		return o.parameters(g, examples)
	}
	bytes := func(method Method, size int) int64 {
		n, err := Footprint(b, EngineOptions{Method: method, ClippingNorm: 1, NN: nn.Options{Lowering: nn.Native, Adapter: p.adapter}, Weights: p.weights,
			Trainable: p.trainable, Loss: p.loss}, size, inputs)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	one, two, four := bytes(BookKeeping, 1), bytes(BookKeeping, 2), bytes(BookKeeping, 4)
	vector := int64(4 * p.weights.Size())
	if one < vector || two <= one || four-two != 2*(two-one) {
		t.Errorf("one, two and four examples take %d, %d and %d bytes; the sums are %d", one, two, four, vector)
	}
	if loop := bytes(PerExampleLoop, 1); loop < vector {
		t.Errorf("the loop takes %d bytes; the sums are %d", loop, vector)
	}
	if _, err := Footprint(b, EngineOptions{ClippingNorm: 1, Weights: p.weights, Trainable: []string{"nothing"}, Loss: p.loss}, 1, inputs); err == nil {
		t.Error("a parameter that is not there has a footprint")
	}
}

// TestHalfBaseSums: both engines clip alike on a base in bfloat16, and as on
// weights that were rounded before.
func TestHalfBaseSums(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		l := nn.LoweringFor("xla")
		if b == backendtest.Open(t, "go") {
			l = nn.Patches
		}
		p := convolutions(t)
		trainable := p.trainable[len(p.trainable)/2:] // So that gradients pass through frozen layers.
		trainable = append(trainable, p.trainable[0])
		sum := func(method Method, o nn.BaseOptions) []float64 {
			e, err := NewEngine(b, EngineOptions{Method: method, ClippingNorm: 0.5, NN: nn.Options{Lowering: l, Adapter: p.adapter}, Weights: p.weights,
				Trainable: trainable, Loss: p.loss, PhysicalBatchSize: 2, Workers: 2, Base: o})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			s, _, err := e.Sum(context.Background(), p.weights.Flatten(trainable), 5, p.fetch)
			if err != nil {
				t.Fatal(err)
			}
			return slices.Clone(s.values)
		}
		exact := sum(BookKeeping, nn.BaseOptions{})
		half := nn.BaseOptions{Precision: nn.BFloat16, Release: true}
		got, loop := sum(BookKeeping, half), sum(PerExampleLoop, half)
		want := sum(BookKeeping, nn.BaseOptions{}) // The weights came back rounded.
		for name, other := range map[string][]float64{"rounded before": want, "loop": loop} {
			if err := checkNear(name, got, other, 1e-4, 0.5); err != nil {
				t.Error(err)
			}
		}
		var off, norm float64
		for i, v := range exact {
			off, norm = off+(v-got[i])*(v-got[i]), norm+v*v
		}
		if off = math.Sqrt(off / norm); off == 0 || off > 0.05 {
			t.Errorf("rounding moves the sum by %g of its norm, want something small", off)
		}
	})
}

// TestWorkersOfSmallModels: the memory of a small model's calls is not looked at.
func TestWorkersOfSmallModels(t *testing.T) {
	p := convolutions(t)
	o := TuneOptions{Engine: EngineOptions{Workers: 5, Weights: p.weights, Trainable: p.trainable}, Public: p.fetch}
	if got := o.workers(backendtest.Open(t, "go")); got != 5 {
		t.Errorf("%d workers, want 5", got)
	}
}
