package eval

import (
	"fmt"

	"gonum.org/v1/gonum/blas/blas64"
)

// KIDOptions fix the subsets of [KID]. The zero value is torch-fidelity's default.
type KIDOptions struct {
	Subsets    int    // Zero means 100.
	SubsetSize int    // Zero means 1000, or as many as the smaller set has.
	Seed       uint32 // Zero means 2020, torch-fidelity's.
}

func (o KIDOptions) withDefaults(a, b *Features) KIDOptions {
	o.Subsets = orInt(o.Subsets, 100)
	o.SubsetSize = orInt(o.SubsetSize, min(1000, a.Rows, b.Rows))
	if o.Seed == 0 {
		o.Seed = defaultSeed
	}
	return o
}

// defaultSeed is torch-fidelity's, so that subsets and splits are the same.
const defaultSeed = 2020

// KID returns the mean and standard deviation, over random subsets, of the
// unbiased estimate of the squared maximum mean discrepancy with the kernel
// (x·y/dim + 1)³ (Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401). A
// mean slightly below zero is right for two sets of one distribution.
//
// With the same seed the subsets are those of torch-fidelity, a being its first
// input.
func KID(a, b *Features, o KIDOptions) (mean, std float64, err error) {
	if err := checkPair(a, b); err != nil {
		return 0, 0, err
	}
	o = o.withDefaults(a, b)
	m := o.SubsetSize
	if m < 2 || m > min(a.Rows, b.Rows) || o.Subsets < 1 {
		return 0, 0, fmt.Errorf("KID over %d subsets of %d from %d and %d images, want 1 or more of 2 to the size of the smaller set: %w",
			o.Subsets, m, a.Rows, b.Rows, ErrInvalid)
	}
	rowsA, rowsB := a.matrix(nil, 1), b.matrix(nil, 1)
	kernels := subsetKernels{dim: a.Dim, a: rowsA, b: rowsB}
	// All pairs once, or the pairs of each subset: whichever is less.
	if all, each := pairs(a.Rows, b.Rows), o.Subsets*pairs(m, m); all <= 2*each && all <= maxKernelPairs {
		kernels.fill()
	}
	random := newMersenne(o.Seed)
	estimates := make([]float64, o.Subsets)
	for s := range estimates {
		i := random.choice(a.Rows, m)
		j := random.choice(b.Rows, m)
		within, across := kernels.sums(i, j)
		estimates[s] = within/float64(m*(m-1)) - 2*across/float64(m*m)
	}
	mean, std = meanStd(estimates)
	return mean, std, nil
}

// maxKernelPairs bounds the memory of kept kernels: 8 bytes each.
const maxKernelPairs = 100 << 20

func pairs(a, b int) int { return a*a + b*b + a*b }

// subsetKernels gives sums of kernels over subsets.
type subsetKernels struct {
	dim        int
	a, b       blas64.General
	aa, bb, ab []float64 // Kernels of all pairs; nil where they are not kept.
}

func (k *subsetKernels) kernel(dot float64) float64 {
	t := dot/float64(k.dim) + 1
	return t * t * t
}

// fill computes the kernels of all pairs.
func (k *subsetKernels) fill() {
	all := func(x, y blas64.General) []float64 {
		out := make([]float64, x.Rows*y.Rows)
		products(x, y, func(i int, dots []float64) {
			for j, d := range dots {
				out[i*y.Rows+j] = k.kernel(d)
			}
		})
		return out
	}
	k.aa, k.bb, k.ab = all(k.a, k.a), all(k.b, k.b), all(k.a, k.b)
}

// sums returns Σ_{i≠i'} k(a_i, a_i') + Σ_{j≠j'} k(b_j, b_j') and Σ_{i,j} k(a_i, b_j).
func (k *subsetKernels) sums(i, j []int) (within, across float64) {
	if k.aa == nil {
		a, b := pick(k.a, i), pick(k.b, j)
		within = k.direct(a, a, true) + k.direct(b, b, true)
		return within, k.direct(a, b, false)
	}
	within = kept(k.aa, k.a.Rows, i, i, true) + kept(k.bb, k.b.Rows, j, j, true)
	return within, kept(k.ab, k.b.Rows, i, j, false)
}

func kept(kernels []float64, width int, i, j []int, skipSame bool) float64 {
	total := 0.0
	for x, p := range i {
		row := kernels[p*width : (p+1)*width]
		part := 0.0
		for _, q := range j {
			part += row[q]
		}
		if skipSame {
			part -= row[j[x]]
		}
		total += part
	}
	return total
}

func (k *subsetKernels) direct(a, b blas64.General, skipSame bool) float64 {
	rows := make([]float64, a.Rows)
	products(a, b, func(i int, dots []float64) {
		for j, d := range dots {
			if !skipSame || i != j {
				rows[i] += k.kernel(d)
			}
		}
	})
	return sum(rows)
}

// pick copies rows.
func pick(m blas64.General, rows []int) blas64.General {
	out := blas64.General{Rows: len(rows), Cols: m.Cols, Stride: m.Cols, Data: make([]float64, 0, len(rows)*m.Cols)}
	for _, i := range rows {
		out.Data = append(out.Data, m.Data[i*m.Stride:i*m.Stride+m.Cols]...)
	}
	return out
}
