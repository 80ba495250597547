// Package unet holds the two networks that predict noise in images and latents,
// UNet2DModel and UNet2DConditionModel of the diffusers library, as functions
// that add nodes to a GoMLX graph. They follow diffusers 0.42 in names, in what
// a configuration means, and in results (Ho et al. 2020,
// https://arxiv.org/abs/2006.11239; Rombach et al. 2022,
// https://arxiv.org/abs/2112.10752).
//
// A [Config] is what diffusers keeps in config.json. What it asks for and we do
// not have is refused by name, never skipped.
//
// One departure: at odd sizes an upsampler goes to the size of the skip
// connection it will meet, as UNet2DConditionModel does; diffusers' UNet2DModel
// fails there.
//
// No layer mixes examples. This package sees no data: it trains nothing, opens
// no file and knows no privacy.
package unet
