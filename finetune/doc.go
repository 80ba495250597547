// Package finetune turns a public base model and private images into a model
// that may be released. It is the only package that couples subsample, dpsgd
// and accountant.
//
// This package sees private data.
//
// Guarantee: what Run writes below release/ is (epsilon, delta)-differentially
// private with respect to one training example, under the neighbouring relation
// of the config, with the claim that the accountant computes from the ledger:
// at every step each example joins by its own secret coin (Poisson sampling),
// contributes one gradient of norm at most the clipping norm, the sum gets
// Gaussian noise, and the ledger has the event on disk before the noised sum
// exists. The update divides by the expected batch size of the config, never by
// a count. Weights, optimizer state and averages are functions of noised sums.
//
// Earlier runs on the same images that the config names are part of the claim:
// the noise is calibrated so that all of them and this run together keep the
// budget, the ledger begins with what they are charged, and the release holds
// their ledgers.
//
// Public inputs, declared by the config and never read off the data: number of
// examples, image size, channels, class names, and every hyperparameter.
package finetune
