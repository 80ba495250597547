package audit

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// upperShare returns the upper end of the Clopper-Pearson interval of a share:
// the p for which k or fewer of n has probability alpha (Clopper and Pearson
// 1934, https://doi.org/10.2307/2331986). 1 where k = n.
func upperShare(k, n int, alpha float64) float64 {
	if k >= n {
		return 1
	}
	return crossing(func(p float64) float64 { return binomialUpTo(k, n, p) }, alpha)
}

// lowerShare returns the lower end: the p for which k or more of n has
// probability alpha. 0 where k = 0.
func lowerShare(k, n int, alpha float64) float64 {
	return 1 - upperShare(n-k, n, alpha)
}

// crossing returns the p in [0, 1] where a falling function reaches alpha,
// rounded up.
func crossing(f func(p float64) float64, alpha float64) float64 {
	lo, hi := 0.0, 1.0
	for range 60 {
		if mid := (lo + hi) / 2; f(mid) > alpha {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// binomialUpTo returns P(X <= k) for X of n coins of probability p, by the
// incomplete beta function (Abramowitz and Stegun 26.5.24).
func binomialUpTo(k, n int, p float64) float64 {
	switch {
	case k < 0:
		return 0
	case k >= n || p <= 0:
		return 1
	case p >= 1:
		return 0
	}
	return mathext.RegIncBeta(float64(n-k), float64(k+1), 1-p)
}

// binomialFrom returns P(X >= k).
func binomialFrom(k, n int, p float64) float64 {
	switch {
	case k <= 0:
		return 1
	case k > n || p <= 0:
		return 0
	case p >= 1:
		return 1
	}
	return mathext.RegIncBeta(float64(k), float64(n-k+1), p)
}

// chiSquareRange returns the ends between which the mean square of n standard
// normal variables lies but for probability alpha on either side (Wilson and
// Hilferty 1931: its cube root is near normal).
func chiSquareRange(n int, alpha float64) (low, high float64) {
	cube := 2 / (9 * float64(n))
	z := normalQuantile(alpha) * math.Sqrt(cube)
	return math.Pow(max(0, 1-cube-z), 3), math.Pow(1-cube+z, 3)
}

// normalQuantile returns the x that a standard normal variable exceeds with
// probability tail, however small.
func normalQuantile(tail float64) float64 {
	lo, hi := -40.0, 40.0
	for range 80 {
		if mid := (lo + hi) / 2; math.Erfc(mid/math.Sqrt2)/2 > tail {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}
