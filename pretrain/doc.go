// Package pretrain trains base models on public images: an autoencoder, and a
// denoiser of classes or texts with classifier-free guidance, in latent or pixel
// space. It is ordinary training without privacy, and sees no private data.
package pretrain
