package pretrain

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/autoencoder"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
)

// Training fixes how long and how fast a stage trains.
type Training struct {
	Steps        int     `yaml:"steps" json:"steps"`                 // Updates. Required.
	BatchSize    int     `yaml:"batch_size" json:"batch_size"`       // Images per update. Required.
	LearningRate float64 `yaml:"learning_rate" json:"learning_rate"` // Peak; cosine to a tenth. Required.
}

func (t Training) validate(stage string) error {
	switch {
	case t.Steps < 1:
		return fmt.Errorf("%s: steps is %d, want at least 1", stage, t.Steps)
	case t.BatchSize < 1:
		return fmt.Errorf("%s: batch_size is %d, want at least 1", stage, t.BatchSize)
	case !(t.LearningRate > 0):
		return fmt.Errorf("%s: learning_rate is %g, want positive", stage, t.LearningRate)
	}
	return nil
}

// Progress of a training stage.
type Progress struct {
	Stage       string
	First       int // Steps that an earlier sitting made.
	Step, Steps int
	Loss        float64 // Mean over the steps since the last report.
}

// runtime is what all stages need.
type runtime struct {
	backend  compute.Backend
	lowering nn.Lowering
	workers  int
	report   func(Progress)
	progress *progressFile
}

// shardOf returns a shard size that gives every worker at least one shard.
func (r *runtime) shardOf(batch int) int {
	size := batch / r.workers
	for size > 1 && batch%size != 0 {
		size--
	}
	return max(1, min(size, 64))
}

// trainAutoencoder fits a KL autoencoder: mean absolute plus squared error of
// the pixels, plus klWeight times the divergence per latent value. weights hold
// the names of the autoencoder below "vae.".
func trainAutoencoder(ctx context.Context, r *runtime, c *autoencoder.Config, w *nn.Weights, im *images, t Training, klWeight float64) error {
	padded := paddedSize(im.size, c.Factor())
	grid := padded / c.Factor()
	shard := r.shardOf(t.BatchSize)
	trainer, err := optim.NewTrainer(r.backend, optim.TrainerOptions{
		NN: nn.Options{Lowering: r.lowering}, Weights: w, Trainable: w.Names(),
		Loss: func(s *nn.Scope, inputs []*graph.Node) *graph.Node {
			s = s.In("vae")
			image, noise := inputs[0], inputs[1]
			mean, logvar := c.Encode(s, image)
			out := c.Decode(s, autoencoder.Sample(mean, logvar, noise))
			diff := graph.Reshape(graph.Sub(out, image), shard, -1)
			pixels := graph.ReduceMean(graph.Add(graph.Abs(diff), graph.Mul(diff, diff)), 1)
			divergence := graph.DivScalar(autoencoder.Divergence(mean, logvar), float64(grid*grid*c.LatentChannels))
			return graph.Add(pixels, graph.MulScalar(divergence, klWeight))
		},
		ShardSize: shard, Workers: r.workers, EMADecay: 0.999, ClipNorm: 1,
		Adam: optim.AdamW{LearningRate: t.LearningRate, Beta2: 0.99},
	})
	if err != nil {
		return err
	}
	defer trainer.Close()
	return r.loop(ctx, "autoencoder", trainer, t, func(step int, positions []int) ([]*tensors.Tensor, error) {
		var pixels []float32
		for _, p := range positions {
			pixels, _ = im.draw(pixels, step*t.BatchSize+p, padded)
		}
		rng := drawSource(1, step, positions[0])
		n := len(positions)
		return []*tensors.Tensor{
			tensors.FromFlatDataAndDimensions(pixels, n, padded, padded, im.channels),
			tensors.FromFlatDataAndDimensions(normals(rng, n*grid*grid*c.LatentChannels), n, grid, grid, c.LatentChannels),
		}, nil
	})
}

// loop runs the steps of one stage that an earlier sitting has not run, and keeps the averaged weights.
func (r *runtime) loop(ctx context.Context, stage string, trainer *optim.Trainer, t Training, fetch func(step int, positions []int) ([]*tensors.Tensor, error)) error {
	first, done, err := r.progress.begin(stage, trainer)
	if err != nil || done {
		return err
	}
	var sum float64
	var count int
	every := max(1, min(100, t.Steps/50))
	for step := first; step < t.Steps; step++ {
		loss, err := trainer.Step(ctx, t.BatchSize, optim.Cosine.Factor(step, t.Steps, t.Steps/50),
			func(positions []int) ([]*tensors.Tensor, error) { return fetch(step, positions) })
		if err != nil {
			if ctx.Err() != nil {
				return errors.Join(err, r.progress.keep(ctx, stage, step, false, trainer))
			}
			return fmt.Errorf("%s step %d: %w", stage, step, err)
		}
		sum, count = sum+loss, count+1
		if (step+1)%every == 0 || step+1 == t.Steps {
			if r.report != nil {
				r.report(Progress{stage, first, step + 1, t.Steps, sum / float64(count)})
			}
			sum, count = 0, 0
		}
		if err := r.progress.keep(ctx, stage, step+1, step+1 == t.Steps, trainer); err != nil {
			return err
		}
	}
	trainer.Finish()
	return nil
}

// measureLatents returns the mean and standard deviation of the latents of n
// public images: what the diffusion model's scaling is made from.
func measureLatents(r *runtime, c *autoencoder.Config, w *nn.Weights, im *images, n int) (mean, std float64, err error) {
	const batch = 64
	padded := paddedSize(im.size, c.Factor())
	program, err := nn.NewProgram(r.backend, nn.ProgramOptions{
		NN: nn.Options{Lowering: r.lowering}, Weights: w,
		Build: func(s *nn.Scope, _, inputs []*graph.Node) []*graph.Node {
			mean, _ := c.Encode(s.In("vae"), inputs[0])
			return []*graph.Node{mean}
		},
	})
	if err != nil {
		return 0, 0, err
	}
	defer program.Close()
	var sum, squares, count float64
	for at := 0; at < n; at += batch {
		var pixels []float32
		for i := range batch {
			pixels, _ = im.draw(pixels, 1<<40+at+i, padded)
		}
		out, err := program.Run(nil, tensors.FromFlatDataAndDimensions(pixels, batch, padded, padded, im.channels))
		if err != nil {
			return 0, 0, err
		}
		values, err := tensors.CopyFlatData[float32](out[0])
		if err != nil {
			return 0, 0, err
		}
		for _, v := range values {
			sum += float64(v)
			squares += float64(v) * float64(v)
			count++
		}
	}
	mean = sum / count
	return mean, math.Sqrt(squares/count - mean*mean), nil
}

func paddedSize(size, factor int) int { return (size + factor - 1) / factor * factor }

// drawSource is the stream of random draws of a shard: public data, so a plain
// seeded generator will do.
func drawSource(stage uint64, step, position int) *rand.Rand {
	return rand.New(rand.NewPCG(stage<<48+uint64(step), uint64(position)))
}

func normals(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}
