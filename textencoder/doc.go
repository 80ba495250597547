// Package textencoder holds the text encoders of latent diffusion models as
// graph functions over package nn: transformers' CLIPTextModel (Radford et al.
// 2021, https://arxiv.org/abs/2103.00020), which Stable Diffusion uses, and the
// LDMBertModel of CompVis' text-to-image model (Rombach et al. 2022,
// https://arxiv.org/abs/2112.10752).
//
// They turn token numbers [rows, tokens], made by package tokenizer, into a
// context [rows, tokens, width] that a UNet attends to. Parameter names, relative
// to the scope given, are those of transformers 5 and diffusers. There is no
// dropout, whatever the configuration says: a per-example gradient has none.
//
// This package sees no data.
package textencoder
