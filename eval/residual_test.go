package eval

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// The networks have as many weights as their papers say, for CIFAR-10, in
// millions to one decimal: He et al. 2016 table 6, Zagoruyko & Komodakis 2016
// tables 3 and 5, Xie et al. 2017 table 7.
func TestResidualNetworksAreThoseOfThePapers(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, c := range []struct {
		kind     Classifier
		geometry Geometry
		millions float64
	}{
		{WRN, Geometry{Depth: 40, Width: 4}, 8.9},
		{WRN, Geometry{Depth: 40, Width: 1}, 0.6},
		{WRN, Geometry{Depth: 16, Width: 8}, 11.0},
		{WRN, Geometry{Depth: 28, Width: 10}, 36.5},
		{ResNet, Geometry{Depth: 20}, 0.27},
		{ResNet, Geometry{Depth: 110}, 1.7},
		{ResNeXt, Geometry{Depth: 29, Width: 4, Cardinality: 8}, 34.4},
	} {
		g, err := c.kind.geometry(c.geometry)
		if err != nil {
			t.Fatal(err)
		}
		specs, err := nn.Collect(b, nn.Options{}, func(s *nn.Scope) {
			c.kind.network(s, graph.Zeros(s.Graph(), shapes.Make(dtypes.Float32, 1, 32, 32, 3)), 10, g)
		})
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, s := range specs {
			total += s.Size()
		}
		if got := float64(total) / 1e6; math.Abs(got-c.millions) > max(0.05, 0.005*c.millions) {
			t.Errorf("%s %+v has %.2f million weights, the paper says %g", c.kind, g, got, c.millions)
		}
	}
}

// The geometries of the protocol are those of DPImageBench, and depths that make
// no whole blocks are refused.
func TestGeometries(t *testing.T) {
	for _, c := range []struct {
		kind Classifier
		g    Geometry
		ok   bool
	}{
		{WRN, Geometry{}, true}, {WRN, Geometry{Depth: 40, Width: 4}, true}, {WRN, Geometry{Depth: 41}, false}, {WRN, Geometry{Depth: 4}, false},
		{WRN, Geometry{Width: 17}, false}, {WRN, Geometry{Width: -1}, false}, {ResNet, Geometry{Depth: 110}, true}, {ResNet, Geometry{Depth: 112}, false},
		{ResNeXt, Geometry{Depth: 29}, true}, {ResNeXt, Geometry{Depth: 28}, false}, {ResNeXt, Geometry{Cardinality: 65}, false}, {CNN, Geometry{Depth: 3}, true},
	} {
		if _, err := c.kind.geometry(c.g); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s %+v: error is %v, want one: %t", c.kind, c.g, err, !c.ok)
		}
	}
	if !DPImageBench().asPublished() || (Protocol{Images: 60}).resolve().asPublished() {
		t.Error("the protocol does not know whether it is the published one")
	}
}

// The protocol at a size that two cores take in seconds: the split, the choice of
// an epoch without the test images, and what it reports.
func TestProtocol(t *testing.T) {
	b := backendtest.Open(t, "go")
	synthetic, test := digits(t, 50, 1), digits(t, 24, 2)
	p := Protocol{Images: 48, Epochs: 2, BatchSize: 22, Geometries: map[Classifier]Geometry{}} // Small networks.
	s, err := RunProtocol(context.Background(), b, p, synthetic, test, 1, ClassifierOptions{Seed: 1, Lowering: nn.Patches, Workers: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v %+v", s, s.Classifiers[0])
	if s.AsPublished || s.Held != 4 || s.Training != 44 || len(s.Classifiers) != 3 || len(s.Epoch) != 3 {
		t.Errorf("protocol gives %+v, want three classifiers and a split of 44 and 4", s)
	}
	sum := 0.0
	for i, a := range s.Classifiers {
		sum += a.Mean / 3
		if a.Tests != 24 || a.Geometry == nil || a.Best > s.Best || a.Mean < 0 || !(a.Low <= a.Mean && a.Mean <= a.High) || s.Epoch[i] < 1 || s.Epoch[i] > 2 || len(a.PerClass) != 3 {
			t.Errorf("classifier of the protocol gives %+v", a)
		}
	}
	if math.Abs(sum-s.Mean) > 1e-12 || s.Mean > s.Best {
		t.Errorf("mean is %g and best %g, want %g and no less", s.Mean, s.Best, sum)
	}
	for name, bad := range map[string]Protocol{
		"too many images": {Images: 51}, "none held": {Images: 48, Held: 48}, "batch above all": {Images: 48, BatchSize: 49},
		"not residual": {Images: 48, BatchSize: 2, Classifiers: []Classifier{CNN}}, "no epochs": {Images: 48, BatchSize: 2, Epochs: -1},
	} {
		if _, err := RunProtocol(context.Background(), b, bad, synthetic, test, 1, ClassifierOptions{}, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error is %v, want ErrInvalid", name, err)
		}
	}
}

// Every example comes once in each round.
func TestOrder(t *testing.T) {
	o := newOrder(7, 3)
	var previous []int
	for round := range 3 {
		var seen []int
		for i := range 7 {
			seen = append(seen, o.at(7*round+i))
		}
		if slices.Equal(seen, previous) {
			t.Error("two rounds are in one order")
		}
		previous = slices.Clone(seen)
		slices.Sort(seen)
		if !slices.Equal(seen, []int{0, 1, 2, 3, 4, 5, 6}) {
			t.Errorf("round %d has %v", round, seen)
		}
	}
	if o.at(7) != o.last[0] {
		t.Error("the round before is forgotten")
	}
}

// Subgroups are scored by the same classifier: together they make up the whole.
func TestSubgroupsAddUp(t *testing.T) {
	train, test := digits(t, 90, 1), digits(t, 60, 2)
	var first, second []int
	for i := range test.Len() {
		if i%3 == 0 {
			first = append(first, i)
		} else {
			second = append(second, i)
		}
	}
	a, err := ScoreClassifier(context.Background(), nil, Neighbours, train, test, 1, ClassifierOptions{},
		Subgroup{"a", test.Subset(first)}, Subgroup{"b", test.Subset(second)})
	if err != nil {
		t.Fatal(err)
	}
	g := a.Subgroups
	if len(g) != 2 || g[0].Subgroup != "a" || g[0].Tests != 20 || g[1].Tests != 40 || math.Abs((20*g[0].Mean+40*g[1].Mean)/60-a.Mean) > 1e-12 {
		t.Errorf("subgroups are %+v and %+v, want parts of %+v", g[0], g[1], a)
	}
	if !(g[0].High-g[0].Low > a.High-a.Low) {
		t.Errorf("interval of a third of the images is %g to %g, of all %g to %g; want a wider one", g[0].Low, g[0].High, a.Low, a.High)
	}
}
