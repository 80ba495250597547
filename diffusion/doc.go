// Package diffusion holds the mathematics of denoising diffusion that does not
// depend on the network: noise schedules, what the network predicts, the
// training loss, guidance, and samplers (the reverse process), one per file.
//
// Training functions add nodes to a GoMLX graph; samplers work on host slices
// between network calls. A [Config] is diffusers' scheduler_config.json, and
// both agree with that library to rounding.
//
// Images and latents are [rows, height, width, channels], channels last. Rows
// are example-major: with K noise draws per example, row = example·K + draw.
package diffusion
