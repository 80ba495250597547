package nn

import (
	"sync"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
)

// TestKernelsServeManyCalls: programs that share a base, called by several goroutines, compute
// with kernels in Winograd's basis what a program computes that brings them there in each call. What
// changes is the vector's, and a vector without such kernels is refused.
func TestKernelsServeManyCalls(t *testing.T) {
	const channels = 32
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		w := NewWeights()
		for i, name := range []string{"frozen.weight", "trained.weight"} {
			w.Add(&Tensor{Name: name, Kind: KindKernel, Shape: []int{3, 3, channels, channels}, Data: values(uint64(i), 3, 3, channels, channels).float32s()})
		}
		trainable := []string{"trained.weight"}
		base, err := NewBase(b, w, trainable, BaseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer base.Close()
		program := func(manyCalls bool) *Program {
			p, err := NewProgram(b, ProgramOptions{NN: Options{Lowering: Small}, Weights: w, Trainable: trainable, Base: base, ManyCalls: manyCalls,
				Build: func(s *Scope, trained, in []*graph.Node) []*graph.Node {
					x := Conv2D(s.In("frozen"), in[0], channels, Same(3), ConvOptions{NoBias: true})
					y := Conv2D(s.In("trained"), x, channels, Same(3), ConvOptions{NoBias: true})
					return append([]*graph.Node{y}, graph.Gradient(graph.ReduceAllSum(graph.Square(y)), trained[0], in[0])...)
				}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Close)
			return p
		}
		first := w.Flatten(trainable)
		second := values(7, len(first)).float32s()
		x := func() *tensors.Tensor { return values(3, 8, 8, 8, channels).tensor() }
		run := func(p *Program, vector *Vector) []*tensors.Tensor {
			out, err := p.Run(vector, x())
			if err != nil {
				t.Error(err)
			}
			return out
		}
		plain := program(false)
		for _, p := range []*Program{program(true), program(true)} {
			for _, now := range [][]float32{first, second} {
				own, err := p.Vector(now)
				if err != nil {
					t.Fatal(err)
				}
				other, err := plain.Vector(now)
				if err != nil {
					t.Fatal(err)
				}
				want := run(plain, other)
				got := make([][]*tensors.Tensor, 4)
				var wg sync.WaitGroup
				for i := range got {
					wg.Go(func() { got[i] = run(p, own) })
				}
				wg.Wait()
				if t.Failed() {
					return
				}
				for i := range want {
					for _, g := range got {
						checkClose(t, "output", g[i], hostOf(t, want[i]))
					}
				}
				if _, err := p.Run(other, x()); err == nil {
					t.Error("a vector without the kernels is taken")
				}
			}
		}
	})
}

// TestKernelsThatAreNotGiven: four times their memory is not spent where memory is asked for,
// where the backend does not compute in the basis, or on large models.
func TestKernelsThatAreNotGiven(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, c := range []struct {
		name     string
		channels int
		options  Options
		base     BaseOptions
		once     bool
		want     int
	}{
		{"given", 32, Options{Lowering: Small}, BaseOptions{}, false, 2},
		{"few calls", 32, Options{Lowering: Small}, BaseOptions{}, true, 0},
		{"another lowering", 32, Options{Lowering: Patches}, BaseOptions{}, false, 0},
		{"narrow", 31, Options{Lowering: Small}, BaseOptions{}, false, 0},
		{"recomputation", 32, Options{Lowering: Small, Recompute: true}, BaseOptions{}, false, 0},
		{"half precision", 32, Options{Lowering: Small}, BaseOptions{Precision: BFloat16}, false, 0},
		{"a large model", 1400, Options{Lowering: Small}, BaseOptions{}, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := NewWeights()
			for _, name := range []string{"frozen.weight", "trained.weight"} {
				out := c.channels
				if name == "trained.weight" {
					out = 32
				}
				shape := []int{3, 3, c.channels, out}
				w.Add(&Tensor{Name: name, Kind: KindKernel, Shape: shape, Data: make([]float32, (Spec{Shape: shape}).Size())})
			}
			trainable := []string{"trained.weight"}
			base, err := NewBase(b, w, trainable, c.base)
			if err != nil {
				t.Fatal(err)
			}
			defer base.Close()
			p, err := NewProgram(b, ProgramOptions{NN: c.options, Weights: w, Trainable: trainable, Base: base, ManyCalls: !c.once,
				Build: func(*Scope, []*graph.Node, []*graph.Node) []*graph.Node { return nil }})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if got := len(p.given) + len(p.kernels.which); got != c.want {
				t.Errorf("%d kernels are given in Winograd's basis, want %d", got, c.want)
			}
		})
	}
}
