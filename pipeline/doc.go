// Package pipeline puts a diffusion model together from its parts: images ↔
// canvas ↔ latents, the denoiser with what it is told (classes or texts), and the training
// loss of one example. It is what pretrain, finetune and generate share.
//
// This package sees private data: finetune hands it private images and captions to encode.
package pipeline
