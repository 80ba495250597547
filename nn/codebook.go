package nn

import (
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// Nearest rounds the last axis of x [rows, ..., channels] to the nearest of a
// table's entries, by Euclidean distance. No gradient passes, and the table
// leaves nothing on the tape: it cannot be trained.
//
//   - codes: [rows, ...] int32 in [0, entries).
//   - nearest: as x.
func Nearest(s *Scope, x *Node, entries int) (codes, nearest *Node) {
	dims := x.Shape().Dimensions
	channels := dims[len(dims)-1]
	table, _ := s.param("weight", KindTable, InitNormal, entries, channels)
	table = StopGradient(table)
	flat := StopGradient(Reshape(x, -1, channels))
	// |x - e|² less |x|², which all entries share.
	distances := Sub(Reshape(ReduceSum(Mul(table, table), -1), 1, entries), MulScalar(DotGeneral(flat, []int{1}, nil, table, []int{1}, nil), 2))
	index := ArgMin(distances, -1, dtypes.Int32)
	return Reshape(index, dims[:len(dims)-1]...), Reshape(Gather(table, Reshape(index, -1, 1)), dims...)
}
