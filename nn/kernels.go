package nn

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// mostKernels is the most values of a program's kernels in Winograd's basis, where each
// takes four times its memory: 256 MiB. Larger models are called with so few examples
// that few of their maps have the tiles for it.
const mostKernels = 64 << 20

// kernels brings convolution kernels, [3, 3, in, out], into Winograd's basis for the many
// calls that weights serve. In a call with few examples that takes as long as the products.
type kernels struct {
	which []int       // Of a list of weights.
	exec  *graph.Exec // Nil for none.
}

// suited returns which of the weights are kernels that convolutions lowered so may want in
// the basis, and how many values they have in it.
func (l Lowering) suited(weights []*Tensor) (which []int, values int) {
	for i, t := range weights {
		if d := t.Shape; t.Kind == KindKernel && l.suits(Same(d[0])) && min(d[2], d[3]) >= winogradChannels {
			which, values = append(which, i), values+tiles4.side*tiles4.side*d[2]*d[3]
		}
	}
	return which, values
}

func newKernels(backend compute.Backend, which []int) (k kernels, err error) {
	k.which = which
	if len(which) == 0 {
		return k, nil
	}
	k.exec, err = graph.NewExec(backend, func(w []*graph.Node) []*graph.Node {
		u := make([]*graph.Node, len(w))
		for i := range w {
			u[i] = tiles4.kernel(w[i])
		}
		return u
	})
	return k, err
}

// of returns the kernels among the weights, which are on the device, in the basis.
func (k kernels) of(weights []*tensors.Tensor) ([]*tensors.Tensor, error) {
	if k.exec == nil {
		return nil, nil
	}
	args := make([]any, len(k.which))
	for i, at := range k.which {
		args[i] = weights[at]
	}
	u, err := k.exec.Exec(args...)
	if err != nil {
		return nil, fmt.Errorf("bring kernels into Winograd's basis: %w", err)
	}
	return u, nil
}

func (k kernels) close() {
	if k.exec != nil {
		k.exec.Finalize()
	}
}

// inBasis returns the weights in some places in the basis, the same for every program. The
// first call makes them.
func (b *Base) inBasis(which []int) ([]*tensors.Tensor, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(which) == 0: // Of this program, whatever others ask for.
		return nil, nil
	case b.kernels != nil:
		return b.kernels, nil
	}
	k, err := newKernels(b.backend, which)
	if err != nil {
		return nil, err
	}
	defer k.close()
	b.kernels, err = k.of(b.device)
	return b.kernels, err
}

// giveKernels prepares the kernels of the vector and of the base that are given to calls
// in the basis, and names them in this order.
func (p *Program) giveKernels(o ProgramOptions) (names []string, err error) {
	// What is for memory does without: blocks that are computed again, weights in half precision.
	if !o.ManyCalls || o.NN.Recompute || len(p.base.half()) > 0 {
		return nil, nil
	}
	trained := make([]*Tensor, len(o.Trainable))
	for i, name := range o.Trainable {
		trained[i] = o.Weights.Get(name)
	}
	own, values := o.NN.Lowering.suited(trained)
	base, more := o.NN.Lowering.suited(p.base.weights)
	if values+more > mostKernels {
		return nil, nil
	}
	if p.kernels, err = newKernels(p.backend, own); err != nil {
		return nil, err
	}
	p.given = base
	for _, i := range own {
		names = append(names, o.Trainable[i])
	}
	for _, i := range base {
		names = append(names, p.base.weights[i].Name)
	}
	return names, nil
}
