// Package autoencoder holds the variational autoencoder of latent diffusion
// models (diffusers' AutoencoderKL) as graph functions over package nn: images
// to the mean and log-variance of their latents, and latents to images
// (Rombach et al. 2022, https://arxiv.org/abs/2112.10752; Kingma & Welling
// 2014, https://arxiv.org/abs/1312.6114). Its relative with a codebook is
// there, too: diffusers' VQModel (van den Oord et al. 2017,
// https://arxiv.org/abs/1711.00937).
//
// Images and latents are [rows, height, width, channels], channels last, images
// in [-1, 1]. Parameter names, relative to the scope given, are those of
// diffusers: encoder.…, decoder.…, quant_conv, post_quant_conv, quantize.embedding.
//
// This package sees private data: it encodes private images. It keeps nothing
// of them, and has no layer that mixes rows.
package autoencoder
