package adapter

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// model is a dense layer after two convolutions, one strided.
func model(s *nn.Scope, x *graph.Node) *graph.Node {
	x = nn.Conv2D(s.In("mid.conv1"), x, 4, nn.Same(3), nn.ConvOptions{})
	x = nn.SiLU(nn.Conv2D(s.In("mid.conv2"), x, 6, nn.Conv{Kernel: 3, Stride: 2, Pad: [2]int{0, 1}}, nn.ConvOptions{}))
	x = nn.Conv2D(s.In("end.conv_shortcut"), x, 5, nn.Same(1), nn.ConvOptions{})
	return nn.Dense(s.In("end.to_q"), x, 3, nn.DenseOptions{})
}

const size = 4

func collect(t *testing.T, b compute.Backend, a nn.Adapter) []nn.Spec {
	t.Helper()
	specs, err := nn.Collect(b, nn.Options{Adapter: a}, func(s *nn.Scope) {
		model(s, graph.Const(s.Graph(), make3d(1)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return specs
}

func make3d(rows int) [][][][]float32 {
	rng := rand.New(rand.NewPCG(5, 5))
	x := make([][][][]float32, rows)
	for n := range x {
		x[n] = make([][][]float32, size)
		for i := range x[n] {
			x[n][i] = make([][]float32, size)
			for j := range x[n][i] {
				x[n][i][j] = []float32{float32(rng.NormFloat64()), float32(rng.NormFloat64())}
			}
		}
	}
	return x
}

func output(t *testing.T, b compute.Backend, w *nn.Weights, a nn.Adapter, l nn.Lowering) []float32 {
	t.Helper()
	p, err := nn.NewProgram(b, nn.ProgramOptions{NN: nn.Options{Adapter: a, Lowering: l}, Weights: w,
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node { return []*graph.Node{model(s, in[0])} }})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out, err := p.Run(nil, tensors.MustFromAnyValue(make3d(2)))
	if err != nil {
		t.Fatal(err)
	}
	return tensors.MustCopyFlatData[float32](out[0])
}

func everything(nn.Target) bool { return true }

// TestFreshAdapterChangesNothing: not one bit.
func TestFreshAdapterChangesNothing(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, core := range []Core{LinearCore, NonLinearCore, ""} {
		for _, l := range []nn.Lowering{nn.Native, nn.Patches} {
			a := &LoDA{Rank: 2, Alpha: 3, Core: core, Target: everything}
			w := nn.InitWeights(collect(t, b, a), rand.New(rand.NewPCG(1, 1)))
			if got, want := output(t, b, w, a, l), output(t, b, w, nil, l); !slices.Equal(got, want) {
				t.Errorf("core %q: fresh adapter changes the output", core)
			}
		}
	}
}

// reference returns a·b scaled: [n, k], [k, m].
func reference(a, b *nn.Tensor, scale float64) []float32 {
	k, m := b.Shape[len(b.Shape)-2], b.Shape[len(b.Shape)-1]
	n := len(a.Data) / k
	out := make([]float32, n*m)
	for i := range n {
		for j := range m {
			sum := 0.0
			for x := range k {
				sum += float64(a.Data[i*k+x]) * float64(b.Data[x*m+j])
			}
			out[i*m+j] = float32(scale * sum)
		}
	}
	return out
}

// TestLinearCoreIsLoRA: adding alpha/rank·A·B to each layer's weight gives the
// output of the branches.
func TestLinearCoreIsLoRA(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, alpha := range []float64{0, 2, 5} {
		a := &LoDA{Rank: 2, Alpha: alpha, Core: LinearCore, Target: everything}
		w := filled(collect(t, b, a))
		got := output(t, b, w, a, nn.Patches)
		scale := alpha / 2
		if alpha == 0 {
			scale = 1
		}
		merged := w.Clone()
		branches := 0
		for _, x := range merged.All() {
			path, ok := strings.CutSuffix(x.Name, ".weight")
			if down := w.Get(path + ".lora_A.weight"); ok && down != nil {
				branches++
				for i, v := range reference(down, w.Get(path+".lora_B.weight"), scale) {
					x.Data[i] += v
				}
			}
		}
		if branches != 4 {
			t.Fatalf("%d layers have a branch, want 4", branches)
		}
		near(t, got, output(t, b, merged, nil, nn.Native))
	}
}

// filled gives every parameter random values, so that branches do something.
func filled(specs []nn.Spec) *nn.Weights {
	for i := range specs {
		specs[i].Init = nn.InitFanIn
	}
	return nn.InitWeights(specs, rand.New(rand.NewPCG(2, 2)))
}

func near(t *testing.T, got, want []float32) {
	t.Helper()
	for i := range want {
		if d := math.Abs(float64(got[i] - want[i])); !(d <= 1e-4) {
			t.Fatalf("entry %d is %g, want %g", i, got[i], want[i])
		}
	}
}

// TestNonLinearCore: one dense layer against y + alpha/rank·B·(z + V·SiLU(U·z)).
func TestNonLinearCore(t *testing.T) {
	b := backendtest.Open(t, "go")
	a := &LoDA{Rank: 2, Alpha: 3, Target: everything}
	forward := func(s *nn.Scope, x *graph.Node) *graph.Node { return nn.Dense(s.In("d"), x, 3, nn.DenseOptions{}) }
	specs, err := nn.Collect(b, nn.Options{Adapter: a}, func(s *nn.Scope) { forward(s, graph.Const(s.Graph(), [][]float32{{1, 2}})) })
	if err != nil {
		t.Fatal(err)
	}
	w := filled(specs)
	p, err := nn.NewProgram(b, nn.ProgramOptions{NN: nn.Options{Adapter: a, Lowering: nn.Patches}, Weights: w,
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node { return []*graph.Node{forward(s, in[0])} }})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out, err := p.Run(nil, tensors.MustFromAnyValue([][]float32{{0.7, -1.2}}))
	if err != nil {
		t.Fatal(err)
	}
	apply := func(x []float64, name string) []float64 {
		m := w.Get(name)
		y := make([]float64, m.Shape[1])
		for i, v := range x {
			for j := range y {
				y[j] += v * float64(m.Data[i*m.Shape[1]+j])
			}
		}
		return y
	}
	x := []float64{0.7, -1.2}
	z := apply(x, "d.lora_A.weight")
	u := apply(z, "d.loda_U.weight")
	for i := range u {
		u[i] /= 1 + math.Exp(-u[i])
	}
	for i, v := range apply(u, "d.loda_V.weight") {
		z[i] += v
	}
	want := make([]float32, 3)
	branch, y := apply(z, "d.lora_B.weight"), apply(x, "d.weight")
	for i := range want {
		want[i] = float32(y[i] + float64(w.Get("d.bias").Data[i]) + 1.5*branch[i])
	}
	near(t, tensors.MustCopyFlatData[float32](out[0]), want)
}

func TestTargets(t *testing.T) {
	conv := func(path string, k int) nn.Target { return nn.Target{Path: path, Conv: &nn.Conv{Kernel: k}} }
	dense := func(path string) nn.Target { return nn.Target{Path: path} }
	for _, c := range []struct {
		name   string
		target func(nn.Target) bool
		layer  nn.Target
		want   bool
	}{
		{"3x3", Convolutions(3), conv("a.conv1", 3), true},
		{"1x1 below the kernel", Convolutions(3), conv("a.conv1", 1), false},
		{"dense is no convolution", Convolutions(1), dense("a.to_q"), false},
		{"prefix", Convolutions(1, "unet.mid"), conv("unet.mid.conv1", 1), true},
		{"prefix of a name only", Convolutions(1, "unet.mid"), conv("unet.middle.conv1", 1), false},
		{"the prefix itself", Convolutions(1, "unet.conv_in"), conv("unet.conv_in", 3), true},
		{"elsewhere", Convolutions(1, "unet.mid", "unet.up"), conv("unet.down.conv1", 3), false},
		{"suffix", DenseLayers("to_q", "to_out.0"), dense("x.attn1.to_out.0"), true},
		{"all of the name", DenseLayers("to_q"), dense("to_q"), true},
		{"part of a suffix", DenseLayers("to_q"), dense("x.into_q"), false},
		{"convolution is not dense", DenseLayers("to_q"), conv("x.to_q", 1), false},
	} {
		if got := c.target(c.layer); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestTrainableSets(t *testing.T) {
	b := backendtest.Open(t, "go")
	a := &LoDA{Rank: 1, Target: Convolutions(3, "mid")}
	specs := collect(t, b, a)
	branch := []string{"lora_A", "loda_U", "loda_V", "lora_B"}
	var want []string
	for _, conv := range []string{"mid.conv1.", "mid.conv2."} {
		for _, part := range branch {
			want = append(want, conv+part+".weight")
		}
	}
	if got := Adapters(specs); !slices.Equal(got, want) {
		t.Errorf("adapters are %v, want %v", got, want)
	}
	if got := Everything(specs, "end.to_q"); !slices.Equal(got, []string{"end.to_q.weight", "end.to_q.bias"}) {
		t.Errorf("below end.to_q are %v", got)
	}
	if got := Everything(specs); len(got) != len(specs) {
		t.Errorf("everything is %d of %d", len(got), len(specs))
	}
	modules := []string{"mid.conv1", "mid.conv2", "end.to_q"}
	got, err := Attention(specs, modules, 2, "end.conv_shortcut")
	if err != nil || !slices.Equal(got, []string{"end.conv_shortcut.weight", "end.conv_shortcut.bias", "end.to_q.weight", "end.to_q.bias"}) {
		t.Errorf("from module 2 on: %v, %v", got, err)
	}
	for _, first := range []int{-1, 3} {
		if _, err := Attention(specs, modules, first); err == nil {
			t.Errorf("first module %d is taken", first)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, l := range []LoDA{{Rank: 0, Target: everything}, {Rank: 1}, {Rank: 1, Alpha: -1, Target: everything},
		{Rank: 1, Alpha: math.NaN(), Target: everything}, {Rank: 1, Alpha: math.Inf(1), Target: everything}, {Rank: 1, Core: "cubic", Target: everything}} {
		if err := l.Validate(); err == nil {
			t.Errorf("%+v is taken", l)
		}
	}
	c := &Config{Rank: 2, Kernel: 3, Layers: []string{"mid"}}
	a, err := c.Adapter("unet")
	if err != nil {
		t.Fatal(err)
	}
	target := a.(*LoDA).Target
	if !target(nn.Target{Path: "unet.mid.conv1", Conv: &nn.Conv{Kernel: 3}}) || target(nn.Target{Path: "unet.up.conv1", Conv: &nn.Conv{Kernel: 3}}) {
		t.Error("layers of the config are not the targets")
	}
	if _, err := (&Config{}).Adapter("unet"); err == nil {
		t.Error("an empty config is taken")
	}
}
