package eval

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gonum.org/v1/gonum/mat"

	"github.com/scumble-dp/scumble/dataset"
)

// predictBaseline is a classifier that needs no gradients.
func predictBaseline(ctx context.Context, kind Classifier, train, test *dataset.Set) ([]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	size := train.Height
	if kind == LDA {
		size = min(16, size)
	}
	x, y := imageRows(train, size), imageRows(test, size)
	switch kind {
	case Neighbours:
		return nearestNeighbours(x, y, train.Labels, len(train.Classes))
	case NearestMean:
		return nearestMeans(x, y, train.Labels, len(train.Classes)), nil
	case LDA:
		return discriminant(x, y, train.Labels, len(train.Classes))
	}
	return nil, fmt.Errorf("no baseline %q", kind)
}

// imageRows returns images as rows of pixels in [0, 1], made smaller the clean way.
func imageRows(s *dataset.Set, size int) *Features {
	f := &Features{Rows: s.Len(), Dim: size * size * s.Channels}
	for i := range s.Len() {
		for _, v := range newPicture(s.Height, s.Width, s.Channels, s.Image(i)).to(size, size, ResizeClean).values {
			f.Values = append(f.Values, v/255)
		}
	}
	return f
}

// nearestNeighbours lets the 5 nearest training images vote; a tie goes to the
// class of the nearest among those that lead.
func nearestNeighbours(train, test *Features, labels []int, classes int) ([]int, error) {
	k := min(5, train.Rows)
	x, y := train.matrix(nil, 1), test.matrix(nil, 1)
	norms := squaredNorms(x)
	predicted := make([]int, test.Rows)
	products(y, x, func(i int, dots []float64) {
		for j := range dots {
			dots[j] = norms[j] - 2*dots[j] // The squared distance, less |y|².
		}
		limit := smallest(dots, k)
		var near []int
		for j, d := range dots {
			if d <= limit {
				near = append(near, j)
			}
		}
		slices.SortStableFunc(near, func(a, b int) int {
			switch {
			case dots[a] < dots[b]:
				return -1
			case dots[a] > dots[b]:
				return 1
			}
			return 0
		})
		votes := make([]int, classes)
		for _, j := range near[:k] {
			votes[labels[j]]++
		}
		best := labels[near[0]]
		for _, j := range near[:k] {
			if votes[labels[j]] > votes[best] {
				best = labels[j]
			}
		}
		predicted[i] = best
	})
	return predicted, nil
}

// classMeans returns the mean row of each class, nil for one without images, and
// the number of its images.
func classMeans(f *Features, labels []int, classes int) (means [][]float64, count []int) {
	means, count = make([][]float64, classes), make([]int, classes)
	for i, label := range labels {
		if means[label] == nil {
			means[label] = make([]float64, f.Dim)
		}
		count[label]++
		for j, v := range f.Row(i) {
			means[label][j] += float64(v)
		}
	}
	for c, mean := range means {
		for j := range mean {
			mean[j] /= float64(count[c])
		}
	}
	return means, count
}

func nearestMeans(train, test *Features, labels []int, classes int) []int {
	means, _ := classMeans(train, labels, classes)
	predicted := make([]int, test.Rows)
	for i := range predicted {
		row := make([]float64, test.Dim)
		for j, v := range test.Row(i) {
			row[j] = float64(v)
		}
		best, least := -1, 0.0
		for c, mean := range means {
			if mean == nil {
				continue
			}
			if d := squaredDistance(row, mean); best < 0 || d < least {
				best, least = c, d
			}
		}
		predicted[i] = best
	}
	return predicted
}

// discriminant is linear discriminant analysis with equal priors: the class with
// the largest m·C⁻¹·x - m·C⁻¹·m/2, where C is the covariance within classes. A
// hundredth of its mean variance is added to the diagonal, so that pixels that
// never vary do no harm.
func discriminant(train, test *Features, labels []int, classes int) ([]int, error) {
	means, _ := classMeans(train, labels, classes)
	within := train.matrix(nil, 1)
	for i, label := range labels {
		row := within.Data[i*within.Stride : (i+1)*within.Stride]
		for j := range row {
			row[j] -= means[label][j]
		}
	}
	covariance := mat.NewSymDense(train.Dim, nil)
	covariance.SymOuterK(1/float64(train.Rows), dense(within).T())
	ridge := 0.01*mat.Trace(covariance)/float64(train.Dim) + 1e-9
	for j := range train.Dim {
		covariance.SetSym(j, j, covariance.At(j, j)+ridge)
	}
	var cholesky mat.Cholesky
	if !cholesky.Factorize(covariance) {
		return nil, errors.New("covariance within classes is not positive definite")
	}
	predicted := make([]int, test.Rows)
	scores := make([]float64, test.Rows)
	started := false
	for c, mean := range means {
		if mean == nil {
			continue
		}
		var direction mat.VecDense
		if err := cholesky.SolveVecTo(&direction, mat.NewVecDense(train.Dim, mean)); err != nil {
			return nil, fmt.Errorf("covariance within classes: %w", err)
		}
		offset := mat.Dot(&direction, mat.NewVecDense(train.Dim, mean)) / 2
		for i := range predicted {
			score := -offset
			for j, v := range test.Row(i) {
				score += float64(v) * direction.AtVec(j)
			}
			if !started || score > scores[i] {
				predicted[i], scores[i] = c, score
			}
		}
		started = true
	}
	return predicted, nil
}
