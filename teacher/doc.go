// Package teacher trains a classifier on private images by DP-SGD (Abadi et al. 2016,
// https://arxiv.org/abs/1607.00133), so that it may say which synthetic images look like
// the class that they were drawn for. A fine-tuned model draws some shirts that a
// classifier of shirts would not take for one; whoever trains on them learns
// that mistake. Choosing samples by another private network is post-processing of both
// (private post-GAN boosting, Neunhoeffer et al. 2021, https://arxiv.org/abs/2007.11934,
// does it with discriminators), and so is labelling them by one.
//
// Guarantee: the weights that [Train] returns are those of the Poisson-sampled Gaussian
// mechanism under add-or-remove of one image with its label, as often as it has steps,
// each of which its caller records before the noise exists. What the classifier
// says about images that are not private costs nothing more.
package teacher
