// Package scumble turns private images into images that may be shared.
//
// It fine-tunes a public (latent) diffusion model on private images with
// differential privacy (DP-SGD) and gives back the model, synthetic images and a
// ledger from which anyone can recompute the guarantee. Two systems are
// implemented: DP-LDM, which trains the attention modules and the conditioning
// embedder of a latent model (https://arxiv.org/abs/2305.15759), and DP-LoDA,
// which trains low-dimensional adapters on the convolutions of a pixel-space
// model (https://arxiv.org/abs/2406.05257). LoRA and full fine-tuning, and models
// that take text, go the same way.
//
// The way of the data is the layout of the packages: images (dataset) become
// latents (pipeline, autoencoder), join a step by a coin (subsample), give
// clipped and noised sums of gradients (dpsgd, over the layers of nn) that the
// accountant has charged before they exist, and move weights (optim, adapter)
// of a UNet (unet); finetune puts that together. Images are drawn from the
// result (generate, diffusion), chosen where a run asks for it (teacher), scored
// (eval) and reported (report). Settings are tried on public images (sweep).
//
// This package has the few calls that most programs need; the command is
// cmd/scumble.
package scumble

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/generate"
	"github.com/scumble-dp/scumble/models"
	"github.com/scumble-dp/scumble/nn"
)

// Engine runs models on one backend. Close it when done.
type Engine struct {
	backend  compute.Backend
	lowering nn.Lowering
}

// Open opens a backend: "auto" (or ""), "go", "xla" or "xla:PATH".
func Open(spec string) (*Engine, error) {
	b, info, err := backend.Open(spec)
	if err != nil {
		return nil, err
	}
	return &Engine{backend: b, lowering: nn.LoweringOn(info.Name, info.OnCPU())}, nil
}

// Close frees the backend.
func (e *Engine) Close() { e.backend.Finalize() }

// LoadModel reads a model: a bundled one ("latent", "pixel", "colour", "text", "shapes", "shapes-pixel") or a folder in
// diffusers' layout.
func LoadModel(name string) (*checkpoint.Model, error) {
	if models.Bundled(name) {
		return models.Load(name)
	}
	return checkpoint.Load(name)
}

// Plan says what a run would do and cost. It opens no image.
func (e *Engine) Plan(c *finetune.Config) (*finetune.Plan, error) {
	base, err := LoadModel(c.Base)
	if err != nil {
		return nil, fmt.Errorf("base model: %w", err)
	}
	plan, _, err := finetune.NewPlan(e.backend, c, base)
	return plan, err
}

// Finetune makes the run of a config in a new directory, or goes on with it.
//
// Guarantee: see package finetune.
func (e *Engine) Finetune(ctx context.Context, c *finetune.Config, dir string, resume bool) (*finetune.Result, error) {
	base, err := LoadModel(c.Base)
	if err != nil {
		return nil, fmt.Errorf("base model: %w", err)
	}
	return finetune.Run(ctx, e.backend, c, base, finetune.Options{Dir: dir, Resume: resume, Lowering: e.lowering, Workers: runtime.NumCPU()})
}

// Sample draws count images, spread evenly over the model's classes, or over the
// prompts of s for a model that takes text. From a released model that costs no
// privacy. A run's teacher has no part in it: see packages teacher and generate.
func (e *Engine) Sample(ctx context.Context, m *checkpoint.Model, count int, seed uint64, s finetune.Sampling) (*dataset.Set, error) {
	branches, err := finetune.Branches(m)
	if err != nil {
		return nil, err
	}
	o := generate.Options{
		Sampler: s.Sampler, Steps: s.Steps, Eta: s.Eta, GuidanceScale: s.GuidanceScale, Seed: seed,
		Lowering: e.lowering, Adapter: branches, Workers: runtime.NumCPU()}
	if m.TextEncoder == nil {
		return generate.Images(ctx, e.backend, m, m.Size, generate.Balanced(count, len(m.Classes)), o)
	}
	if len(s.Prompts) == 0 {
		return nil, errors.New("the model takes text: want prompts")
	}
	prompts := make([]generate.Prompt, count)
	for i := range prompts {
		prompts[i] = generate.Prompt{Text: s.Prompts[i%len(s.Prompts)], Negative: s.NegativePrompt}
	}
	return generate.Prompts(ctx, e.backend, m, m.Size, prompts, o)
}
