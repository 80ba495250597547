package finetune

import (
	"slices"

	"github.com/scumble-dp/scumble/nn"
)

const (
	// releaseFrom is the number of frozen parameters from which the model's host copy
	// of them, 16 MiB, is given up while a run trains: below that it is not worth a thought.
	releaseFrom = 4 << 20
	// returnFrom is the number from which blocks of memory that are free go back to the
	// machine, which takes time: they would fill it.
	returnFrom = 64 << 20
)

// baseOptions says how a run keeps the weights that do not train.
func baseOptions(c *Config, weights *nn.Weights, trainable []string, from int) nn.BaseOptions {
	if from == 0 {
		from = releaseFrom
	}
	// A warm start, a choice of classes and a teacher of public images run the model on its own before the steps.
	alone := c.WarmStart.Means > 0 || c.ClassChoice.NoiseMultiplier > 0 || c.ClassChoice.Share > 0 || c.Teacher.PublicImages > 0
	return nn.BaseOptions{Precision: c.Training.BasePrecision, Release: frozenValues(weights, trainable) >= from && !alone}
}

// frozenValues returns how many parameters do not train.
func frozenValues(weights *nn.Weights, trainable []string) int {
	n := 0
	for _, t := range weights.All() {
		if !slices.Contains(trainable, t.Name) {
			n += t.Size()
		}
	}
	return n
}
