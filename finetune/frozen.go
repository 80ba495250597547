package finetune

import (
	"slices"

	"github.com/scumble-dp/scumble/nn"
)

// releaseFrom is the number of frozen parameters from which the model's host copy
// of them is given up while a run trains: below that it is not worth a thought.
const releaseFrom = 64 << 20

// baseOptions says how a run keeps the weights that do not train.
func baseOptions(c *Config, weights *nn.Weights, trainable []string, from int) nn.BaseOptions {
	if from == 0 {
		from = releaseFrom
	}
	frozen := 0
	for _, t := range weights.All() {
		if !slices.Contains(trainable, t.Name) {
			frozen += t.Size()
		}
	}
	// A warm start, a choice of classes and a teacher of public images run the model on its own before the steps.
	alone := c.WarmStart.Means > 0 || c.ClassChoice.NoiseMultiplier > 0 || c.ClassChoice.Share > 0 || c.Teacher.PublicImages > 0
	return nn.BaseOptions{Precision: c.Training.BasePrecision, Release: frozen >= from && !alone}
}
