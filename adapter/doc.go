// Package adapter decides which weights of a diffusion model train: all of
// them, its attention modules (DP-LDM), or low-rank and low-dimensional
// branches beside frozen layers (LoRA, LoDA).
//
// This package sees no data.
package adapter
