package dpsgd

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// Each random architecture builds several programs; SCUMBLE_SLOW=1 tries more.
func TestMain(m *testing.M) {
	flag.Parse()
	checks := "12"
	if os.Getenv("SCUMBLE_SLOW") != "" {
		checks = "200"
	}
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", checks); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// slow skips a test that takes more than a few seconds, unless SCUMBLE_SLOW=1.
func slow(t testing.TB) {
	t.Helper()
	if os.Getenv("SCUMBLE_SLOW") == "" {
		t.Skip("left out, since it takes many seconds; SCUMBLE_SLOW=1 runs it")
	}
}

const classes = 5

// problem is a small network with data: examples of [height, width, channels],
// each with draws of noise and classes.
type problem struct {
	forward                 func(s *nn.Scope, x, class *graph.Node) *graph.Node
	adapter                 nn.Adapter
	height, width, channels int
	draws                   int
	sameDraws               bool // All draws of an example are the same.
	seed                    uint64

	weights   *nn.Weights
	trainable []string
	clip      float64

	change map[int]func(x []float32) // Edits of the data, by example.
}

// build gives the problem weights, without zeros that would hide gradients.
func (p *problem) build(t testing.TB) {
	t.Helper()
	specs, err := nn.Collect(backendtest.Open(t, "go"), nn.Options{Adapter: p.adapter}, func(s *nn.Scope) {
		zeros := func(d dtypes.DType, dims ...int) *graph.Node { return graph.Zeros(s.Graph(), shapes.Make(d, dims...)) }
		p.forward(s, zeros(dtypes.Float32, 1, p.height, p.width, p.channels), zeros(dtypes.Int32, 1))
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range specs {
		if specs[i].Init == nn.InitZeros {
			specs[i].Init = nn.InitFanIn
		}
	}
	p.weights = nn.InitWeights(specs, rand.New(rand.NewPCG(p.seed, 1)))
	p.trainable = p.weights.Names()
}

// loss is the mean square of the output plus a linear term, per example.
func (p *problem) loss(s *nn.Scope, in []*graph.Node) *graph.Node {
	examples, rows := in[0].Shape().Dimensions[0], in[1].Shape().Dimensions[0]
	x := graph.BroadcastToDims(graph.ExpandAxes(in[0], 1), examples, rows/examples, p.height, p.width, p.channels)
	x = graph.Add(graph.Reshape(x, rows, p.height, p.width, p.channels), in[1])
	y := graph.Reshape(p.forward(s, x, in[2]), examples, -1)
	tilt := graph.Sin(graph.AddScalar(graph.MulScalar(graph.Iota(s.Graph(), shapes.Make(dtypes.Float32, 1, y.Shape().Dimensions[1]/(rows/examples)), 1), 1.3), 0.5))
	y = graph.Reshape(y, rows, -1)
	each := graph.ReduceMean(graph.Mul(y, graph.Add(graph.MulScalar(y, 0.3), tilt)), 1)
	return graph.ReduceMean(graph.Reshape(each, examples, -1), 1)
}

func (p *problem) fetch(positions []int, size int) ([]*tensors.Tensor, error) {
	per, rows := p.height*p.width*p.channels, size*p.draws
	x, noise, class := make([]float32, size*per), make([]float32, rows*per), make([]int32, rows)
	for i, at := range positions {
		rng := rand.New(rand.NewPCG(p.seed, uint64(at)+10))
		for j := range per {
			x[i*per+j] = float32(rng.NormFloat64())
		}
		if f := p.change[at]; f != nil {
			f(x[i*per : (i+1)*per])
		}
		for k := range p.draws {
			if p.sameDraws {
				rng = rand.New(rand.NewPCG(p.seed, uint64(at)+1000))
			}
			row := i*p.draws + k
			class[row] = int32(rng.IntN(classes))
			for j := range per {
				noise[row*per+j] = float32(rng.NormFloat64())
			}
		}
	}
	d := []int{p.height, p.width, p.channels}
	return []*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(x, append([]int{size}, d...)...),
		tensors.FromFlatDataAndDimensions(noise, append([]int{rows}, d...)...),
		tensors.FromFlatDataAndDimensions(class, rows),
	}, nil
}

// without hides example i: position j is j or j+1.
func (p *problem) without(i int) Fetch {
	return func(positions []int, size int) ([]*tensors.Tensor, error) {
		moved := make([]int, len(positions))
		for k, at := range positions {
			moved[k] = at
			if at >= i {
				moved[k]++
			}
		}
		return p.fetch(moved, size)
	}
}

// engine builds an engine for the problem; edit may change its options.
func (p *problem) engine(t testing.TB, backend compute.Backend, l nn.Lowering, edit func(o *EngineOptions)) *Engine {
	t.Helper()
	o := EngineOptions{ClippingNorm: p.clip, NN: nn.Options{Lowering: l, Adapter: p.adapter},
		Weights: p.weights, Trainable: p.trainable, Loss: p.loss, PhysicalBatchSize: 3}
	if edit != nil {
		edit(&o)
	}
	e, err := NewEngine(backend, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func loop(o *EngineOptions) { o.Method = PerExampleLoop }

// sum returns the clipped sum over examples 0 to n-1.
func (p *problem) sum(t testing.TB, e *Engine, n int, fetch Fetch) ([]float64, Stats) {
	t.Helper()
	s, stats, err := e.Sum(context.Background(), p.weights.Flatten(p.trainable), n, fetch)
	if err != nil {
		t.Fatal(err)
	}
	return s.values, stats
}

// from shows the examples from i on.
func (p *problem) from(i int) Fetch {
	return func(positions []int, size int) ([]*tensors.Tensor, error) {
		moved := make([]int, len(positions))
		for k, at := range positions {
			moved[k] = at + i
		}
		return p.fetch(moved, size)
	}
}

// norms returns the norm of each example's gradient, one call per example.
func (p *problem) norms(t testing.TB, e *Engine, n int, fetch Fetch) []float64 {
	t.Helper()
	norms := make([]float64, n)
	for i := range norms {
		shifted := func(positions []int, size int) ([]*tensors.Tensor, error) {
			for k := range positions {
				positions[k] += i
			}
			return fetch(positions, size)
		}
		_, stats := p.sum(t, e, 1, shifted)
		norms[i] = stats.NormSum
		if stats.NonFinite > 0 {
			norms[i] = math.NaN()
		}
	}
	return norms
}

func norm(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}

func minus(a, b []float64) []float64 {
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	return d
}

// checkNear returns an error unless got is within tolerance of want in the
// 2-norm, relative to the larger of want and scale.
func checkNear(what string, got, want []float64, tolerance, scale float64) error {
	if len(got) != len(want) {
		return fmt.Errorf("%s: %d values, want %d", what, len(got), len(want))
	}
	if d := norm(minus(got, want)); !(d <= tolerance*max(norm(want), scale)) {
		return fmt.Errorf("%s: off by %.3g, want at most %g of %.3g", what, d, tolerance, max(norm(want), scale))
	}
	return nil
}
