package dpsgd

import (
	"math"
	"testing"
)

// One value that is not finite is found wherever it stands: such an example's part of a
// sum is thrown away for it. Values that are large, small or zero are none.
func TestFinite(t *testing.T) {
	ordinary := []float32{math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, 0, float32(math.Copysign(0, -1)), 1}
	for n := range 20 {
		values := make([]float32, n)
		for i := range values {
			values[i] = ordinary[i%len(ordinary)]
		}
		if !finite(values) {
			t.Errorf("%d finite values are not", n)
		}
		for i := range values {
			for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
				kept := values[i]
				values[i] = float32(bad)
				if finite(values) {
					t.Errorf("%g at %d of %d is finite", bad, i, n)
				}
				values[i] = kept
			}
		}
	}
}
