package dpsgd

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// drawProblem draws a small network, a trainable set and data.
func drawProblem(t *rapid.T, tb testing.TB) *problem {
	p := &problem{
		height: rapid.IntRange(1, 5).Draw(t, "height"), width: rapid.IntRange(1, 5).Draw(t, "width"),
		channels: 2 * rapid.IntRange(1, 3).Draw(t, "channels/2"),
		draws:    rapid.IntRange(1, 3).Draw(t, "draws"),
		seed:     rapid.Uint64().Draw(t, "seed"),
		change:   map[int]func([]float32){},
	}
	kinds := []string{"conv", "conv", "dense", "group norm", "layer norm", "self-attention", "cross-attention", "class", "lookup", "positions", "causal attention", "silu", "gelu", "upsample"}
	blocks := rapid.SliceOfN(rapid.SampledFrom(kinds), 1, 5).Draw(t, "blocks")
	type geometry struct {
		out, heads int
		conv       nn.Conv
		bias       bool
	}
	plan := make([]geometry, len(blocks))
	for i := range plan {
		k := rapid.SampledFrom([]int{1, 3, 5}).Draw(t, "kernel")
		plan[i] = geometry{
			out: 2 * rapid.IntRange(1, 4).Draw(t, "out/2"), heads: rapid.IntRange(1, 2).Draw(t, "heads"),
			conv: nn.Conv{Kernel: k, Stride: rapid.IntRange(1, 2).Draw(t, "stride"),
				Pad: [2]int{rapid.IntRange(0, k-1).Draw(t, "pad before"), rapid.IntRange(0, k-1).Draw(t, "pad after")}},
			bias: rapid.Bool().Draw(t, "bias"),
		}
	}
	p.forward = func(s *nn.Scope, x, class *graph.Node) *graph.Node {
		for i, kind := range blocks {
			x = block(s.In("block%d", i), x, class, kind, plan[i].out, plan[i].heads, plan[i].conv, plan[i].bias)
		}
		return nn.Dense(s.In("last"), x, 3, nn.DenseOptions{})
	}
	trainable := rapid.SampledFrom([]string{"everything", "some", "one", "linear adapter", "adapter"}).Draw(t, "trainable")
	if strings.HasSuffix(trainable, "adapter") {
		l := &adapter.LoDA{Rank: rapid.IntRange(1, 3).Draw(t, "rank"), Alpha: 2, Core: adapter.NonLinearCore,
			Target: func(nn.Target) bool { return true }}
		if trainable == "linear adapter" {
			l.Core = adapter.LinearCore
		}
		p.adapter = l
	}
	p.build(tb)
	switch trainable {
	case "some":
		n := rapid.IntRange(0, len(p.trainable)-1).Draw(t, "dropped")
		for range n {
			i := rapid.IntRange(0, len(p.trainable)-1).Draw(t, "drop")
			p.trainable = slices.Delete(slices.Clone(p.trainable), i, i+1)
		}
	case "one":
		i := rapid.IntRange(0, len(p.trainable)-1).Draw(t, "only")
		p.trainable = p.trainable[i : i+1]
	case "adapter", "linear adapter":
		p.trainable = slices.DeleteFunc(slices.Clone(p.trainable), func(name string) bool { return !adapter.IsAdapter(name) })
	}
	if rapid.Bool().Draw(t, "backwards") { // The flat vector's order is free.
		p.trainable = slices.Clone(p.trainable)
		slices.Reverse(p.trainable)
	}
	return p
}

// block adds one layer of a kind; x is [rows, height, width, channels].
func block(s *nn.Scope, x, class *graph.Node, kind string, out, heads int, conv nn.Conv, bias bool) *graph.Node {
	d := x.Shape().Dimensions
	flat := graph.Reshape(x, d[0], -1, d[3])
	dense := func(name string, x *graph.Node, out int) *graph.Node {
		return nn.Dense(s.In("%s", name), x, out, nn.DenseOptions{NoBias: !bias})
	}
	switch kind {
	case "conv":
		if conv.Size(d[1]) < 1 || conv.Size(d[2]) < 1 {
			conv = nn.Same(conv.Kernel)
		}
		return nn.Conv2D(s, x, out, conv, nn.ConvOptions{NoBias: !bias})
	case "dense":
		return dense("dense", x, out)
	case "group norm":
		return nn.GroupNorm(s, x, heads, 1e-3)
	case "layer norm":
		return nn.LayerNorm(s, x, 1e-3)
	case "self-attention":
		y := nn.Attention(dense("q", flat, d[3]), dense("k", flat, d[3]), dense("v", flat, d[3]), heads)
		return graph.Add(x, graph.Reshape(dense("out", y, d[3]), d...))
	case "cross-attention":
		tokens := graph.Reshape(nn.Embed(s.In("tokens"), class, classes, heads*3), d[0], heads, 3)
		y := nn.Attention(dense("q", flat, d[3]), dense("k", tokens, d[3]), dense("v", tokens, d[3]), heads)
		return graph.Add(x, graph.Reshape(y, d...))
	case "class":
		return graph.Add(x, graph.Reshape(nn.Embed(s, class, classes, d[3]), d[0], 1, 1, d[3]))
	case "lookup": // Entries repeat within an example, and between its draws.
		places := graph.Iota(s.Graph(), shapes.Make(dtypes.Int32, d[0], d[1]*d[2]), 1)
		index := graph.Mod(graph.Add(graph.Div(places, graph.Const(s.Graph(), int32(2))), graph.ExpandAxes(class, -1)), graph.Const(s.Graph(), int32(classes)))
		return graph.Add(x, graph.Reshape(nn.Lookup(s, index, classes, d[3]), d...))
	case "positions":
		return graph.Reshape(nn.Positions(s, flat, max(30, d[1]*d[2])), d...)
	case "causal attention":
		y := nn.CausalAttention(dense("q", flat, d[3]), dense("k", flat, d[3]), dense("v", flat, d[3]), heads)
		return graph.Add(x, graph.Reshape(dense("out", y, d[3]), d...))
	case "silu":
		return nn.SiLU(x)
	case "gelu":
		return nn.GELU(x)
	case "upsample":
		return nn.Upsample2(x)
	}
	panic("no kind " + kind)
}

// rounding is the float32 noise of a gradient whose true value is zero, such as
// that of a bias before a group norm; losses are of order one.
const rounding = 3e-6

// TestEnginesAgree is the main property: on random networks, trainable sets,
// draws and batches the book-keeping engine on hand-written gradients and the
// per-example loop on GoMLX's own agree, and the rest of what clipping promises
// holds.
func TestEnginesAgree(t *testing.T) {
	b := backendtest.Open(t, "go")
	rapid.Check(t, func(rt *rapid.T) {
		p := drawProblem(rt, t)
		n := rapid.IntRange(1, 5).Draw(rt, "examples")
		p.clip = 1
		oracle := p.engine(t, b, nn.Native, loop)
		norms := p.norms(t, oracle, n, p.fetch)
		p.clip = max(1e-3, median(norms)) // About half are clipped.
		oracle = p.engine(t, b, nn.Native, loop)
		want, stats := p.sum(t, oracle, n, p.fetch)

		for _, rule := range []Rule{"", Ghost, Explicit} {
			e := p.engine(t, b, nn.Patches, func(o *EngineOptions) {
				o.rule = rule
				o.PhysicalBatchSize = rapid.IntRange(1, 4).Draw(rt, "physical batch")
				o.Workers = rapid.IntRange(1, 3).Draw(rt, "workers")
			})
			got, gotStats := p.sum(t, e, n, p.fetch)
			if err := checkNear(fmt.Sprintf("sum by rule %q", rule), got, want, 1e-4, rounding/1e-4); err != nil {
				rt.Error(err)
			}
			// A norm within rounding of the clipping norm may count either way.
			if d := gotStats.Clipped - stats.Clipped; d < -1 || d > 1 || gotStats.Examples != n || gotStats.NonFinite != 0 {
				rt.Errorf("stats are %+v, want %+v", gotStats, stats)
			}
			if rule == "" {
				for i, got := range p.norms(t, e, n, p.fetch) {
					if !(math.Abs(got-norms[i]) <= 1e-4*norms[i]+rounding) {
						rt.Errorf("norm %d is %g, want %g", i, got, norms[i])
					}
				}
			}
		}
		for _, rule := range []Rule{"", PixelGram} {
			small := p.engine(t, b, nn.Small, func(o *EngineOptions) { o.rule = rule })
			got, _ := p.sum(t, small, n, p.fetch)
			if err := checkNear(fmt.Sprintf("sum in XLA's formulation by rule %q", rule), got, want, 1e-4, rounding/1e-4); err != nil {
				rt.Error(err)
			}
		}
	})
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// TestSensitivity: whatever one example holds, NaN, infinities and huge values
// included, it moves the clipped sum by at most the clipping norm, and leaves
// the others' part as it was.
func TestSensitivity(t *testing.T) {
	b := backendtest.Open(t, "go")
	rapid.Check(t, func(rt *rapid.T) {
		p := drawProblem(rt, t)
		p.clip = rapid.SampledFrom([]float64{1e-6, 0.1, 1, 1e4}).Draw(rt, "clipping norm")
		n := rapid.IntRange(1, 5).Draw(rt, "examples")
		one := rapid.IntRange(0, n-1).Draw(rt, "example")
		p.change[one] = drawChange(rt)
		for _, method := range []Method{BookKeeping, PerExampleLoop} {
			e := p.engine(t, b, nn.Patches, func(o *EngineOptions) { o.Method = method })
			if err := checkSensitivity(p, t, e, n, one); err != nil {
				rt.Errorf("%s: %v", method, err)
			}
		}
	})
}

func drawChange(t *rapid.T) func(x []float32) {
	value := rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat32, 1e20, 1e6, 1e-30, 0}).Draw(t, "value")
	everywhere := rapid.Bool().Draw(t, "everywhere")
	return func(x []float32) {
		x[len(x)/2] = float32(value)
		if everywhere {
			for i := range x {
				x[i] = float32(value)
			}
		}
	}
}

// checkSensitivity returns an error if example one alone exceeds the clipping
// norm, if it moves the sum of n by more, or if a sum is not finite.
func checkSensitivity(p *problem, t testing.TB, e *Engine, n, one int) error {
	with, _ := p.sum(t, e, n, p.fetch)
	without, _ := p.sum(t, e, n-1, p.without(one))
	alone, _ := p.sum(t, e, 1, func(positions []int, size int) ([]*tensors.Tensor, error) {
		for i := range positions {
			positions[i] = one
		}
		return p.fetch(positions, size)
	})
	slack := 1e-6 * float64(n) * p.clip // Rounding of float32 sums over the batch.
	if got := norm(alone); !(got <= p.clip*(1+roundingSlack)) {
		return fmt.Errorf("example alone contributes %g, want at most %g", got, p.clip)
	}
	if got := norm(minus(with, without)); !(got <= p.clip*(1+roundingSlack)+slack) {
		return fmt.Errorf("example moves the sum by %g, want at most %g", got, p.clip)
	}
	if got := norm(with); !(got <= float64(n)*p.clip*(1+roundingSlack)) {
		return fmt.Errorf("sum of %d has norm %g, want at most %g", n, got, float64(n)*p.clip)
	}
	// The change is the example's own contribution: no one else's was touched.
	return checkNear("change of the sum", minus(with, without), alone, 1e-4, float64(n)*p.clip)
}

// TestCancellingPositions: an example whose positions nearly cancel has a
// gradient far smaller than its parts, which a ghost norm cannot tell from zero.
func TestCancellingPositions(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, size := range []float32{1, 1e2, 1e4} {
		for _, rule := range []Rule{Ghost, Explicit} {
			p := &problem{height: 1, width: 16, channels: 8, draws: 1, clip: 1e-3, seed: 1}
			p.forward = func(s *nn.Scope, x, _ *graph.Node) *graph.Node {
				y := nn.Dense(s, x, 6, nn.DenseOptions{NoBias: true})
				sign := graph.Const(s.Graph(), [][][][]float32{{{{1}, {-1}, {1}, {-1}, {1}, {-1}, {1}, {-1}, {1}, {-1}, {1}, {-1}, {1}, {-1}, {1}, {-1}}}})
				return graph.MulScalar(graph.Mul(y, sign), 1e-3)
			}
			p.change = map[int]func([]float32){0: func(x []float32) {
				for i := range x {
					x[i] = size * float32(math.Sin(float64(i%8))) * (1 + 1e-6*float32(i/8))
				}
			}}
			p.build(t)
			fetch := func(positions []int, n int) ([]*tensors.Tensor, error) {
				in, err := p.fetch(positions, n)
				if err == nil {
					in[1] = tensors.FromFlatDataAndDimensions(make([]float32, n*16*8), n, 1, 16, 8)
				}
				return in, err
			}
			e := p.engine(t, b, nn.Patches, func(o *EngineOptions) { o.rule = rule })
			got, _ := p.sum(t, e, 1, fetch)
			if norm(got) > p.clip*(1+roundingSlack) {
				t.Errorf("size %g, rule %s: contribution is %g, want at most %g", size, rule, norm(got), p.clip)
			}
		}
	}
}

// TestEqualDrawsAreOneDraw: K equal draws are averaged before the one clip.
func TestEqualDrawsAreOneDraw(t *testing.T) {
	b := backendtest.Open(t, "go")
	rapid.Check(t, func(rt *rapid.T) {
		p := drawProblem(rt, t)
		p.clip, p.sameDraws, p.draws = rapid.SampledFrom([]float64{0.01, 100}).Draw(rt, "clip"), true, 1
		want, _ := p.sum(t, p.engine(t, b, nn.Patches, nil), 3, p.fetch)
		p.draws = rapid.IntRange(2, 4).Draw(rt, "K")
		got, _ := p.sum(t, p.engine(t, b, nn.Patches, nil), 3, p.fetch)
		if err := checkNear(fmt.Sprintf("%d equal draws", p.draws), got, want, 1e-4, p.clip); err != nil {
			rt.Error(err)
		}
	})
}

// TestSplitsAgree: physical batch and workers change nothing but rounding, and
// for one physical batch workers change nothing at all.
func TestSplitsAgree(t *testing.T) {
	b := backendtest.Open(t, "go")
	p := convolutions(t)
	want, _ := p.sum(t, p.engine(t, b, nn.Patches, loop), 11, p.fetch)
	for _, size := range []int{1, 2, 4, 7, 16} {
		var first []float64
		for _, workers := range []int{1, 2, 4} {
			e := p.engine(t, b, nn.Patches, func(o *EngineOptions) { o.PhysicalBatchSize, o.Workers = size, workers })
			got, _ := p.sum(t, e, 11, p.fetch)
			if first == nil {
				first = got
			}
			if !slices.Equal(got, first) {
				t.Errorf("physical batch %d: %d workers change the sum", size, workers)
			}
			if err := checkNear(fmt.Sprintf("physical batch %d", size), got, want, 1e-4, p.clip); err != nil {
				t.Error(err)
			}
		}
	}
}

// convolutions is a fixed problem of the layers of a UNet.
func convolutions(t testing.TB) *problem {
	p := &problem{height: 4, width: 3, channels: 4, draws: 2, seed: 3, clip: 0.05}
	p.forward = func(s *nn.Scope, x, class *graph.Node) *graph.Node {
		x = nn.Conv2D(s.In("first"), x, 8, nn.Same(3), nn.ConvOptions{})
		x = nn.SiLU(nn.GroupNorm(s.In("norm"), x, 2, 1e-5))
		x = block(s.In("class"), x, class, "class", 0, 0, nn.Conv{}, false)
		x = block(s.In("attention"), x, class, "self-attention", 0, 2, nn.Conv{}, true)
		return nn.Conv2D(s.In("last"), x, 4, nn.Conv{Kernel: 3, Stride: 2, Pad: [2]int{0, 1}}, nn.ConvOptions{})
	}
	p.build(t)
	return p
}

// TestLargeMaps: gradients by example of convolutions whose maps are large enough
// for Winograd's basis.
func TestLargeMaps(t *testing.T) {
	b := backendtest.Open(t, "go")
	p := &problem{height: 16, width: 20, channels: 2, draws: 2, seed: 5, clip: 1}
	p.forward = func(s *nn.Scope, x, _ *graph.Node) *graph.Node {
		x = nn.SiLU(nn.Conv2D(s.In("first"), x, 3, nn.Same(3), nn.ConvOptions{}))
		return nn.Conv2D(s.In("last"), x, 4, nn.Same(3), nn.ConvOptions{})
	}
	p.build(t)
	p.clip = median(p.norms(t, p.engine(t, b, nn.Native, loop), 5, p.fetch))
	want, _ := p.sum(t, p.engine(t, b, nn.Native, loop), 5, p.fetch)
	for _, rule := range []Rule{"", Explicit, Ghost, PixelGram} {
		e := p.engine(t, b, nn.Small, func(o *EngineOptions) { o.rule = rule })
		got, _ := p.sum(t, e, 5, p.fetch)
		if err := checkNear(fmt.Sprintf("sum by rule %q", rule), got, want, 1e-5, rounding/1e-5); err != nil {
			t.Error(err)
		}
	}
}

// TestWideMaps: convolutions that XLA computes in Winograd's basis forward and back, too. What one
// example holds moves the sum by at most the clipping norm there as well.
func TestWideMaps(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, size := range []int{16, 8} { // The second has so few tiles that only kernels that come in the basis are worth it.
		t.Run(fmt.Sprintf("%dx%d", size, size), func(t *testing.T) { checkWideMaps(t, b, size) })
	}
}

func checkWideMaps(t *testing.T, b compute.Backend, size int) {
	p := &problem{height: size, width: size, channels: 32, draws: 2, seed: 6, clip: 1, change: map[int]func([]float32){}}
	p.forward = func(s *nn.Scope, x, _ *graph.Node) *graph.Node {
		x = nn.SiLU(nn.Conv2D(s.In("first"), x, 32, nn.Same(3), nn.ConvOptions{}))
		return nn.Conv2D(s.In("last"), x, 36, nn.Same(3), nn.ConvOptions{})
	}
	p.build(t)
	oracle := p.engine(t, b, nn.Native, loop)
	norms := p.norms(t, oracle, 3, p.fetch)
	p.clip = median(norms)
	want, _ := p.sum(t, p.engine(t, b, nn.Native, loop), 3, p.fetch)
	for _, method := range []Method{BookKeeping, PerExampleLoop} {
		for _, rule := range []Rule{"", Explicit, Ghost, PixelGram} {
			if method == PerExampleLoop && rule != "" {
				continue
			}
			p.change[1] = nil
			e := p.engine(t, b, nn.Small, func(o *EngineOptions) { o.Method, o.rule = method, rule })
			got, _ := p.sum(t, e, 3, p.fetch)
			if err := checkNear(fmt.Sprintf("%s: sum by rule %q", method, rule), got, want, 1e-4, rounding/1e-4); err != nil {
				t.Error(err)
			}
			for _, value := range []float64{math.NaN(), math.Inf(1), math.MaxFloat32, 1e20, 1e6, 0} {
				p.change[1] = func(x []float32) {
					for i := range x {
						x[i] = float32(value)
					}
				}
				if err := checkSensitivity(p, t, e, 3, 1); err != nil {
					t.Errorf("%s by rule %q, all %g: %v", method, rule, value, err)
				}
			}
		}
	}
}

func TestEmptyBatch(t *testing.T) {
	b := backendtest.Open(t, "go")
	p := convolutions(t)
	refuse := func([]int, int) ([]*tensors.Tensor, error) { return nil, errors.New("read data") }
	got, stats := p.sum(t, p.engine(t, b, nn.Patches, nil), 0, refuse)
	if norm(got) != 0 || stats != (Stats{}) || len(got) != p.weights.Size() {
		t.Errorf("empty batch gives norm %g, %d values and %+v, want zeros", norm(got), len(got), stats)
	}
}
