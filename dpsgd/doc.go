// Package dpsgd computes clipped sums of per-example gradients, adds Gaussian
// noise to them and hands out nothing else.
//
// This package sees private data.
//
// The mechanism (Abadi et al. 2016, https://arxiv.org/abs/1607.00133): each
// example i of a logical batch has one gradient g_i, the gradient of its loss
// averaged over its K noise draws; its contribution is g_i·min(1, C/|g_i|);
// the contributions are summed, and Gaussian noise of standard deviation
// NoiseMultiplier·sensitivity is added to every coordinate of the sum.
//
// Two engines compute the sum and check each other:
//
//   - book-keeping (Bu et al. 2023, https://arxiv.org/abs/2210.00038): one
//     backward pass to the outputs of the trainable layers, per-example norms
//     layer by layer, one weighted contraction. The default.
//   - the per-example loop: one example per call, the plain gradient of its
//     loss, clipped and added on the device to those before it. No rules, so it
//     is the oracle.
//
// Tests inject known mistakes (draws clipped apart, a factor without the square
// root, an example that is not finite kept, noise on one tensor only, none on an
// empty batch, half the sensitivity) and prove that a check catches each: see
// TestMistakesAreCaught.
//
// [Canaries] are examples with known gradients that an audit sends through an
// engine like any other.
//
// A [Sum] cannot be read. It can only be released, and releasing it adds noise
// after the caller's ledger has recorded the event.
package dpsgd
