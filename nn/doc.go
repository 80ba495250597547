// Package nn holds the layers our models are built of: dense and convolution
// layers, group and layer norms, embeddings and attention, as functions that
// add nodes to a GoMLX graph.
//
// Every layer is fit for differential privacy: none mixes examples (there is
// no batch norm), and each parameterised one leaves an entry on a tape from
// which package dpsgd computes per-example gradient norms and clipped sums.
// Parameters can only be reached through these layers, each by one layer once,
// so that no trainable number can escape the tape.
//
// Activations are [rows, positions..., channels], channels last. Rows are
// example-major: with K noise draws per example, row = example·K + draw.
// Parameter names are those of the diffusers library; their layout is ours:
// dense weights [in, out], convolution kernels [height, width, in, out].
//
// This package sees no data.
package nn
