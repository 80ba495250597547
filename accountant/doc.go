// Package accountant says what differentially private computations cost, and
// solves for what they may still do. It needs no tensors and no private data:
// its input is events, which hold public numbers only.
//
//	events := []accountant.Event{accountant.DPSGD(1.1, 0.01, 2000)}
//	claim, err := accountant.PLD{}.Epsilon(events, accountant.AddOrRemove, 1e-5)
//
// PLD is the accountant to state claims with; RDP cross-checks it and gives a
// curve that others can compose; ApproximateGDP is an approximation, never
// a guarantee. CalibrateNoiseMultiplier, CalibrateSteps and
// CalibrateSamplingProbability solve for the rest. A Ledger keeps events on disk
// before results are released, and replays into events.
//
// # Why a PLD claim is an upper bound
//
// Each step below only raises the hockey-stick curve δ(ε), or its error is
// bounded and added; PLD.Epsilon inverts the raised curve. Lower bounds run the
// same steps the other way. Arithmetic is float64 with unit roundoff u = 2^-53;
// math.Erfc, Exp, Log and their like are taken to be right within 2 units in the last place.
//
// Dominating pairs (pair.go). Every event has a pair (P, Q) on the line
// whose δ(ε) is at least that of the mechanism for any two neighbours in the
// direction at hand (Zhu, Dong, Wang 2022, https://arxiv.org/abs/2106.08567), and
// products of pairs dominate compositions (Thm. 10). Add and remove are
// composed apart, and the worse one counts. Replace-one takes records at -1
// and +1 clipping norm. Unsampled Gaussian events compose exactly into one;
// its noise is rounded down.
//
// The loss of the product pair is then composed in one of three ways, tried
// in this order.
//
// A. One step (once.go): δ(ε) = P(L > ε) - e^ε Q(L > ε), two tails.
//
// B. Inversion, for steps whose transform E_P[exp(zL)] is known: all
// Gaussian ones but the discrete one. It has no grid, so bounds meet to 1e-10 or so.
//
//  1. Transform (spectrum.go). The tilted characteristic function of one step
//     is an integral of an analytic function, by the trapezoidal rule. The rule's
//     error is at most 2/(exp(2πa/dx) - 1) times the integral on the edge of a
//     strip of half width a, where the integrand is bounded; dx makes that
//     exp(-45). Rounding is bounded node by node. The function less 1 is summed, so that
//     errors are relative to how far a step moves, not to 1.
//  2. Powers (invert.go). φ off by e makes φ^count off by at most |φ|^count
//     ((1+e/|φ|)^count - 1), which is added for every term.
//  3. Contour (invert.go). δ(ε) is an integral over a vertical line in the
//     complex plane. The trapezoidal rule there gives the curve plus shifted copies of
//     it (Poisson summation), which are not negative: an upper bound as it is.
//     For the lower bound, Chernoff bounds on the copies are taken away.
//  4. Tail of the contour (layer.go). The tilted loss has a density; a lower bound
//     on it is cut into horizontal layers, each a uniform distribution with a
//     known transform. That bounds |φ(y)| for every y beyond the last term.
//
// C. The grid, for everything else, and when PLD.Mesh asks for it.
//
//  1. Masses (mixture.go, laplace.go, discrete.go). The loss grows along
//     the line, so the mass of P and Q in a cell of losses is a difference of
//     tail values at two points. Both come from the small tail, and each
//     difference carries a bound on its rounding: u times a count of operations
//     and the square of the argument, times the tail. The points themselves are
//     inexact, but the same points serve P and Q, so they act as slightly
//     different cells: jitter bounds by how much, as a shift of the loss, and
//     count times that is added to epsilon (slack).
//  2. Connect the dots (measure.go). Each cell's mass goes to its two ends so
//     that both P's and Q's mass are kept: the least curve on the grid that is nowhere
//     below (Doroshenko et al. 2022, https://arxiv.org/abs/2207.04380, Sec. 3). The rounding of
//     step 1 is added to the upper end, which raises the curve. The left tail
//     moves up to the first point. The right tail, chosen to hold 1e-5 of delta
//     in all, goes to infinity and counts in full: 1 - (1-m)^T.
//  3. Tilting (tilt.go, compose.go). Masses are multiplied by exp(λ loss) and
//     normalised; a convolution of tilted measures is the tilted convolution, for
//     any λ. With λ at the saddle point the tilted sum is centred on the epsilon
//     in question, so that FFT errors are relative to what matters there,
//     not to 1. The rounding of each weight is at most a factor exp(±lnRel), and so
//     for the whole exp(±count·lnRel): delta is divided by it before inverting.
//  4. FFT (compose.go: power). A coefficient is a sum over log2(n) butterflies
//     of weights that sum to 1: its error is at most γ = 40 u log2(n). A power is
//     then wrong by at most (|F|+γ)^count - |F|^count, and the inverse transform by γ
//     more. The mean of these bounds over the coefficients is added to every entry
//     before untilting.
//  5. Wrapping. The transform is circular: mass outside the window of n points comes
//     back inside. Inside it only adds. The mass that was truly above the
//     window is bounded by Chernoff, with the measures themselves, and charged
//     as infinite loss.
//  6. Untilting and inverting (compose.go: epsilon). δ at grid points follows
//     a recursion with positive terms, from the top down: no differences of
//     large numbers, so delta of 1e-12 or 1e-100 has all its digits. Between grid
//     points the curve is linear in exp(ε), and solved exactly.
//
// B and C share the pairs only, and tests hold each against the other. docs/accounting.md
// has the formulas of B with their proofs.
//
// What is not covered: that events describe what was done, that noise and
// sampling are what they say, and defects of the hardware. Tests compare with closed
// forms, numerical integration and other accountants; testdata says with which.
//
// # Accuracy and time
//
// Inverted claims lie about 1e-10 above the truth and cost a millisecond or less. On the
// grid the mesh is chosen so that claims lie about 1e-5 above, and at most 1e-4
// for heavy ones, in some 50 ms. Result.Mesh (zero without a grid), Points and Lower tell.
package accountant
