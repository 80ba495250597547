package eval

import (
	"fmt"
	"math"
)

// InceptionScore returns the mean and standard deviation over splits of
// exp(mean_x KL(p(y|x) || p(y))) (Salimans et al. 2016,
// https://arxiv.org/abs/1606.03498), from logits. It looks at one set alone and
// knows the network's classes only: 1 is the least, the number of classes the
// most. Zero splits means 10; images are shuffled as torch-fidelity does.
func InceptionScore(f *Features, splits int) (mean, std float64, err error) {
	if err := f.Check(); err != nil {
		return 0, 0, err
	}
	splits = orInt(splits, 10)
	if f.Classes < 2 || splits < 1 || splits > f.Rows {
		return 0, 0, fmt.Errorf("inception score over %d splits of %d images with %d logits each, want logits and an image or more in a split: %w",
			splits, f.Rows, f.Classes, ErrInvalid)
	}
	logs := make([][]float64, f.Rows)
	for k, i := range newMersenne(defaultSeed).permutation(f.Rows) {
		logs[k] = logSoftmax(f.Logits[i*f.Classes : (i+1)*f.Classes])
	}
	scores := make([]float64, splits)
	for s := range scores {
		part := logs[s*f.Rows/splits : (s+1)*f.Rows/splits]
		marginal := make([]float64, f.Classes)
		for _, row := range part {
			for c, l := range row {
				marginal[c] += math.Exp(l) / float64(len(part))
			}
		}
		divergence := 0.0
		for _, row := range part {
			for c, l := range row {
				if p := math.Exp(l); p > 0 {
					divergence += p * (l - math.Log(marginal[c])) / float64(len(part))
				}
			}
		}
		scores[s] = math.Exp(divergence)
	}
	mean, std = meanStd(scores)
	return mean, std, nil
}

// logSoftmax returns logit - log Σ exp(logits).
func logSoftmax(logits []float32) []float64 {
	out := make([]float64, len(logits))
	top := math.Inf(-1)
	for _, v := range logits {
		top = max(top, float64(v))
	}
	total := 0.0
	for _, v := range logits {
		total += math.Exp(float64(v) - top)
	}
	for c, v := range logits {
		out[c] = float64(v) - top - math.Log(total)
	}
	return out
}
