package nn

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// Lookup returns rows of a learned table for each position: indices [rows,
// positions] int32, each in [0, entries) → [rows, positions, channels]. An entry
// that an example uses at several positions, or in several draws, gets the sum
// of their gradients before the clip.
func Lookup(s *Scope, indices *Node, entries, channels int) *Node {
	table, name := s.param("weight", KindTable, InitNormal, entries, channels)
	return s.lookup(table, name, indices)
}

// Positions adds a learned table of positions to x [rows, positions, channels]:
// position i gets entry i of entries.
func Positions(s *Scope, x *Node, entries int) *Node {
	d := x.Shape().Dimensions
	if d[1] > entries {
		panic(fmt.Errorf("nn: %q has %d positions, x has %d", s.path, entries, d[1]))
	}
	table, name := s.param("weight", KindTable, InitNormal, entries, d[2])
	return Add(x, s.lookup(table, name, Iota(x.Graph(), shapes.Make(dtypes.Int32, d[0], d[1]), 1)))
}

func (s *Scope) lookup(table *Node, name string, indices *Node) *Node {
	indices.AssertRank(2)
	d := table.Shape().Dimensions
	y := Gather(table, ExpandAxes(indices, -1))
	s.record(&Layer{Kind: Table, Input: func() *Node { return indices }, Output: y, Weight: name, WeightShape: d})
	return y
}
