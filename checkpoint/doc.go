// Package checkpoint reads and writes diffusion models in the folder layout of
// the diffusers library:
//
//	model_index.json                     which components there are
//	unet/config.json, diffusion_pytorch_model.safetensors
//	vae/…                                latent models only; "vqvae" is read, too
//	text_encoder/config.json, model.safetensors
//	tokenizer/…                          models conditioned on text; "bert" is read, too
//	class_embedder/…                     models whose classes enter as a context token
//	scheduler/scheduler_config.json
//	scumble.json                         class names, image size, provenance
//	README.md                            the model card
//	pipeline.py                          lets diffusers load and sample the folder
//
// In memory a model is a [Model], with all weights float32 in the layout of
// package nn: dense [in, out] where the files have [out, in], convolution
// kernels [height, width, in, out] where they have [out, in, height, width].
// A folder appears whole or not at all, and is never overwritten.
package checkpoint
