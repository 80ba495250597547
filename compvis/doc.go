// Package compvis imports models of CompVis' latent-diffusion and stable-diffusion
// repositories: a checkpoint (.ckpt of PyTorch Lightning, or its tensors as
// safetensors) with the YAML config beside it. It knows the UNet with and without
// cross attention, the KL and VQ autoencoders, and the conditioning by classes,
// CLIP and LDM's BERT.
//
// Checkpoints are read by package torchfile, which runs nothing that a file asks
// for. Every tensor of the three networks must have a place: one that has none is
// an error that names it.
package compvis
