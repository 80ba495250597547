package eval

import (
	"fmt"
	"math"
	"sync"

	"gonum.org/v1/gonum/blas/blas64"
)

// PrecisionRecall holds how much of each set lies in the other's manifold.
type PrecisionRecall struct {
	Precision float64 // Share of synthetic images within a reference image's neighbourhood.
	Recall    float64 // Share of reference images within a synthetic image's neighbourhood.
	FScore    float64 // Harmonic mean of the two.
}

// NewPrecisionRecall estimates each manifold by balls around its images that
// reach to the k-th nearest neighbour (Kynkäänniemi et al. 2019,
// https://arxiv.org/abs/1904.06991). Zero means 3, as in the paper and in
// torch-fidelity; DPImageBench takes 4.
func NewPrecisionRecall(synthetic, reference *Features, neighbours int) (PrecisionRecall, error) {
	k := orInt(neighbours, 3)
	d, err := newDistances(synthetic, reference, k)
	if err != nil {
		return PrecisionRecall{}, err
	}
	radiusS, radiusR := d.radii(d.synthetic, d.normS, k), d.radii(d.reference, d.normR, k)
	covered := make([]bool, d.synthetic.Rows) // By a ball of the reference.
	reached := make([]bool, d.reference.Rows) // By a ball of the synthetic images.
	var mutex sync.Mutex
	d.each(func(i int, distances []float64) {
		var hits []int
		for j, v := range distances {
			if v <= radiusR[j] {
				covered[i] = true
			}
			if v <= radiusS[i] {
				hits = append(hits, j)
			}
		}
		mutex.Lock()
		defer mutex.Unlock()
		for _, j := range hits {
			reached[j] = true
		}
	})
	p, r := share(covered), share(reached)
	return PrecisionRecall{Precision: p, Recall: r, FScore: 2 * p * r / max(1e-5, p+r)}, nil
}

// DensityCoverage holds Naeem et al.'s answers to outliers in precision and recall.
type DensityCoverage struct {
	Density  float64 // Reference neighbourhoods that a synthetic image is in, on average, over k. May exceed 1.
	Coverage float64 // Share of reference images whose neighbourhood holds a synthetic image.
}

// NewDensityCoverage returns density and coverage with k nearest neighbours
// (Naeem et al. 2020, Eq. 5 and 7, https://arxiv.org/abs/2002.09797). Zero means
// 5, as in the paper.
func NewDensityCoverage(synthetic, reference *Features, neighbours int) (DensityCoverage, error) {
	k := orInt(neighbours, 5)
	d, err := newDistances(synthetic, reference, k)
	if err != nil {
		return DensityCoverage{}, err
	}
	radius := d.radii(d.reference, d.normR, k)
	inside := make([]int, d.synthetic.Rows)
	held := make([]bool, d.reference.Rows)
	var mutex sync.Mutex
	d.each(func(i int, distances []float64) {
		var hits []int
		for j, v := range distances {
			if v < radius[j] {
				hits = append(hits, j)
			}
		}
		inside[i] = len(hits)
		mutex.Lock()
		defer mutex.Unlock()
		for _, j := range hits {
			held[j] = true
		}
	})
	total := 0
	for _, n := range inside {
		total += n
	}
	return DensityCoverage{
		Density:  float64(total) / float64(k) / float64(d.synthetic.Rows),
		Coverage: share(held),
	}, nil
}

// distances gives squared distances between rows, in float64. Both sets are
// moved by the reference's mean, which changes no distance and keeps the
// differences of large products accurate.
type distances struct {
	synthetic, reference blas64.General
	normS, normR         []float64
}

func newDistances(synthetic, reference *Features, neighbours int) (*distances, error) {
	if err := checkPair(synthetic, reference); err != nil {
		return nil, err
	}
	if n := min(synthetic.Rows, reference.Rows); neighbours < 1 || neighbours >= n {
		return nil, fmt.Errorf("%d nearest neighbours among %d and %d images, want 1 or more, and fewer than images: %w",
			neighbours, synthetic.Rows, reference.Rows, ErrInvalid)
	}
	center := reference.mean()
	d := &distances{synthetic: synthetic.matrix(center, 1), reference: reference.matrix(center, 1)}
	d.normS, d.normR = squaredNorms(d.synthetic), squaredNorms(d.reference)
	return d, nil
}

// each calls visit with the squared distances of each synthetic row to all
// reference rows.
func (d *distances) each(visit func(i int, distances []float64)) {
	products(d.synthetic, d.reference, func(i int, dots []float64) {
		for j := range dots {
			dots[j] = max(0, d.normS[i]+d.normR[j]-2*dots[j])
		}
		visit(i, dots)
	})
}

// radii returns the squared distance of each row to its k-th nearest other row.
func (d *distances) radii(rows blas64.General, norms []float64, k int) []float64 {
	out := make([]float64, rows.Rows)
	products(rows, rows, func(i int, dots []float64) {
		for j := range dots {
			dots[j] = max(0, norms[i]+norms[j]-2*dots[j])
		}
		dots[i] = 0 // Exactly: itself is the first of its k+1 nearest.
		out[i] = smallest(dots, k+1)
	})
	return out
}

// smallest returns the k-th smallest value, k from 1.
func smallest(values []float64, k int) float64 {
	best := make([]float64, k) // Ascending.
	for i := range best {
		best[i] = math.Inf(1)
	}
	for _, v := range values {
		if v >= best[k-1] {
			continue
		}
		i := k - 1
		for ; i > 0 && best[i-1] > v; i-- {
			best[i] = best[i-1]
		}
		best[i] = v
	}
	return best[k-1]
}

func share(hits []bool) float64 {
	n := 0
	for _, hit := range hits {
		if hit {
			n++
		}
	}
	return float64(n) / float64(len(hits))
}
