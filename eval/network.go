package eval

import (
	"context"
	"fmt"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/nn"
)

// NetworkOptions say how a feature network runs.
type NetworkOptions struct {
	Lowering nn.Lowering
	Workers  int // Calls to the backend at the same time. Zero means 1.
	// Apart takes each image in a call of its own: its features are then the same to
	// the last bit whoever else is in the set, which a mechanism that asks private
	// images one by one rests on.
	Apart bool
}

// Extractor is a network that turns images into [Features]. Close it after use.
type Extractor struct {
	about    Network
	program  *nn.Program
	workers  int
	batch    int // Images in a call.
	dim      int
	classes  int
	halfOpen bool // Pixels become 2·x/255 - 1 instead of (x - 128)/128.

	// Each feature is given as (feature - mean)/std; nil leaves them as they are.
	mean, std []float32
}

// forward builds a network: x is [batch, pixels, pixels, 3]; features are
// [batch, dim], logits [batch, classes].
type forward func(s *nn.Scope, x *graph.Node) (features, logits *graph.Node)

// newExtractor prepares a network. The sizes of its outputs come from its graph
// at the first call.
func newExtractor(backend compute.Backend, about Network, weights *nn.Weights, dim, classes, batch int, build forward, o NetworkOptions) (*Extractor, error) {
	program, err := nn.NewProgram(backend, nn.ProgramOptions{
		NN: nn.Options{Lowering: o.Lowering}, Weights: weights,
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
			features, logits := build(s, in[0])
			return []*graph.Node{features, logits}
		},
	})
	if err != nil {
		return nil, err
	}
	about.Dim = dim
	if o.Apart {
		batch = 1
	}
	return &Extractor{about: about, program: program, workers: max(1, o.Workers), batch: batch, dim: dim, classes: classes,
		halfOpen: about.Resize == ResizePyTorch}, nil
}

// About says which network it is.
func (e *Extractor) About() Network { return e.about }

// Close frees the compiled network.
func (e *Extractor) Close() { e.program.Close() }

// Features runs the network on all images of a set, in order. Grey images are
// given to all three channels. report, if not nil, hears of images done, from
// one goroutine at a time.
func (e *Extractor) Features(ctx context.Context, set *dataset.Set, report func(done, total int)) (*Features, error) {
	n := set.Len()
	if n == 0 {
		return nil, fmt.Errorf("features of no image, want at least one: %w", ErrInvalid)
	}
	if set.Channels != 1 && set.Channels != 3 {
		return nil, fmt.Errorf("images have %d channels, want 1 or 3: %w", set.Channels, ErrInvalid)
	}
	out := &Features{Rows: n, Dim: e.dim, Classes: e.classes, Values: make([]float32, n*e.dim), Logits: make([]float32, n*e.classes)}
	batch := min(e.batch, n)
	starts := make(chan int)
	var wait sync.WaitGroup
	var mutex sync.Mutex
	var failed error
	done := 0
	for range e.workers {
		wait.Go(func() {
			for at := range starts {
				count := min(batch, n-at)
				err := e.run(set, at, count, batch, out)
				mutex.Lock()
				done += count
				if err != nil && failed == nil {
					failed = err
				}
				if report != nil {
					report(done, n)
				}
				mutex.Unlock()
			}
		})
	}
	for at := 0; at < n && ctx.Err() == nil; at += batch {
		starts <- at
	}
	close(starts)
	wait.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, fmt.Errorf("network %s: %w", e.about.Name, failed)
	}
	return out, out.Check()
}

// run computes the rows of count images from the one at, in a call of batch.
func (e *Extractor) run(set *dataset.Set, at, count, batch int, out *Features) error {
	size := e.about.Pixels * e.about.Pixels * 3
	pixels := make([]float32, batch*size) // The last batch is filled up with black.
	for k := range count {
		e.prepare(pixels[k*size:(k+1)*size], set.Height, set.Width, set.Channels, set.Image(at+k))
	}
	input := tensors.FromFlatDataAndDimensions(pixels, batch, e.about.Pixels, e.about.Pixels, 3)
	defer func() { _ = input.FinalizeAll() }()
	got, err := e.program.Run(nil, input)
	if err != nil {
		return err
	}
	for i, into := range [][]float32{out.Values[at*e.dim : (at+count)*e.dim], out.Logits[at*e.classes : (at+count)*e.classes]} {
		values, err := tensors.CopyFlatData[float32](got[i])
		if err != nil {
			return err
		}
		if len(values)*count != len(into)*batch {
			return fmt.Errorf("output %d has %d values, want %d", i, len(values), len(into)/count*batch)
		}
		copy(into, values)
		_ = got[i].FinalizeAll()
	}
	for i := range e.mean {
		for k := at; k < at+count; k++ {
			v := &out.Values[k*e.dim+i]
			*v = (*v - e.mean[i]) / e.std[i]
		}
	}
	return nil
}

// prepare resizes an image and scales it to about [-1, 1].
func (e *Extractor) prepare(into []float32, height, width, channels int, image []byte) {
	p := newPicture(height, width, channels, image).to(e.about.Pixels, e.about.Pixels, e.about.Resize)
	for i, v := range p.values {
		if e.halfOpen {
			v = 2*(v/255) - 1
		} else {
			v = (v - 128) / 128
		}
		if channels == 3 {
			into[i] = v
			continue
		}
		into[3*i], into[3*i+1], into[3*i+2] = v, v, v
	}
}
