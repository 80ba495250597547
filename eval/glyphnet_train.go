package eval

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
)

// GlyphRecipe fixes the training of the feature network that scumble carries. The
// zero value is the recipe of the one that is shipped. All of it is public: images
// are rendered, none is read.
type GlyphRecipe struct {
	Steps        int     // Zero means 1200.
	BatchSize    int     // Zero means 64.
	LearningRate float64 // Zero means 2e-3.
	Seed         uint64  // Zero means 7.
	ScaleImages  int     // Of each kind, for the scale of features; grey ones twice. Zero means 512.
}

// TrainGlyphs trains the feature network and writes it to path, as
// glyphnet.safetensors is. report hears of each step.
func TrainGlyphs(ctx context.Context, backend compute.Backend, path string, r GlyphRecipe, o NetworkOptions, report func(step, steps int, loss float64)) error {
	steps, batch, rate, seed := orInt(r.Steps, 1200), orInt(r.BatchSize, 64), r.LearningRate, r.Seed
	if rate == 0 {
		rate = 2e-3
	}
	if seed == 0 {
		seed = 7
	}
	images, err := newGlyphImages(seed)
	if err != nil {
		return err
	}
	build := func(s *nn.Scope, x *graph.Node) (logits, wear *graph.Node) {
		features := glyphBody(s, x)
		return glyphLogits(s, features), nn.Dense(s.In("wear"), features, 2, nn.DenseOptions{})
	}
	specs, err := nn.Collect(backend, nn.Options{Lowering: o.Lowering}, func(s *nn.Scope) {
		build(s, graph.Zeros(s.Graph(), shapes.Make(dtypes.Float32, 1, glyphPixels, glyphPixels, 3)))
	})
	if err != nil {
		return err
	}
	weights := nn.InitWeights(specs, rand.New(rand.NewPCG(seed, 1)))
	for _, t := range weights.All() {
		if len(t.Shape) == 4 { // SiLU halves the scale of what is small.
			for i := range t.Data {
				t.Data[i] *= 1.7
			}
		}
	}
	workers := max(1, o.Workers)
	shard := batch
	if batch%workers == 0 {
		shard = batch / workers
	}
	trainer, err := optim.NewTrainer(backend, optim.TrainerOptions{
		NN: nn.Options{Lowering: o.Lowering}, Weights: weights, Trainable: weights.Names(),
		Loss: func(s *nn.Scope, in []*graph.Node) *graph.Node {
			logits, wear := build(s, in[0])
			target := graph.OneHot(in[1], glyphClasses, dtypes.Float32)
			characters := graph.Neg(graph.ReduceSum(graph.Mul(target, graph.LogSoftmax(logits)), -1))
			off := graph.Sub(wear, in[2])
			return graph.Add(characters, graph.MulScalar(graph.ReduceSum(graph.Mul(off, off), -1), 4))
		},
		ShardSize: shard, Workers: workers, EMADecay: 0.99, ClipNorm: 2,
		Adam: optim.AdamW{LearningRate: rate, WeightDecay: 1e-2},
	})
	if err != nil {
		return err
	}
	defer trainer.Close()
	for step := range steps {
		loss, err := trainer.Step(ctx, batch, optim.Cosine.Factor(step, steps, 50), func(positions []int) ([]*tensors.Tensor, error) {
			pixels := make([]float32, 0, len(positions)*glyphPixels*glyphPixels*3)
			labels := make([]int32, len(positions))
			wear := make([]float32, 0, 2*len(positions))
			for k, p := range positions {
				image, label, worn := images.draw(step*batch + p)
				pixels = append(pixels, image...)
				labels[k] = int32(label)
				wear = append(wear, worn[:]...)
			}
			return []*tensors.Tensor{
				tensors.FromFlatDataAndDimensions(pixels, len(positions), glyphPixels, glyphPixels, 3),
				tensors.FromFlatDataAndDimensions(labels, len(positions)),
				tensors.FromFlatDataAndDimensions(wear, len(positions), 2),
			}, nil
		})
		if err != nil {
			return fmt.Errorf("feature network step %d: %w", step+1, err)
		}
		if report != nil {
			report(step+1, steps, loss)
		}
	}
	trainer.Finish()
	shipped := nn.NewWeights()
	for _, t := range weights.All() {
		if t.Name != "wear.weight" && t.Name != "wear.bias" { // Only training needs them.
			shipped.Add(t)
		}
	}
	if err := images.scale(ctx, backend, shipped, orInt(r.ScaleImages, 512), o); err != nil {
		return err
	}
	return writeGlyphs(path, shipped, fmt.Sprintf("steps %d, batch %d, learning rate %g, seed %d", steps, batch, rate, seed))
}

func writeGlyphs(path string, w *nn.Weights, recipe string) error {
	var file bytes.Buffer
	err := encodeGlyphs(&file, w, map[string]string{
		"name": glyphName, "licence": "Apache-2.0", "trained_on": "characters rendered by scumble data glyphs, public",
		"layout": "kernels [height, width, in, out], dense [in, out]", "pixels": strconv.Itoa(glyphPixels), "recipe": recipe,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, file.Bytes(), 0o644)
}

// scale adds to the weights the mean and the standard deviation of each feature
// over images that training did not see, half of them grey, none worn. It takes
// the weights as they will be read, in half precision.
func (g *glyphImages) scale(ctx context.Context, backend compute.Backend, w *nn.Weights, each int, o NetworkOptions) error {
	const first = 1 << 30 // Number of an image.
	var file bytes.Buffer
	if err := encodeGlyphs(&file, w, nil); err != nil {
		return err
	}
	e, err := openGlyphs(backend, file.Bytes(), o)
	if err != nil {
		return err
	}
	defer e.Close()
	all := &Features{Dim: glyphFeatures}
	for k, r := range g.renderers {
		set := &dataset.Set{Height: g.sizes[k], Width: g.sizes[k], Channels: g.channels[k]}
		count := each
		if g.channels[k] == 1 {
			count = each * (len(g.renderers) - 1)
		}
		for i := range count {
			image, _ := r.Draw(first + i)
			set.Pixels = append(set.Pixels, image...)
		}
		f, err := e.Features(ctx, set, nil)
		if err != nil {
			return err
		}
		all.Values, all.Rows = append(all.Values, f.Values...), all.Rows+f.Rows
	}
	mean, std := make([]float32, glyphFeatures), make([]float32, glyphFeatures)
	for j, m := range all.mean() {
		square := 0.0
		for i := range all.Rows {
			d := float64(all.Row(i)[j]) - m
			square += d * d / float64(all.Rows)
		}
		mean[j], std[j] = float32(m), float32(max(math.Sqrt(square), 1e-3))
	}
	w.Add(&nn.Tensor{Name: glyphMean, Shape: []int{glyphFeatures}, Data: mean})
	w.Add(&nn.Tensor{Name: glyphStd, Shape: []int{glyphFeatures}, Data: std})
	return nil
}

// glyphImages draws training images by number: grey ones of 28 pixels, coloured
// ones of 32 and 48, some blurred, some with noise.
type glyphImages struct {
	seed      uint64
	renderers []*glyphs.Renderer
	sizes     []int
	channels  []int
}

func newGlyphImages(seed uint64) (*glyphImages, error) {
	g := &glyphImages{seed: seed}
	for i, o := range []glyphs.Options{{Size: 28, Channels: 1}, {Size: 32, Channels: 3}, {Size: 48, Channels: 3}} {
		o.Seed = seed + uint64(i)
		r, err := glyphs.NewRenderer(o)
		if err != nil {
			return nil, err
		}
		g.renderers, g.sizes, g.channels = append(g.renderers, r), append(g.sizes, o.Size), append(g.channels, o.Channels)
	}
	return g, nil
}

// draw returns image i, [32, 32, 3] in [-1, 1], its label, and how worn it is:
// blur and noise, each 0 to 1.
func (g *glyphImages) draw(i int) (pixels []float32, label int, wear [2]float32) {
	rng := rand.New(rand.NewPCG(g.seed, uint64(i)))
	k := 0 // Half are grey.
	if rng.IntN(2) == 1 {
		k = 1 + rng.IntN(len(g.renderers)-1)
	}
	image, label := g.renderers[k].Draw(i)
	p := newPicture(g.sizes[k], g.sizes[k], g.channels[k], image).to(glyphPixels, glyphPixels, ResizeClean)
	for j := range wear {
		if rng.IntN(2) == 1 {
			wear[j] = rng.Float32()
		}
	}
	p = p.blurred(2 * float64(wear[0]))
	pixels = make([]float32, 0, glyphPixels*glyphPixels*3)
	for at := 0; at < len(p.values); at += p.channels {
		for c := range 3 {
			if c < p.channels {
				v := float64(p.values[at+c]) + 80*float64(wear[1])*rng.NormFloat64()
				pixels = append(pixels, float32((min(max(v, 0), 255)-128)/128))
			} else { // Grey.
				pixels = append(pixels, pixels[len(pixels)-1])
			}
		}
	}
	return pixels, label, wear
}

// blurred returns the picture after a Gaussian filter of that deviation in pixels.
func (p picture) blurred(deviation float64) picture {
	if deviation < 0.05 {
		return p
	}
	reach := int(math.Ceil(3 * deviation))
	kernel := make([]float64, 2*reach+1)
	total := 0.0
	for i := range kernel {
		d := float64(i-reach) / deviation
		kernel[i] = math.Exp(-d * d / 2)
		total += kernel[i]
	}
	pass := func(p picture, dy, dx int) picture {
		out := picture{p.height, p.width, p.channels, make([]float32, len(p.values))}
		for y := range p.height {
			for x := range p.width {
				for c := range p.channels {
					v := 0.0
					for i, w := range kernel {
						yy := min(max(y+dy*(i-reach), 0), p.height-1)
						xx := min(max(x+dx*(i-reach), 0), p.width-1)
						v += w * float64(p.values[(yy*p.width+xx)*p.channels+c])
					}
					out.values[(y*p.width+x)*p.channels+c] = float32(v / total)
				}
			}
		}
		return out
	}
	return pass(pass(p, 0, 1), 1, 0)
}
