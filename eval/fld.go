package eval

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/blas/blas64"
)

// FLD returns the feature likelihood divergence of generated images (Jiralerspong
// et al. 2023, https://arxiv.org/abs/2302.04440): how badly a mixture of Gaussians
// centred at the generated features, with a width for each fitted to the training
// features, explains test features that neither has seen. Copies of training
// images get narrow widths and explain nothing else, so copying costs.
//
// It is 100·(negative log-likelihood per dimension - that of the baseline), where
// the baseline's centres are half of the training features, fitted to the other
// half. Lower is better; around 0 is as good as real images. It is sound only
// where the test images are apart from the training ones.
func FLD(train, test, generated *Features) (float64, error) {
	if err := checkPair(train, test); err != nil {
		return 0, err
	}
	if err := checkPair(train, generated); err != nil {
		return 0, err
	}
	const least = 50
	if min(train.Rows, test.Rows, generated.Rows) < least {
		return 0, fmt.Errorf("FLD of %d training, %d test and %d generated images, want at least %d of each: %w",
			train.Rows, test.Rows, generated.Rows, least, ErrInvalid)
	}
	s := newStandardizer(test)
	trainRows, testRows, generatedRows := s.rows(train), s.rows(test), s.rows(generated)
	if trainRows.Cols == 0 {
		return 0, fmt.Errorf("no feature of the test images varies, want some that do: %w", ErrInvalid)
	}
	got := newMixture(generatedRows, trainRows).negativeLogLikelihood(testRows)
	order := newMersenne(defaultSeed).permutation(train.Rows)
	half := min(generated.Rows, train.Rows/2)
	baseline := newMixture(pick(trainRows, order[:half]), pick(trainRows, order[half:])).negativeLogLikelihood(testRows)
	return 100 * (got - baseline), nil
}

// FLDOfSplit is FLD where one reference set stands for training and test images:
// it is split into halves at random, always the same. Where the model saw the
// reference images it cannot see copying of the test half; [FLD] with a held-out
// set can.
func FLDOfSplit(generated, reference *Features) (float64, error) {
	order := newMersenne(defaultSeed).permutation(reference.Rows)
	half := reference.Rows / 2
	return FLD(reference.Subset(order[:half]), reference.Subset(order[half:]), generated)
}

// standardizer brings features to mean 0 and variance 1 of one set, leaving out
// those that do not vary there.
type standardizer struct {
	columns   []int
	mean, std []float64
}

func newStandardizer(f *Features) *standardizer {
	mean := f.mean()
	s := &standardizer{}
	for j, m := range mean {
		square := 0.0
		for i := range f.Rows {
			d := float64(f.Values[i*f.Dim+j]) - m
			square += d * d
		}
		if std := math.Sqrt(square / float64(f.Rows-1)); std > 0 {
			s.columns, s.mean, s.std = append(s.columns, j), append(s.mean, m), append(s.std, std)
		}
	}
	return s
}

func (s *standardizer) rows(f *Features) blas64.General {
	n := len(s.columns)
	out := blas64.General{Rows: f.Rows, Cols: n, Stride: n, Data: make([]float64, f.Rows*n)}
	for i := range f.Rows {
		for k, j := range s.columns {
			out.Data[i*n+k] = (float64(f.Values[i*f.Dim+j]) - s.mean[k]) / s.std[k]
		}
	}
	return out
}

// mixture is a uniform mixture of isotropic Gaussians.
type mixture struct {
	centers      blas64.General
	logVariances []float64
}

// newMixture fits the widths of Gaussians at centers to data by Adam on the mean
// log-likelihood per dimension, with all data in each step: the authors' rate,
// steps and start, the variance at which the nearest datum is likeliest. While
// it fits, one broad component more, about the mean of the data, keeps data that
// are far from all centres from deciding everything.
func newMixture(centers, data blas64.General) *mixture {
	const steps, rate, beta1, beta2, epsilon = 50, 0.5, 0.9, 0.999, 1e-8
	n, dim := centers.Rows, float64(centers.Cols)
	squares := squaredDistances(data, centers)
	m := &mixture{centers: centers, logVariances: make([]float64, n)}
	for j := range n {
		nearest := math.Inf(1)
		for i := range data.Rows {
			nearest = min(nearest, squares[i*n+j])
		}
		m.logVariances[j] = math.Log((nearest + 1e-3) / dim)
	}
	broad := broadDistances(data)
	// The last entry of each is the broad component's.
	values := append(append([]float64(nil), m.logVariances...), 0)
	first, second := make([]float64, n+1), make([]float64, n+1)
	logs := make([]float64, n+1)
	for step := 1; step <= steps; step++ {
		gradient := make([]float64, n+1)
		for i := range data.Rows {
			row := squares[i*n : (i+1)*n]
			for j, d := range row {
				logs[j] = logGaussian(d, values[j], dim) - math.Log(float64(n))
			}
			logs[n] = logGaussian(broad[i], values[n], dim)
			total := logSumExp(logs)
			for j := range logs {
				d := broad[i]
				if j < n {
					d = row[j]
				}
				// d/dv of the loss: -responsibility·(d/(2·exp v) - dim/2)/(dim·rows).
				p := math.Exp(logs[j] - total)
				if p > 0 {
					gradient[j] -= p * (d/(2*math.Exp(values[j])) - dim/2) / dim / float64(data.Rows)
				}
			}
		}
		for j, g := range gradient {
			first[j] = beta1*first[j] + (1-beta1)*g
			second[j] = beta2*second[j] + (1-beta2)*g*g
			scale := math.Sqrt(second[j]/(1-math.Pow(beta2, float64(step)))) + epsilon
			values[j] -= rate * first[j] / (1 - math.Pow(beta1, float64(step))) / scale
			if j < n {
				values[j] = min(max(values[j], -40), 20)
			}
		}
	}
	copy(m.logVariances, values)
	return m
}

// negativeLogLikelihood returns the mean over rows, per dimension.
func (m *mixture) negativeLogLikelihood(rows blas64.General) float64 {
	n, dim := m.centers.Rows, float64(m.centers.Cols)
	squares := squaredDistances(rows, m.centers)
	logs := make([]float64, n)
	total := 0.0
	for i := range rows.Rows {
		for j, d := range squares[i*n : (i+1)*n] {
			logs[j] = logGaussian(d, m.logVariances[j], dim) - math.Log(float64(n))
		}
		total -= logSumExp(logs) / dim / float64(rows.Rows)
	}
	return total
}

// logGaussian is log N(x | μ, exp(logVariance)·I) at squared distance d.
func logGaussian(d, logVariance, dim float64) float64 {
	return -d/(2*math.Exp(logVariance)) - dim/2*logVariance - dim/2*math.Log(2*math.Pi)
}

func logSumExp(values []float64) float64 {
	top := math.Inf(-1)
	for _, v := range values {
		top = max(top, v)
	}
	total := 0.0
	for _, v := range values {
		total += math.Exp(v - top)
	}
	return top + math.Log(total)
}

// broadDistances returns 0.81 times the squared distance of each row to the mean.
func broadDistances(rows blas64.General) []float64 {
	mean := make([]float64, rows.Cols)
	for i, v := range rows.Data {
		mean[i%rows.Cols] += v / float64(rows.Rows)
	}
	out := make([]float64, rows.Rows)
	for i := range out {
		out[i] = 0.81 * squaredDistance(rows.Data[i*rows.Cols:(i+1)*rows.Cols], mean)
	}
	return out
}

// squaredDistances returns [a.Rows, b.Rows].
func squaredDistances(a, b blas64.General) []float64 {
	out := make([]float64, a.Rows*b.Rows)
	normA, normB := squaredNorms(a), squaredNorms(b)
	products(a, b, func(i int, dots []float64) {
		for j, d := range dots {
			out[i*b.Rows+j] = max(0, normA[i]+normB[j]-2*d)
		}
	})
	return out
}
