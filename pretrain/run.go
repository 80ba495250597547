package pretrain

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

// Options of Run.
type Options struct {
	Lowering nn.Lowering
	Workers  int // Calls to the backend at the same time. Zero means 1.
	Report   func(Progress)

	// Base, if not nil, lends its autoencoder instead of training one, and its
	// UNet where the recipe continues it.
	Base *checkpoint.Model

	// Unfinished, if not "", is the path of a file that keeps a training on its way: written now and
	// then, at the end of each stage and on interruption. Where it lies there, Run goes on from it.
	// Whoever has saved the model removes it.
	Unfinished string
}

// Run trains the base model of a recipe on public images.
func Run(ctx context.Context, backend compute.Backend, c *Config, o Options) (*checkpoint.Model, error) {
	r := &runtime{backend: backend, lowering: o.Lowering, workers: max(1, o.Workers), report: o.Report}
	im, err := newImages(c)
	if err != nil {
		return nil, err
	}
	m, err := c.model(im)
	if err != nil {
		return nil, err
	}
	if o.Base != nil && m.Autoencoder != nil {
		m.Autoencoder = o.Base.Autoencoder
	}
	rng := rand.New(rand.NewPCG(c.Seed, 0))
	specs, err := m.Specs(backend)
	if err != nil {
		return nil, err
	}
	m.Weights = nn.InitWeights(specs, rng)
	if o.Base != nil && o.Base.Info[checkpoint.PrivateRun] != "" {
		return nil, fmt.Errorf("the model that lends its weights was trained on private images; a base model must be public, choose another")
	}
	if c.ContinueUNet {
		if o.Base == nil {
			return nil, fmt.Errorf("the recipe has continue_unet and no model lends its UNet; name one")
		}
		if err := lend(o.Base, pipeline.Component(m.Weights, "unet")); err != nil {
			return nil, err
		}
	}
	if r.progress, err = openProgress(o.Unfinished, c, o.Base, m.Weights); err != nil {
		return nil, err
	}
	canvas, err := pipeline.NewCanvas(m, im.size, im.channels)
	if err != nil {
		return nil, err
	}
	grids := gridSource{images: im, canvas: canvas, unshuffle: m.PixelUnshuffle}
	if m.Autoencoder != nil {
		if err := prepareLatents(ctx, r, c, m, o.Base, im, &grids); err != nil {
			return nil, err
		}
	}
	for i, phase := range c.Denoiser {
		if err := trainDenoiser(ctx, r, m, i+1, phase, grids); err != nil {
			return nil, err
		}
	}
	recipe, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	m.Info = map[string]string{"recipe": string(recipe), "public_data": im.source}
	return m, nil
}

// model is the recipe's, without weights.
func (c *Config) model(im *images) (*checkpoint.Model, error) {
	m := &checkpoint.Model{Classes: im.renderer.Classes(), Channels: im.channels, Size: im.size,
		PixelUnshuffle: max(1, c.PixelUnshuffle), Weights: nn.NewWeights()}
	var err error
	if m.UNet, err = c.unet(); err != nil {
		return nil, err
	}
	if m.Scheduler, err = c.scheduler(); err != nil {
		return nil, err
	}
	if c.ClassEmbedder > 0 {
		m.ClassEmbedder = &checkpoint.ClassEmbedder{Entries: len(m.Classes) + 1, Channels: c.ClassEmbedder}
	}
	if c.TextEncoder != nil {
		if m.TextEncoder, m.Tokenizer, err = c.text(m.Classes); err != nil {
			return nil, err
		}
		m.Classes = nil
	}
	if c.Autoencoder != nil {
		if m.Autoencoder, err = c.Autoencoder.config(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// lend copies the tensors of a model into those of the same names.
func lend(from *checkpoint.Model, to *nn.Weights) error {
	for _, t := range to.All() {
		lent := from.Weights.Get(t.Name)
		if lent == nil || !slices.Equal(lent.Shape, t.Shape) {
			return fmt.Errorf("the model that lends has no tensor %q of shape %v", t.Name, t.Shape)
		}
		copy(t.Data, lent.Data)
	}
	return nil
}

// prepareLatents trains or borrows the autoencoder, sets its scaling from
// public images, and encodes the pool that the denoiser trains on.
func prepareLatents(ctx context.Context, r *runtime, c *Config, m *checkpoint.Model, base *checkpoint.Model, im *images, grids *gridSource) error {
	vae := pipeline.Component(m.Weights, "vae")
	if base != nil {
		if err := lend(base, vae); err != nil {
			return err
		}
	} else {
		if err := trainAutoencoder(ctx, r, m.Autoencoder, vae, im, c.Autoencoder.Training, c.Autoencoder.KLWeight); err != nil {
			return err
		}
		mean, std, err := measureLatents(r, m.Autoencoder, vae, im, 2048)
		if err != nil {
			return err
		}
		m.Autoencoder.LatentShift, m.Autoencoder.LatentScalingFactor = mean, 1/std
	}
	var err error
	grids.pool, grids.conditions, err = encodePool(ctx, r, m, vae, im, c.Autoencoder.Latents)
	return err
}

// gridSource yields public images as UNet inputs: rendered anew for pixel
// models, from an encoded pool for latent ones.
type gridSource struct {
	images    *images
	canvas    pipeline.Canvas
	unshuffle int

	pool       []float32
	conditions []condition
}

// draw returns n UNet inputs and what is said of them; from picks which.
func (g gridSource) draw(from, n int) ([]float32, []condition, error) {
	size := g.canvas.Size()
	values, conditions := make([]float32, 0, n*size), make([]condition, n)
	if g.pool != nil {
		rng := rand.New(rand.NewPCG(3, uint64(from)))
		for i := range n {
			k := rng.IntN(len(g.conditions))
			values = append(values, g.pool[k*size:(k+1)*size]...)
			conditions[i] = g.conditions[k]
		}
		return values, conditions, nil
	}
	var pixels []float32
	for i := range n {
		pixels, conditions[i] = g.images.draw(pixels, from+i, g.canvas.Padded)
	}
	return g.canvas.ToGrid(pixels, g.unshuffle), conditions, nil
}

// encodePool encodes n public images.
func encodePool(ctx context.Context, r *runtime, m *checkpoint.Model, vae *nn.Weights, im *images, n int) ([]float32, []condition, error) {
	const batch = 64
	padded := paddedSize(im.size, m.Autoencoder.Factor())
	program, err := nn.NewProgram(r.backend, nn.ProgramOptions{NN: nn.Options{Lowering: r.lowering}, Weights: vae,
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
			mean, _ := m.Autoencoder.Encode(s.In("vae"), in[0])
			return []*graph.Node{m.Autoencoder.Normalize(mean)}
		}})
	if err != nil {
		return nil, nil, err
	}
	defer program.Close()
	var pool []float32
	var conditions []condition
	for at := 0; at < n; at += batch {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		var pixels []float32
		for i := range batch {
			var c condition
			pixels, c = im.draw(pixels, 2<<40+at+i, padded)
			conditions = append(conditions, c)
		}
		out, err := program.Run(nil, tensors.FromFlatDataAndDimensions(pixels, batch, padded, padded, im.channels))
		if err != nil {
			return nil, nil, err
		}
		values, err := tensors.CopyFlatData[float32](out[0])
		if err != nil {
			return nil, nil, err
		}
		_ = out[0].FinalizeAll()
		pool = append(pool, values...)
		if r.report != nil && (at/batch)%64 == 63 {
			r.report(Progress{Stage: "encode public images", Step: at + batch, Steps: n})
		}
	}
	return pool, conditions, nil
}
