package pipeline

import (
	"context"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/nn"
)

// Codec turns images into the UNet's inputs and back: through the autoencoder
// for latent models, by space-to-depth for pixel models.
type Codec struct {
	Canvas
	// Apart makes Encode take each image in a call of its own. What it returns for an
	// image is then the same to the last bit, whoever else is in the set: rounding
	// goes by an image's place in a call. Private images are encoded so.
	Apart bool

	model          *checkpoint.Model
	encode, decode *nn.Program // Nil for pixel models.
	batch, workers int
}

// NewCodec prepares a codec for a model and the geometry of its images.
func NewCodec(backend compute.Backend, lowering nn.Lowering, workers int, m *checkpoint.Model, canvas Canvas) (*Codec, error) {
	// As many pixels as 32 images of 64x64 have: of 256x256, two.
	batch := max(1, min(32, 32*64*64/(canvas.Padded*canvas.Padded)))
	c := &Codec{Canvas: canvas, model: m, batch: batch, workers: max(1, workers)}
	if m.Autoencoder == nil {
		return c, nil
	}
	weights := Component(m.Weights, "vae")
	var err error
	c.encode, err = nn.NewProgram(backend, nn.ProgramOptions{NN: nn.Options{Lowering: lowering}, Weights: weights,
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
			mean, _ := m.Autoencoder.Encode(s.In("vae"), in[0])
			return []*graph.Node{m.Autoencoder.Normalize(mean)}
		}})
	if err != nil {
		return nil, err
	}
	c.decode, err = nn.NewProgram(backend, nn.ProgramOptions{NN: nn.Options{Lowering: lowering}, Weights: weights,
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
			return []*graph.Node{m.Autoencoder.Decode(s.In("vae"), m.Autoencoder.Denormalize(in[0]))}
		}})
	return c, err
}

// Encode returns the UNet inputs of the images, [n, Grid, Grid, Depth]: for
// latent models the mean of the encoder's posterior, normalised. What it
// returns for private images is private.
func (c *Codec) Encode(ctx context.Context, set *dataset.Set) ([]float32, error) {
	n, batch := set.Len(), c.batch
	if c.Apart {
		batch = 1
	}
	out := make([]float32, n*c.Size())
	err := c.batches(ctx, n, batch, func(at int, indices []int) error {
		pixels := c.Floats(set, indices)
		if c.encode == nil {
			copy(out[at*c.Size():], c.ToGrid(pixels, c.model.PixelUnshuffle))
			return nil
		}
		values, err := c.run(c.encode, pixels, len(indices), batch, c.Padded, c.Canvas.Channels)
		if err != nil {
			return err
		}
		copy(out[at*c.Size():(at+len(indices))*c.Size()], values)
		return nil
	})
	return out, err
}

// Decode returns the images, [n, Image, Image, Channels] bytes, of UNet inputs
// [n, Grid, Grid, Depth].
func (c *Codec) Decode(ctx context.Context, grids []float32) ([]byte, error) {
	n := len(grids) / c.Size()
	stride := c.Image * c.Image * c.Canvas.Channels
	out := make([]byte, n*stride)
	err := c.batches(ctx, n, c.batch, func(at int, indices []int) error {
		grid := grids[at*c.Size() : (at+len(indices))*c.Size()]
		if c.decode == nil {
			copy(out[at*stride:], c.Bytes(c.FromGrid(grid, c.model.PixelUnshuffle)))
			return nil
		}
		values, err := c.run(c.decode, grid, len(indices), c.batch, c.Grid, c.Depth)
		if err != nil {
			return err
		}
		copy(out[at*stride:(at+len(indices))*stride], c.Bytes(values))
		return nil
	})
	return out, err
}

// run pads a batch to the fixed size, so that nothing compiles twice.
func (c *Codec) run(p *nn.Program, values []float32, n, batch, size, channels int) ([]float32, error) {
	per := size * size * channels
	padded := make([]float32, batch*per)
	copy(padded, values)
	out, err := p.Run(nil, tensors.FromFlatDataAndDimensions(padded, batch, size, size, channels))
	if err != nil {
		return nil, err
	}
	flat, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		return nil, err
	}
	_ = out[0].FinalizeAll()
	return flat[:len(flat)/batch*n], nil
}

// batches calls work for consecutive groups of a size of indices, on several
// goroutines.
func (c *Codec) batches(ctx context.Context, n, size int, work func(at int, indices []int) error) error {
	limit := make(chan struct{}, c.workers)
	var wg sync.WaitGroup
	var once sync.Once
	var failed error
	for at := 0; at < n && ctx.Err() == nil; at += size {
		indices := make([]int, 0, size)
		for i := at; i < min(n, at+size); i++ {
			indices = append(indices, i)
		}
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			if err := work(at, indices); err != nil {
				once.Do(func() { failed = err })
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	return ctx.Err()
}

// Close frees the compiled graphs.
func (c *Codec) Close() {
	for _, p := range []*nn.Program{c.encode, c.decode} {
		if p != nil {
			p.Close()
		}
	}
}

// Component returns the weights whose names begin with one of the prefixes and
// a dot. The tensors are shared, not copied.
func Component(w *nn.Weights, prefixes ...string) *nn.Weights {
	out := nn.NewWeights()
	for _, t := range w.All() {
		for _, p := range prefixes {
			if len(t.Name) > len(p) && t.Name[:len(p)] == p && t.Name[len(p)] == '.' {
				out.Add(t)
			}
		}
	}
	return out
}
