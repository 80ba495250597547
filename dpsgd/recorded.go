package dpsgd

import (
	"context"
	"fmt"
	"math"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
)

// Recorded is what another implementation computed on PUBLIC examples.
type Recorded struct {
	Norms []float64 // L2 norm of each example's gradient.
	Sum   []float64 // Clipped sum, in the order of the flat vector of the trainable parameters.
}

// Deviation says how far an engine is from a recorded result. It holds no
// gradient: a clipped sum leaves this package with noise or not at all.
type Deviation struct {
	Norms float64 // Largest difference of a norm, relative to it.
	Sum   float64 // 2-norm of the difference of the sums, relative to the recorded one's.
}

// Compare runs an engine on recorded public examples and compares norms and
// clipped sum with what another implementation found.
func Compare(ctx context.Context, backend compute.Backend, o EngineOptions, fetch Fetch, want Recorded) (*Deviation, error) {
	n := len(want.Norms)
	if n == 0 {
		return nil, fmt.Errorf("nothing is recorded, want norms of at least one example")
	}
	e, err := NewEngine(backend, o)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	if len(want.Sum) != e.size {
		return nil, fmt.Errorf("recorded sum has %d values, want %d as the trainable parameters", len(want.Sum), e.size)
	}
	vector := o.Weights.Flatten(o.Trainable)
	sum, _, err := e.Sum(ctx, vector, n, fetch)
	if err != nil {
		return nil, err
	}
	var off, size float64
	for i, v := range want.Sum {
		off += (sum.values[i] - v) * (sum.values[i] - v)
		size += v * v
	}
	d := &Deviation{Sum: math.Sqrt(off / size)}
	device, err := e.program.Vector(vector)
	if err != nil {
		return nil, err
	}
	for i, wanted := range want.Norms {
		// One example, the rest of the physical batch masked.
		rows := int(e.examples.Load())
		mask := make([]float32, rows)
		mask[0] = 1
		inputs, err := fetch([]int{i}, rows)
		if err != nil {
			return nil, err
		}
		out, err := e.call(device, rows, append([]*tensors.Tensor{tensors.FromFlatDataAndDimensions(mask, rows)}, inputs...))
		if err != nil {
			return nil, err
		}
		norms, err := tensors.CopyFlatData[float32](out[len(out)-1])
		if err != nil {
			return nil, err
		}
		diff := math.Abs(float64(norms[0])-wanted) / wanted
		if !(diff <= d.Norms) { // NaN sticks.
			d.Norms = diff
		}
	}
	return d, nil
}
