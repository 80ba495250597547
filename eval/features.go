package eval

import (
	"fmt"
	"math"
	"runtime"
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
)

// Features are the rows that a network gives for a set of images.
type Features struct {
	Rows, Dim int
	Values    []float32 // [rows, dim]

	// Classes and Logits, [rows, classes], are what the network thinks the images
	// show, before any bias where the inception score asks for that. Zero and nil
	// where they are not known: then there is no inception score.
	Classes int
	Logits  []float32
}

// Row returns the features of image i.
func (f *Features) Row(i int) []float32 { return f.Values[i*f.Dim : (i+1)*f.Dim] }

// Subset returns the rows at the indices, in their order.
func (f *Features) Subset(indices []int) *Features {
	out := &Features{Rows: len(indices), Dim: f.Dim, Classes: f.Classes, Values: make([]float32, 0, len(indices)*f.Dim)}
	for _, i := range indices {
		out.Values = append(out.Values, f.Row(i)...)
		if f.Logits != nil {
			out.Logits = append(out.Logits, f.Logits[i*f.Classes:(i+1)*f.Classes]...)
		}
	}
	return out
}

// Check says whether the features are whole and finite.
func (f *Features) Check() error {
	if f.Rows < 1 || f.Dim < 1 || len(f.Values) != f.Rows*f.Dim {
		return fmt.Errorf("features are %d values as %d rows of %d, want at least one row that is full: %w", len(f.Values), f.Rows, f.Dim, ErrInvalid)
	}
	if len(f.Logits) != f.Rows*f.Classes {
		return fmt.Errorf("logits are %d values, want %d rows of %d: %w", len(f.Logits), f.Rows, f.Classes, ErrInvalid)
	}
	for _, values := range [][]float32{f.Values, f.Logits} {
		for _, v := range values {
			if v-v != 0 {
				return fmt.Errorf("features hold a value that is not finite; the network or its weights are broken: %w", ErrInvalid)
			}
		}
	}
	return nil
}

// checkPair says whether two sets of features can be compared.
func checkPair(a, b *Features) error {
	if err := a.Check(); err != nil {
		return err
	}
	if err := b.Check(); err != nil {
		return err
	}
	if a.Dim != b.Dim {
		return fmt.Errorf("features have %d and %d dimensions, want both from one network: %w", a.Dim, b.Dim, ErrInvalid)
	}
	return nil
}

// mean returns the mean of each dimension.
func (f *Features) mean() []float64 {
	mean := make([]float64, f.Dim)
	for i := range f.Rows {
		for j, v := range f.Row(i) {
			mean[j] += float64(v)
		}
	}
	for j := range mean {
		mean[j] /= float64(f.Rows)
	}
	return mean
}

// matrix returns scale·(row - center) for each row in float64. A nil center is zero.
func (f *Features) matrix(center []float64, scale float64) blas64.General {
	out := make([]float64, len(f.Values))
	for i, v := range f.Values {
		out[i] = float64(v)
		if center != nil {
			out[i] -= center[i%f.Dim]
		}
		out[i] *= scale
	}
	return blas64.General{Rows: f.Rows, Cols: f.Dim, Stride: f.Dim, Data: out}
}

// products calls visit for each row i of a with its inner products with all
// rows of b, [b.Rows]. visit may be called by several goroutines at once, with
// different i, and must not keep the slice.
func products(a, b blas64.General, visit func(i int, dots []float64)) {
	const block = 64
	workers := runtime.GOMAXPROCS(0)
	next := make(chan int)
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			dots := make([]float64, block*b.Rows)
			for at := range next {
				rows := min(block, a.Rows-at)
				part := blas64.General{Rows: rows, Cols: a.Cols, Stride: a.Stride, Data: a.Data[at*a.Stride:]}
				out := blas64.General{Rows: rows, Cols: b.Rows, Stride: b.Rows, Data: dots}
				blas64.Gemm(blas.NoTrans, blas.Trans, 1, part, b, 0, out)
				for i := range rows {
					visit(at+i, dots[i*b.Rows:(i+1)*b.Rows])
				}
			}
		})
	}
	for at := 0; at < a.Rows; at += block {
		next <- at
	}
	close(next)
	wait.Wait()
}

// squaredNorms returns |row|² for each row.
func squaredNorms(m blas64.General) []float64 {
	out := make([]float64, m.Rows)
	for i := range out {
		for _, v := range m.Data[i*m.Stride : i*m.Stride+m.Cols] {
			out[i] += v * v
		}
	}
	return out
}

// meanStd returns the mean and the standard deviation, with divisor n, as numpy does.
func meanStd(values []float64) (mean, std float64) {
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		std += (v - mean) * (v - mean) / float64(len(values))
	}
	return mean, math.Sqrt(std)
}
