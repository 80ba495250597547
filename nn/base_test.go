package nn

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/backendtest"
)

// halfModel has each kind of layer, with positions enough for convolutions on
// every lowering's own way.
func halfModel(s *Scope, x *graph.Node) *graph.Node {
	x = SiLU(GroupNorm(s.In("norm"), Conv2D(s.In("conv"), x, 8, Same(3), ConvOptions{}), 2, 1e-5))
	x = Conv2D(s.In("down"), x, 8, Conv{Kernel: 3, Stride: 2, Pad: [2]int{1, 1}}, ConvOptions{})
	h := Dense(s.In("one"), x, 16, DenseOptions{})
	return Dense(s.In("two"), SiLU(h), 4, DenseOptions{})
}

func halfWeights(t *testing.T, b compute.Backend) *Weights {
	t.Helper()
	specs, err := Collect(b, Options{}, func(s *Scope) { halfModel(s, graph.Zeros(s.Graph(), float32Shape(1, 8, 8, 3))) })
	if err != nil {
		t.Fatal(err)
	}
	return InitWeights(specs, rand.New(rand.NewPCG(3, 4)))
}

// halfOutputs returns the model's output, and the gradients of its square by the
// input and the trainable parameters.
func halfOutputs(t *testing.T, b compute.Backend, w *Weights, trainable []string, base *Base) [][]float32 {
	t.Helper()
	l := LoweringFor("xla")
	if b == backendtest.Open(t, "go") {
		l = Patches
	}
	p, err := NewProgram(b, ProgramOptions{NN: Options{Lowering: l}, Weights: w, Trainable: trainable, Base: base,
		Build: func(s *Scope, trainable, in []*graph.Node) []*graph.Node {
			y := halfModel(s, in[0])
			return append([]*graph.Node{y}, graph.Gradient(graph.ReduceAllSum(graph.Square(y)), append(slices.Clone(trainable), in[0])...)...)
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	vector, err := p.Vector(w.Flatten(trainable))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = vector.FinalizeAll() }()
	out, err := p.Run(vector, values(7, 2, 8, 8, 3).tensor())
	if err != nil {
		t.Fatal(err)
	}
	var all [][]float32
	for _, o := range out {
		all = append(all, tensors.MustCopyFlatData[float32](o))
	}
	return all
}

// TestHalfBase: frozen weights in bfloat16 give what the same weights, rounded,
// give in float32: outputs and gradients. The trainable ones, vectors among
// them, are not rounded.
func TestHalfBase(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		trainable := []string{"one.weight", "one.bias", "norm.weight"}
		w := halfWeights(t, b)
		before := w.Clone()
		base, err := NewBase(b, w, trainable, BaseOptions{Precision: BFloat16, Release: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range w.All() {
			if slices.Contains(trainable, x.Name) != (x.Data != nil) {
				t.Errorf("%s: on the host: %t while the base is on the device", x.Name, x.Data != nil)
			}
			if x.Size() != before.Get(x.Name).Size() {
				t.Errorf("%s: size is %d", x.Name, x.Size())
			}
		}
		got := halfOutputs(t, b, w, trainable, base)
		if again := halfOutputs(t, b, w, trainable, base); !slices.Equal(again[0], got[0]) {
			t.Error("a second program on the same base gives something else")
		}
		base.Close()
		rounded := 0
		for _, x := range w.All() {
			old := before.Get(x.Name)
			for i, v := range x.Data {
				half := !slices.Contains(trainable, x.Name) && (x.Kind == KindDense || x.Kind == KindKernel)
				switch d := math.Abs(float64(v - old.Data[i])); {
				case !half && d != 0:
					t.Fatalf("%s: value %d changed from %g to %g", x.Name, i, old.Data[i], v)
				case d > math.Abs(float64(old.Data[i]))/256: // Half a step of 8 bits.
					t.Fatalf("%s: value %d is %g, want %g rounded", x.Name, i, v, old.Data[i])
				case d > 0:
					rounded++
				}
			}
			if len(x.Data) != old.Size() {
				t.Errorf("%s has %d values back, want %d", x.Name, len(x.Data), old.Size())
			}
		}
		if rounded == 0 {
			t.Error("nothing was rounded")
		}
		want := halfOutputs(t, b, w, trainable, nil)
		for i := range want {
			for j, v := range want[i] {
				if d := math.Abs(float64(got[i][j] - v)); !(d <= 1e-5*(1+math.Abs(float64(v)))) { // Another order of sums.
					t.Fatalf("output %d: value %d is %g, want %g", i, j, got[i][j], v)
				}
			}
		}
		exact := halfOutputs(t, b, before, trainable, nil)
		if slices.Equal(exact[0], want[0]) {
			t.Error("rounding changed no output")
		}
	})
}

// TestReleasedBase: without rounding the host gets the very same values back.
func TestReleasedBase(t *testing.T) {
	b := backendtest.Open(t, "go")
	w := halfWeights(t, b)
	before := w.Clone()
	base, err := NewBase(b, w, nil, BaseOptions{Release: true})
	if err != nil {
		t.Fatal(err)
	}
	base.Close()
	for _, x := range w.All() {
		if !slices.Equal(x.Data, before.Get(x.Name).Data) {
			t.Errorf("%s came back changed", x.Name)
		}
	}
	if _, err := NewBase(b, w, nil, BaseOptions{Precision: "float16"}); err == nil {
		t.Error("float16 is taken")
	}
}

// TestRoundBFloat16: to nearest, ties to even, as the definition says.
func TestRoundBFloat16(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.OneOf(rapid.Float32Range(-3e38, 3e38), rapid.Just(float32(math.NaN()))).Draw(t, "value") // Above, IEEE rounds to infinity, as we do.
		data := roundBFloat16([]float32{v})
		got := math.Float32frombits(uint32(data[0])<<16 | uint32(data[1])<<24)
		if v != v {
			if got == got {
				t.Fatalf("NaN becomes %g", got)
			}
			return
		}
		bits := math.Float32bits(v)
		low, high := math.Float32frombits(bits&^0xffff), math.Float32frombits(bits&^0xffff+0x10000)
		down, up := math.Abs(float64(v)-float64(low)), math.Abs(float64(high)-float64(v))
		want := low
		if up < down || up == down && bits&0x10000 != 0 {
			want = high
		}
		if got != want {
			t.Fatalf("%g becomes %g, want %g (of %g and %g)", v, got, want, low, high)
		}
	})
}
