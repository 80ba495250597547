package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/internal/backendtest"
)

// causalOracle is attentionOracle for one position after the other, each over
// those up to it.
func causalOracle(q, k, v host, heads int) host {
	y := newHost(q.dims...)
	upTo := func(x host, r, n int) host {
		part := newHost(1, n, x.dims[2])
		copy(part.data, x.data[r*x.dims[1]*x.dims[2]:])
		return part
	}
	for r := range q.dims[0] {
		for i := range q.dims[1] {
			one := newHost(1, 1, q.dims[2])
			at := (r*q.dims[1] + i) * q.dims[2]
			copy(one.data, q.data[at:])
			copy(y.data[at:], attentionOracle(one, upTo(k, r, i+1), upTo(v, r, i+1), heads).data)
		}
	}
	return y
}

// drawnCase draws a layer of transformers with a random shape.
func drawnCase(rng *rand.Rand) layerCase {
	rows, heads := 1+rng.IntN(3), 1+rng.IntN(3)
	channels, n, m := heads*(1+rng.IntN(4)), 1+rng.IntN(6), 1+rng.IntN(6)
	entries, wide := 1+rng.IntN(7), 1+rng.IntN(5)
	shape := fmt.Sprintf("%d rows, %d of %d positions, %d channels, %d heads", rows, n, m, channels, heads)
	index := func(g *graph.Graph) *graph.Node { // Entries repeat.
		places := graph.Iota(g, shapes.Make(dtypes.Int32, rows, n), 1)
		return graph.Mod(graph.Mul(places, places), graph.Const(g, int32(entries)))
	}
	self := [][]int{{rows, n, channels}, {rows, n, channels}, {rows, n, channels}}
	switch rng.IntN(6) {
	case 0:
		return layerCase{"attention, " + shape, [][]int{{rows, n, channels}, {rows, m, channels}, {rows, m, channels}},
			func(_ *Scope, in []*graph.Node) *graph.Node { return Attention(in[0], in[1], in[2], heads) },
			func(in []host, _ map[string]host) host { return attentionOracle(in[0], in[1], in[2], heads) }}
	case 1:
		return layerCase{"causal attention, " + shape, self,
			func(_ *Scope, in []*graph.Node) *graph.Node { return CausalAttention(in[0], in[1], in[2], heads) },
			func(in []host, _ map[string]host) host { return causalOracle(in[0], in[1], in[2], heads) }}
	case 2:
		return layerCase{fmt.Sprintf("table of %d, %s", entries, shape), self[:1],
			func(s *Scope, in []*graph.Node) *graph.Node {
				return graph.Mul(in[0], Lookup(s, index(s.Graph()), entries, channels))
			},
			func(in []host, p map[string]host) host {
				y := newHost(in[0].dims...)
				for i, v := range in[0].data {
					place := i / channels % n
					y.data[i] = v * p["weight"].data[place*place%entries*channels+i%channels]
				}
				return y
			}}
	case 3:
		return layerCase{"positions, " + shape, self[:1],
			func(s *Scope, in []*graph.Node) *graph.Node { return Positions(s, in[0], n+entries) },
			func(in []host, p map[string]host) host {
				y := newHost(in[0].dims...)
				for i, v := range in[0].data {
					y.data[i] = v + p["weight"].data[i%(n*channels)]
				}
				return y
			}}
	case 4:
		return layerCase{"quick gelu, " + shape, self[:1],
			func(_ *Scope, in []*graph.Node) *graph.Node { return QuickGELU(in[0]) },
			pointwise(func(x float64) float64 { return x / (1 + math.Exp(-1.702*x)) })}
	}
	// The gated network of Stable Diffusion's transformers: value ∘ GELU(gate).
	return layerCase{fmt.Sprintf("gated by %d, %s", wide, shape), self[:1],
		func(s *Scope, in []*graph.Node) *graph.Node {
			h := Dense(s.In("proj"), in[0], 2*wide, DenseOptions{})
			half := func(from int) *graph.Node {
				return graph.Slice(h, graph.AxisRange().Spacer(), graph.AxisRange(from, from+wide))
			}
			return graph.Mul(half(0), GELU(half(wide)))
		},
		func(in []host, p map[string]host) host {
			bias := p["proj.bias"]
			h := linearOracle(in[0], p["proj.weight"], &bias)
			y := newHost(rows, n, wide)
			for i := range y.data {
				value, gate := h.data[i/wide*2*wide+i%wide], h.data[i/wide*2*wide+wide+i%wide]
				y.data[i] = value * gate * 0.5 * (1 + math.Erf(gate/math.Sqrt2))
			}
			return y
		}}
}

// TestShapesAgainstLoops: layers of transformers, of any shape, are what plain
// loops say, and so are their gradients.
func TestShapesAgainstLoops(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	b := backendtest.Open(t, "go")
	for i := range 40 {
		c := drawnCase(rng)
		l := []Lowering{Patches, Native}[i%2]
		t.Run(c.name, func(t *testing.T) { c.check(t, b, l) })
	}
}
