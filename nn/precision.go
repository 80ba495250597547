package nn

import (
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// Precision of a computation.
type Precision string

const (
	Float32 Precision = "float32" // Also "".

	// BFloat16 rounds the operands and results of dense products, forward and
	// backward, to bfloat16: 8 bits of precision, the range of float32.
	// Convolutions, norms, attention weights, losses and whatever is computed from
	// a layer's input and output gradient stay in float32. Lowering Patches does
	// not take it.
	BFloat16 Precision = "bfloat16"
)

// dot returns x·w for matrices x and w, in the precision of the build.
func dot(x, w *Node) *Node {
	b, ok := x.Graph().State(buildKey{}).(*build)
	if !ok || b.opts.Compute != BFloat16 {
		return Dot(x, w).Product()
	}
	y := Dot(ConvertDType(x, dtypes.BFloat16), ConvertDType(w, dtypes.BFloat16)).Product()
	return ConvertDType(y, dtypes.Float32)
}
