// Package baseline makes what synthetic images of a fine-tuned model are compared
// with, at the same guarantee:
//
//   - [TrainClassifier]: a classifier trained on the private images themselves by
//     DP-SGD (Abadi et al. 2016, https://arxiv.org/abs/1607.00133). It gives no image,
//     and answers one question; of the accuracy that a guarantee allows it shows how
//     much the detour over images costs.
//   - [Evolve]: Private Evolution (Lin et al. 2023, https://arxiv.org/abs/2305.15560)
//     over images that a program drew (Lin et al. 2025, https://arxiv.org/abs/2502.05505).
//     No network is trained: private images vote for the public ones that they are
//     nearest to.
//
// Guarantee: what either function returns is (epsilon, delta)-differentially private
// under add-or-remove of one image, labels included, with the events that it records
// in the ledger before any noise exists. Its options are public.
package baseline
