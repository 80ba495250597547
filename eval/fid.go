package eval

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// Moments are the mean and the covariance (divisor n-1) of features: what FID
// sees of a set.
type Moments struct {
	Mean       []float64
	Covariance *mat.SymDense
	Rows       int // How many rows they are of; 0 where that is not known.
}

// NewMoments returns the moments of features with two rows or more.
func NewMoments(f *Features) (*Moments, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	if f.Rows < 2 {
		return nil, fmt.Errorf("covariance of %d image, want at least 2: %w", f.Rows, ErrInvalid)
	}
	mean := f.mean()
	centred := f.matrix(mean, 1/math.Sqrt(float64(f.Rows-1)))
	covariance := mat.NewSymDense(f.Dim, nil)
	covariance.SymOuterK(1, dense(centred).T())
	return &Moments{Mean: mean, Covariance: covariance, Rows: f.Rows}, nil
}

func dense(g blas64.General) *mat.Dense { return mat.NewDense(g.Rows, g.Cols, g.Data) }

// FID returns the Fréchet distance between the normal distributions with the
// moments of two sets of features (Heusel et al. 2017, Eq. 6,
// https://arxiv.org/abs/1706.08500):
//
//	|m_a - m_b|² + tr(C_a) + tr(C_b) - 2·tr((C_a·C_b)^½)
//
// It depends on the number of images: with few it is too large. Where a set has
// fewer rows than dimensions its covariance is singular; the trace of the root
// is then taken from the rows, without forming covariances, and is exact.
func FID(a, b *Features) (float64, error) {
	if err := checkPair(a, b); err != nil {
		return 0, err
	}
	if min(a.Rows, b.Rows) < 2 {
		return 0, fmt.Errorf("FID of %d and %d images, want at least 2 each: %w", a.Rows, b.Rows, ErrInvalid)
	}
	if min(a.Rows, b.Rows) > a.Dim {
		ma, err := NewMoments(a)
		if err != nil {
			return 0, err
		}
		mb, err := NewMoments(b)
		if err != nil {
			return 0, err
		}
		return FrechetDistance(ma, mb)
	}
	meanA, meanB := a.mean(), b.mean()
	rowsA := a.matrix(meanA, 1/math.Sqrt(float64(a.Rows-1)))
	rowsB := b.matrix(meanB, 1/math.Sqrt(float64(b.Rows-1)))
	// With C_a = AᵀA and C_b = BᵀB, the roots of the eigenvalues of C_a·C_b are
	// the singular values of A·Bᵀ.
	cross := mat.NewDense(a.Rows, b.Rows, nil)
	products(rowsA, rowsB, func(i int, dots []float64) { cross.SetRow(i, dots) })
	root, err := sumSingularValues(cross)
	if err != nil {
		return 0, err
	}
	return squaredDistance(meanA, meanB) + sum(squaredNorms(rowsA)) + sum(squaredNorms(rowsB)) - 2*root, nil
}

// sumSingularValues takes the side that is shorter: m·mᵀ would square the
// condition number, so it factorises m itself.
func sumSingularValues(m *mat.Dense) (float64, error) {
	var svd mat.SVD
	if !svd.Factorize(m, mat.SVDNone) {
		return 0, errors.New("singular values did not converge")
	}
	return sum(svd.Values(nil)), nil
}

// FrechetDistance is FID by moments alone.
func FrechetDistance(a, b *Moments) (float64, error) {
	n := len(a.Mean)
	if len(b.Mean) != n || a.Covariance.SymmetricDim() != n || b.Covariance.SymmetricDim() != n {
		return 0, fmt.Errorf("moments have %d and %d dimensions, want both from one network: %w", n, len(b.Mean), ErrInvalid)
	}
	root, err := traceOfRoot(a.Covariance, b.Covariance)
	if err != nil {
		return 0, err
	}
	return squaredDistance(a.Mean, b.Mean) + mat.Trace(a.Covariance) + mat.Trace(b.Covariance) - 2*root, nil
}

// traceOfRoot returns tr((a·b)^½) of positive semidefinite matrices. With
// a = L·Lᵀ the eigenvalues of a·b are those of the symmetric Lᵀ·b·L.
func traceOfRoot(a, b *mat.SymDense) (float64, error) {
	n := a.SymmetricDim()
	factor := mat.NewDense(n, n, nil)
	var cholesky mat.Cholesky
	if cholesky.Factorize(a) {
		var l mat.TriDense
		cholesky.LTo(&l)
		factor.Copy(&l)
	} else if err := symmetricRoot(factor, a); err != nil { // Singular.
		return 0, err
	}
	var half, whole mat.Dense
	half.Mul(b, factor)
	whole.Mul(factor.T(), &half)
	symmetric := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			symmetric.SetSym(i, j, (whole.At(i, j)+whole.At(j, i))/2)
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(symmetric, false) {
		return 0, errors.New("eigenvalues of the covariance did not converge")
	}
	root := 0.0
	for _, v := range eigen.Values(nil) {
		root += math.Sqrt(max(v, 0)) // Below zero by rounding alone.
	}
	return root, nil
}

// symmetricRoot sets into to a^½ by eigenvalues.
func symmetricRoot(into *mat.Dense, a *mat.SymDense) error {
	var eigen mat.EigenSym
	if !eigen.Factorize(a, true) {
		return errors.New("eigenvalues of the covariance did not converge")
	}
	n := a.SymmetricDim()
	var vectors, scaled mat.Dense
	eigen.VectorsTo(&vectors)
	roots := eigen.Values(nil)
	for i := range roots {
		roots[i] = math.Sqrt(max(roots[i], 0))
	}
	scaled.Mul(&vectors, mat.NewDiagDense(n, roots))
	into.Mul(&scaled, vectors.T())
	return nil
}

func squaredDistance(a, b []float64) float64 {
	d := 0.0
	for i := range a {
		d += (a[i] - b[i]) * (a[i] - b[i])
	}
	return d
}

func sum(values []float64) float64 {
	s := 0.0
	for _, v := range values {
		s += v
	}
	return s
}
