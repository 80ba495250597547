// Package generate turns a diffusion model into images: guidance, seeds,
// samplers, decoding.
//
// Under differential privacy it is post-processing: what it makes from released
// weights may be released. It sees no private data.
package generate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

// Options of a [Generator].
type Options struct {
	Sampler       diffusion.SamplerName // "" means DDIM.
	Steps         int                   // Network calls per image; noise levels with Heun and EDM. Zero means 50.
	Eta           float64               // Share of DDPM's noise in DDIM, in [0, 1].
	Churn         diffusion.Churn       // Of EDM.
	GuidanceScale float64               // Of classifier-free guidance; 1 is off. Zero means 1.

	// Seed and the index of an image decide it: any split into shards gives the
	// same images up to rounding.
	Seed  uint64
	First int // Index of the first image.

	Lowering  nn.Lowering
	Adapter   nn.Adapter // Of the model's weights, if they carry one.
	Workers   int        // Calls to the backend at the same time. Zero means 1.
	BatchSize int        // Images per call. Zero means BatchSize of the grid.

	Report func(done, total int)
}

// A Generator draws images from one model. Its programs are compiled once, whatever is
// drawn how often. It is not for several goroutines: Workers of them are inside.
type Generator struct {
	model   *checkpoint.Model
	size    int
	options Options
	canvas  pipeline.Canvas
	sampler diffusion.Sampler
	program *nn.Program
	codec   *pipeline.Codec
}

// New returns a generator of images of size×size pixels, to be closed.
func New(backend compute.Backend, m *checkpoint.Model, size int, o Options) (*Generator, error) {
	if o.GuidanceScale == 0 {
		o.GuidanceScale = 1
	}
	if o.Steps == 0 {
		o.Steps = 50
	}
	canvas, err := pipeline.NewCanvas(m, size, m.Channels)
	if err != nil {
		return nil, err
	}
	if o.BatchSize == 0 {
		o.BatchSize = BatchSize(o.Lowering, canvas.Grid)
	}
	if o.Sampler == "" {
		o.Sampler = diffusion.UseDDIM
	}
	sampler, err := diffusion.NewSampler(o.Sampler, m.Scheduler, o.Steps, diffusion.Stochastic{Eta: o.Eta, Churn: o.Churn})
	if err != nil {
		return nil, err
	}
	program, err := denoiser(backend, m, o)
	if err != nil {
		return nil, err
	}
	codec, err := pipeline.NewCodec(backend, o.Lowering, o.Workers, m, canvas)
	if err != nil {
		program.Close()
		return nil, err
	}
	return &Generator{m, size, o, canvas, sampler, program, codec}, nil
}

// Close frees the programs.
func (g *Generator) Close() {
	g.program.Close()
	g.codec.Close()
}

// Images samples one image per label. seed stands in for that of the options.
func (g *Generator) Images(ctx context.Context, labels []int, seed uint64) (*dataset.Set, error) {
	if g.model.TextEncoder != nil {
		return nil, fmt.Errorf("the model takes text, not classes: want Prompts")
	}
	for _, l := range labels {
		if l < 0 || l >= len(g.model.Classes) {
			return nil, fmt.Errorf("label %d is out of range, want in [0, %d)", l, len(g.model.Classes))
		}
	}
	set, err := g.images(ctx, len(labels), labelConditions{labels, g.model.NullClass()}, seed)
	if err != nil {
		return nil, err
	}
	set.Labels, set.Classes = append([]int(nil), labels...), g.model.Classes
	return set, nil
}

// Images samples one image per label with a generator of its own, size×size pixels.
func Images(ctx context.Context, backend compute.Backend, m *checkpoint.Model, size int, labels []int, o Options) (*dataset.Set, error) {
	g, err := New(backend, m, size, o)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	return g.Images(ctx, labels, o.Seed)
}

// BatchSize returns how many images go into a call where nobody says: 32, or on a
// processor so many that their maps of grid·grid positions have 8,192 positions.
// Above, it is no faster for each image, and maps leave the caches: eight images
// of 32x32 were a tenth faster than 32.
func BatchSize(l nn.Lowering, grid int) int {
	if l == nn.Native {
		return 32
	}
	return max(1, min(32, 8192/(grid*grid)))
}

// images samples n images.
func (g *Generator) images(ctx context.Context, n int, conditions conditions, seed uint64) (*dataset.Set, error) {
	o, values := g.options, g.canvas.Size()
	grids := make([]float32, n*values)
	limit := make(chan struct{}, max(1, o.Workers))
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	done := 0
	for at := 0; at < n && ctx.Err() == nil; at += o.BatchSize {
		end := min(n, at+o.BatchSize)
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			err := g.batch(ctx, grids[at*values:end*values], conditions, at, end, seed)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && failed == nil {
				failed = err
			}
			done += end - at
			if o.Report != nil {
				o.Report(done, n)
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return nil, failed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	pixels, err := g.codec.Decode(ctx, grids)
	if err != nil {
		return nil, err
	}
	return &dataset.Set{Height: g.size, Width: g.size, Channels: g.model.Channels, Pixels: pixels}, nil
}

// denoiser compiles the network with guidance: inputs x, t, class and null class,
// or contexts in place of both.
func denoiser(backend compute.Backend, m *checkpoint.Model, o Options) (*nn.Program, error) {
	return nn.NewProgram(backend, nn.ProgramOptions{
		NN:      nn.Options{Lowering: o.Lowering, Adapter: o.Adapter},
		Weights: pipeline.Component(m.Weights, "unet", "class_embedder"), ManyCalls: true,
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
			x, t, class, null := in[0], in[1], in[2], in[3]
			if o.GuidanceScale == 1 {
				return []*graph.Node{pipeline.Denoise(m, s, x, t, class)}
			}
			rows := x.Shape().Dimensions[0]
			both := pipeline.Denoise(m, s, graph.Concatenate([]*graph.Node{x, x}, 0),
				graph.Concatenate([]*graph.Node{t, t}, 0), graph.Concatenate([]*graph.Node{class, null}, 0))
			cond := graph.Slice(both, graph.AxisRange(0, rows))
			uncond := graph.Slice(both, graph.AxisRange(rows, 2*rows))
			return []*graph.Node{diffusion.GuideNodes(uncond, cond, o.GuidanceScale)}
		},
	})
}

// batch samples images from to (exclusive) into grids [to-from, Grid, Grid, Depth].
func (g *Generator) batch(ctx context.Context, grids []float32, conditions conditions, from, to int, seed uint64) error {
	c, sampler := g.canvas, g.sampler
	size, rows, n := c.Size(), g.options.BatchSize, to-from
	x, seen := make([]float32, rows*size), make([]float32, rows*size)
	sources, runs := make([]*rand.Rand, n), make([]diffusion.Run, n)
	given, away := conditions.batch(from, to, rows)
	defer func() { _, _ = given.FinalizeAll(), away.FinalizeAll() }()
	for i := range n {
		sources[i] = rand.New(rand.NewPCG(seed, uint64(g.options.First+from+i)))
		for k := range size {
			x[i*size+k] = float32(sources[i].NormFloat64())
		}
		runs[i] = sampler.NewRun()
		runs[i].Begin(x[i*size:(i+1)*size], sources[i])
	}
	for i, call := range sampler.Calls() {
		if err := ctx.Err(); err != nil {
			return err
		}
		ts := make([]float32, rows)
		for k := range ts {
			ts[k] = float32(call.Timestep)
		}
		for k := range n {
			runs[k].Input(i, seen[k*size:(k+1)*size], x[k*size:(k+1)*size])
		}
		out, err := g.program.Run(nil, tensors.FromFlatDataAndDimensions(append([]float32(nil), seen...), rows, c.Grid, c.Grid, c.Depth),
			tensors.FromFlatDataAndDimensions(ts, rows), given, away)
		if err != nil {
			return fmt.Errorf("sampling step %d: %w", i+1, err)
		}
		output, err := tensors.CopyFlatData[float32](out[0])
		if err != nil {
			return err
		}
		_ = out[0].FinalizeAll()
		for k := range n {
			runs[k].Step(i, x[k*size:(k+1)*size], output[k*size:(k+1)*size], sources[k])
		}
	}
	copy(grids, x)
	return nil
}

// Balanced returns count labels, each class as often as any other; none where
// there are no classes.
func Balanced(count, classes int) []int {
	if classes == 0 {
		return nil
	}
	labels := make([]int, count)
	for i := range labels {
		labels[i] = i % classes
	}
	return labels
}
