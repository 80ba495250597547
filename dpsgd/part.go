package dpsgd

import (
	"errors"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/nn"
)

// chainLength is how many examples the loop adds up on the device before their
// sum is copied: of a model of some million parameters the copy, and adding it
// on the host, took a fifth of the time.
const chainLength = 16

// partSize returns the examples of a part: a physical batch of book-keeping, a
// chain of the loop.
func (e *Engine) partSize() int {
	if e.method == PerExampleLoop {
		return chainLength
	}
	return e.PhysicalBatchSize()
}

// part is the clipped sum of some examples in a row: a physical batch, or a chain.
type part struct {
	sum   []float32
	stats Stats
}

// part computes a part: a chain of calls, a call, or the halves of one.
//
// A call that fails for memory halves the physical batch of the engine; the same
// positions are computed again, for which fetch returns the same draws.
//
// A sum that is not finite means that at least one example's gradient is not;
// the batch is then halved until such examples stand alone and contribute zero,
// which leaves the others' part as it would have been without them. A chain adds
// zero for them by itself; what it gives is looked at all the same.
//
//   - calls: the least of a chain, which makes one for each position.
func (e *Engine) part(vector *nn.Vector, positions []int, calls int, fetch Fetch) (*part, error) {
	for {
		var p *part
		var err error
		size := e.partSize()
		if len(positions) > size {
			break
		}
		if e.method == PerExampleLoop {
			p, err = e.chain(vector, positions, max(calls, len(positions)), fetch)
		} else {
			p, err = e.run(vector, positions, size, fetch)
		}
		if errors.Is(err, ErrMemory) && e.method == BookKeeping && size > 1 {
			e.examples.CompareAndSwap(int64(size), int64(size/2))
			continue
		}
		switch {
		case err != nil:
			return nil, err
		case finite(p.sum) || e.wrong == keepNonFinite:
			return p, nil
		case len(positions) <= 1:
			clear(p.sum)
			return &part{sum: p.sum, stats: Stats{NonFinite: len(positions)}}, nil
		}
		e.spare.give(p)
		break
	}
	half := len(positions) / 2
	first, err := e.part(vector, positions[:half], 0, fetch)
	if err != nil {
		return nil, err
	}
	second, err := e.part(vector, positions[half:], 0, fetch)
	if err != nil {
		return nil, err
	}
	for i, v := range second.sum {
		first.sum[i] += v
	}
	first.stats.Clipped += second.stats.Clipped
	first.stats.NonFinite += second.stats.NonFinite
	first.stats.NormSum += second.stats.NormSum
	e.spare.give(second)
	return first, nil
}

// run computes one physical batch, padded to size examples, in one call.
func (e *Engine) run(vector *nn.Vector, positions []int, size int, fetch Fetch) (*part, error) {
	inputs, err := fetch(positions, size)
	if err != nil {
		return nil, err
	}
	mask := make([]float32, size)
	for i := range positions {
		mask[i] = 1
	}
	inputs = append([]*tensors.Tensor{tensors.FromFlatDataAndDimensions(mask, size)}, inputs...)
	outputs, err := e.call(vector, size, inputs)
	defer finalize(outputs)
	defer finalize(inputs)
	if err != nil {
		return nil, err
	}
	last := len(outputs) - 1
	p := &part{sum: e.spare.take()}
	if err := p.count(outputs[last], len(positions), e.clip); err != nil {
		return nil, err
	}
	if err := copyOut(p.sum, outputs[:last]); err != nil {
		return nil, outOfMemory(err)
	}
	return p, nil
}

// chain computes one example a call, each on top of the sum of those before it,
// which stays on the device. Calls beyond the positions are of no example; there
// is at least one call.
func (e *Engine) chain(vector *nn.Vector, positions []int, calls int, fetch Fetch) (*part, error) {
	p := &part{}
	var before []*tensors.Tensor // Sums so far.
	defer func() { finalize(before) }()
	for i := range calls {
		own, mask := positions[min(i, len(positions)):min(i+1, len(positions))], make([]float32, 1)
		if len(own) > 0 {
			mask[0] = 1
		}
		inputs, err := fetch(own, 1)
		if err != nil {
			return nil, err
		}
		inputs = append([]*tensors.Tensor{tensors.FromFlatDataAndDimensions(mask, 1)}, inputs...)
		outputs, err := e.call(vector, 1, inputs, before...)
		finalize(inputs)
		if err != nil {
			return nil, err
		}
		finalize(before)
		last := len(outputs) - 1
		before = outputs[:last]
		err = p.count(outputs[last], len(own), e.clip)
		finalize(outputs[last:])
		if err != nil {
			return nil, err
		}
	}
	p.sum = e.spare.take()
	if err := copyOut(p.sum, before); err != nil {
		return nil, outOfMemory(err)
	}
	return p, nil
}

// count adds the first n of a call's norms to the statistics.
func (p *part) count(device *tensors.Tensor, n int, clip float64) error {
	norms, err := tensors.CopyFlatData[float32](device)
	if err != nil {
		return outOfMemory(err)
	}
	for _, norm := range norms[:n] {
		switch {
		case !finite([]float32{norm}):
			p.stats.NonFinite++
		case float64(norm) > clip:
			p.stats.Clipped++
			fallthrough
		default:
			p.stats.NormSum += float64(norm)
		}
	}
	return nil
}

func finalize(list []*tensors.Tensor) {
	for _, t := range list {
		_ = t.FinalizeAll()
	}
}

func finite(values []float32) bool {
	// v-v is 0, or NaN for NaN and ±Inf. Four sums side by side: one value after the other
	// took a hundredth of a step of 24 million parameters.
	var a, b, c, d float32
	for ; len(values) >= 4; values = values[4:] {
		v := values[:4]
		a += v[0] - v[0]
		b += v[1] - v[1]
		c += v[2] - v[2]
		d += v[3] - v[3]
	}
	for _, v := range values {
		a += v - v
	}
	return a+b+c+d == 0
}
