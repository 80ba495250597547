package nn

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/backendtest"
)

// TestProgramConcurrent: four goroutines on one program, several input shapes,
// get what one goroutine gets. The shared tensors must be on the device before,
// or GoMLX loses them.
func TestProgramConcurrent(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		l := Native
		if b == backendtest.Open(t, "go") {
			l = Patches
		}
		model := func(s *Scope, x *graph.Node) *graph.Node {
			x = SiLU(Conv2D(s.In("conv"), x, 4, Same(3), ConvOptions{}))
			return Dense(s.In("dense"), x, 2, DenseOptions{})
		}
		specs, err := Collect(b, Options{}, func(s *Scope) { model(s, graph.Zeros(s.Graph(), float32Shape(1, 4, 4, 3))) })
		if err != nil {
			t.Fatal(err)
		}
		w := InitWeights(specs, rand.New(rand.NewPCG(1, 2)))
		trainable := []string{"conv.weight", "dense.bias"} // The rest is frozen.
		p, err := NewProgram(b, ProgramOptions{NN: Options{Lowering: l}, Weights: w, Trainable: trainable,
			Build: func(s *Scope, trainable, in []*graph.Node) []*graph.Node {
				y := model(s, in[0])
				return append([]*graph.Node{y}, graph.Gradient(graph.ReduceAllSum(graph.Square(y)), trainable...)...)
			}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		vector, err := p.Vector(w.Flatten(trainable))
		if err != nil {
			t.Fatal(err)
		}
		run := func(i int) []float32 {
			out, err := p.Run(vector, values(uint64(i), 1+i%3, 4, 4, 3).tensor())
			if err != nil {
				t.Error(err)
				return nil
			}
			var all []float32
			for _, o := range out {
				all = append(all, tensors.MustCopyFlatData[float32](o)...)
			}
			return all
		}
		const runs = 24
		got := make([][]float32, runs)
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				for i := worker; i < runs; i += 4 {
					got[i] = run(i)
				}
			})
		}
		wg.Wait()
		for i := range got {
			if want := run(i); !slices.Equal(got[i], want) {
				t.Errorf("run %d differs from the same run alone", i)
			}
		}
	})
}

// TestProgramTrims: memory is given back between building and compiling a graph, and once
// between the first compilation and the first call.
func TestProgramTrims(t *testing.T) {
	b := backendtest.Open(t, "go")
	var events []string
	p, err := NewProgram(b, ProgramOptions{
		Weights: InitWeights(nil, rand.New(rand.NewPCG(1, 2))),
		Trim:    func() { events = append(events, "trim") },
		Build: func(s *Scope, trainable, in []*graph.Node) []*graph.Node {
			events = append(events, "build")
			return []*graph.Node{graph.Square(in[0])}
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i, c := range []struct {
		rows int
		want []string
	}{{1, []string{"build", "trim", "trim"}}, {1, nil}, {2, []string{"build", "trim"}}, {1, nil}} {
		events = nil
		if _, err := p.Run(nil, values(1, c.rows, 3).tensor()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(events, c.want) {
			t.Errorf("call %d, of %d rows: %v, want %v", i, c.rows, events, c.want)
		}
	}
}

// TestGradientTwice: hand-written gradients serve several Gradient calls on one
// graph, of functions that share some layers.
func TestGradientTwice(t *testing.T) {
	b := backendtest.Open(t, "go")
	run := func(l Lowering) []float32 {
		out := graph.MustExecOnce(b, func(x *graph.Node) *graph.Node {
			s := NewScope(x.Graph(), Options{Lowering: l, Param: func(g *graph.Graph, spec Spec) *graph.Node {
				return graph.ConstTensor(g, values(uint64(len(spec.Name)), spec.Shape...).tensor())
			}})
			shared := SiLU(Conv2D(s.In("a"), x, 3, Same(3), ConvOptions{}))
			one := graph.ReduceAllSum(graph.Square(GroupNorm(s.In("norm"), shared, 1, 1e-3)))
			two := graph.ReduceAllSum(graph.Square(Conv2D(s.In("bb"), shared, 2, Same(3), ConvOptions{})))
			three := graph.ReduceAllSum(Conv2D(s.In("ccc"), shared, 2, Same(3), ConvOptions{}))
			var parts []*graph.Node
			for _, loss := range []*graph.Node{two, graph.Add(one, two), graph.Add(three, one), three} {
				for _, g := range graph.Gradient(loss, x, shared) {
					parts = append(parts, graph.Reshape(g, -1))
				}
			}
			return graph.Concatenate(parts, 0)
		}, values(3, 2, 4, 3, 2).tensor())
		return tensors.MustCopyFlatData[float32](out)
	}
	got, want := run(Patches), newHost(0)
	for _, v := range run(Native) {
		want.data = append(want.data, float64(v))
	}
	want.dims = []int{len(want.data)}
	checkClose(t, "gradients", tensors.FromFlatDataAndDimensions(got, len(got)), want)
}

func TestRefused(t *testing.T) {
	b := backendtest.Open(t, "go")
	image := func(s *Scope) *graph.Node { return graph.Zeros(s.Graph(), float32Shape(1, 4, 4, 2)) }
	for _, c := range []struct {
		name  string
		build func(s *Scope)
		want  string
	}{
		{"even kernel", func(s *Scope) { Conv2D(s.In("c"), image(s), 2, Conv{Kernel: 2}, ConvOptions{}) }, `"c" has kernel 2, want an odd one`},
		{"kernel 4", func(s *Scope) { Conv2D(s, image(s), 2, Conv{4, 2, [2]int{1, 1}}, ConvOptions{}) }, "has kernel 4"},
		{"wide padding", func(s *Scope) { Conv2D(s, image(s), 2, Conv{3, 1, [2]int{0, 3}}, ConvOptions{}) }, "padding [0 3], want less"},
		{"kernel that does not fit", func(s *Scope) { Conv2D(s, image(s), 2, Conv{5, 2, [2]int{0, 0}}, ConvOptions{}) }, "does not fit maps of 4x4"},
		{"parameter twice", func(s *Scope) {
			Dense(s.In("d"), image(s), 2, DenseOptions{})
			Dense(s.In("d"), image(s), 2, DenseOptions{})
		}, `"d.weight" is used twice`},
	} {
		if _, err := Collect(b, Options{}, c.build); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q in it", c.name, err, c.want)
		}
	}
	w := NewWeights()
	w.Add(&Tensor{Name: "a", Shape: []int{2}, Data: make([]float32, 2)})
	if _, err := NewProgram(b, ProgramOptions{Weights: w, Trainable: []string{"b"}}); err == nil {
		t.Error("a trainable name that the weights lack is taken")
	}
	for name, add := range map[string]*Tensor{
		"name twice": {Name: "a", Shape: []int{1}, Data: make([]float32, 1)},
		"few values": {Name: "c", Shape: []int{3}, Data: make([]float32, 2)},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: Add takes it", name)
				}
			}()
			w.Add(add)
		}()
	}
}

// TestTape: what is recorded follows what is trainable, in the order of the
// model, and the specs are all there.
func TestTape(t *testing.T) {
	b := backendtest.Open(t, "go")
	var tape []*Layer
	specs, err := Collect(b, Options{Trainable: func(name string) bool {
		return name == "norm.bias" || strings.HasPrefix(name, "table.") || name == "conv.weight"
	}}, func(s *Scope) {
		x := graph.Zeros(s.Graph(), float32Shape(2, 3, 3, 4))
		x = GroupNorm(s.In("norm"), x, 2, 1e-5)
		x = Conv2D(s.In("conv"), x, 6, Conv{3, 2, [2]int{1, 1}}, ConvOptions{})
		Dense(s.In("dense"), x, 2, DenseOptions{})
		Embed(s.In("table"), graph.Const(s.Graph(), []int32{1, 0}), 5, 3)
		tape = s.Tape()
		for _, l := range tape {
			in := l.Input().Shape().Dimensions
			width := Spec{Shape: l.WeightShape[:len(l.WeightShape)-1]}.Size()
			if l.Kind == ScaleShift {
				width = l.WeightShape[0]
			}
			if in[0] != 2 || in[len(in)-1] != width {
				t.Errorf("input of %s is %v, want 2 rows of %d", l.Path, in, width)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	var names, owned []string
	for _, s := range specs {
		names = append(names, s.Name)
	}
	if got, want := strings.Join(names, " "), "norm.weight norm.bias conv.weight conv.bias dense.weight dense.bias table.weight"; got != want {
		t.Errorf("specs are %s, want %s", got, want)
	}
	for _, l := range tape {
		owned = append(owned, l.Path, l.Weight, l.Bias)
	}
	if got, want := strings.Join(owned, ","), "norm,,norm.bias,conv,conv.weight,,table,table.weight,"; got != want {
		t.Errorf("tape is %s, want %s", got, want)
	}
}

func TestWeightsFlatten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := NewWeights()
		sizes := rapid.SliceOfN(rapid.IntRange(0, 4), 1, 5).Draw(t, "sizes")
		at := float32(0)
		for i, n := range sizes {
			x := &Tensor{Name: string(rune('a' + i)), Shape: []int{n}, Data: make([]float32, n)}
			for k := range x.Data {
				x.Data[k] = at
				at++
			}
			w.Add(x)
		}
		names := rapid.Permutation(w.Names()).Draw(t, "order")
		names = names[:rapid.IntRange(1, len(names)).Draw(t, "taken")]
		c := w.Clone()
		flat := w.Flatten(names)
		for _, name := range names {
			for k := range c.Get(name).Data {
				c.Get(name).Data[k] = -1
			}
		}
		c.SetFlat(names, flat)
		for i, x := range c.All() {
			if !slices.Equal(x.Data, w.All()[i].Data) {
				t.Fatalf("%s is %v, want %v", x.Name, x.Data, w.All()[i].Data)
			}
		}
	})
}

// TestInit: fan-in keeps the variance of a product's output near one.
func TestInit(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		spec     Spec
		variance float64
	}{
		{Spec{Shape: []int{400, 300}, Init: InitFanIn}, 1.0 / 400},
		{Spec{Shape: []int{3, 3, 40, 100}, Init: InitFanIn}, 1.0 / 360},
		{Spec{Shape: []int{100, 300}, Init: InitNormal}, 1},
		{Spec{Shape: []int{100}, Init: InitOnes}, 1},
		{Spec{Shape: []int{100}, Init: InitZeros}, 0},
	} {
		x := NewTensor(c.spec, rng)
		square := 0.0
		for _, v := range x.Data {
			square += float64(v) * float64(v) / float64(len(x.Data))
		}
		if d := square - c.variance; d > 0.05*c.variance || d < -0.05*c.variance { // 5 standard errors of 20000 draws.
			t.Errorf("%v has variance %g, want %g", c.spec.Shape, square, c.variance)
		}
	}
}
