// Package recount counts epsilon a second time, in another way than package
// accountant does, so that a mistake in one of them shows. It needs no private
// data and imports only the names of events.
//
// Where the accountant puts privacy losses on a grid and convolves them by FFT,
// this package never makes a distribution of losses. It evaluates the hockey-stick
// divergence as a contour integral of the moment generating function:
//
//	δ(ε) = 1/(2πi) ∫ exp(K(s) - s ε) / (s (s+1)) ds   along Re s = c > 0,
//
// with K(s) = Σ count · ln E_P[exp(s L)], L = ln dP/dQ, since 1/(s (s+1)) is the
// Laplace transform of max(0, 1 - exp(-x)). (Zhu, Dong, Wang 2022,
// https://arxiv.org/abs/2106.08567, account by characteristic functions; Alghamdi et al.
// 2023, https://arxiv.org/abs/2208.09595, by this integral near its saddle point.)
//
// The two ways share the dominating pairs of the subsampled Gaussian mechanism
// (Zhu, Dong, Wang 2022, Thm. 11), which are theory, the events, and nothing
// else: no code, no grid, no FFT. Sums over the line and along the contour
// are trapezoidal, which for analytic functions converges geometrically.
//
// Guarantee: none. An answer is a number with an error estimate, right to about
// eight digits, not a bound; package accountant gives the bound. That both agree
// is evidence that neither is wrong.
package recount
