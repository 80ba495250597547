package pretrain

import (
	"context"
	"fmt"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
	"github.com/scumble-dp/scumble/pipeline"
)

// Phase is one pre-training step of the denoiser. DP-LoDA has two: without
// labels, then with labels and a share of them dropped.
type Phase struct {
	Training  `yaml:",inline"`
	LabelDrop float64 `yaml:"label_drop" json:"label_drop"` // Chance of the null class, in [0, 1]; 1 is unconditional.
}

// trainDenoiser runs one phase. grids draws public images as UNet inputs.
func trainDenoiser(ctx context.Context, r *runtime, m *checkpoint.Model, number int, p Phase, grids gridSource) error {
	schedule, err := diffusion.NewSchedule(m.Scheduler)
	if err != nil {
		return err
	}
	weights := pipeline.Component(m.Weights, "unet", "class_embedder", "text_encoder")
	shard := r.shardOf(p.BatchSize)
	trainer, err := optim.NewTrainer(r.backend, optim.TrainerOptions{
		NN: nn.Options{Lowering: r.lowering}, Weights: weights, Trainable: weights.Names(),
		Loss: func(s *nn.Scope, inputs []*graph.Node) *graph.Node {
			return pipeline.ExampleLoss(m, schedule, s, pipeline.NewLossInputs(inputs))
		},
		ShardSize: shard, Workers: r.workers, EMADecay: 0.999, ClipNorm: 1,
		Adam: optim.AdamW{LearningRate: p.LearningRate, Beta2: 0.99},
	})
	if err != nil {
		return err
	}
	defer trainer.Close()
	stage := fmt.Sprintf("denoiser, step %d", number)
	return r.loop(ctx, stage, trainer, p.Training, func(step int, positions []int) ([]*tensors.Tensor, error) {
		n := len(positions)
		rng := drawSource(uint64(10+number), step, positions[0])
		clean, conditions, err := grids.draw(number<<32+step*p.BatchSize+positions[0], n)
		if err != nil {
			return nil, err
		}
		t := make([]int32, n)
		for i := range n {
			t[i] = int32(rng.IntN(schedule.Steps()))
			if rng.Float64() < p.LabelDrop {
				conditions[i] = condition{label: m.NullClass()}
			}
		}
		g := grids.canvas.Grid
		return []*tensors.Tensor{
			tensors.FromFlatDataAndDimensions(clean, n, g, g, grids.canvas.Depth),
			tensors.FromFlatDataAndDimensions(normals(rng, len(clean)), n, g, g, grids.canvas.Depth),
			tensors.FromFlatDataAndDimensions(t, n),
			conditionTensor(m, conditions),
		}, nil
	})
}

// conditionTensor returns labels [n], or the tokens of captions [n, tokens].
func conditionTensor(m *checkpoint.Model, conditions []condition) *tensors.Tensor {
	if m.TextEncoder != nil {
		texts := make([]string, len(conditions))
		for i, c := range conditions {
			texts[i] = c.caption
		}
		return tensors.FromFlatDataAndDimensions(m.Tokens(texts), len(texts), m.TextLength())
	}
	labels := make([]int32, len(conditions))
	for i, c := range conditions {
		labels[i] = int32(c.label)
	}
	return tensors.FromFlatDataAndDimensions(labels, len(labels))
}
