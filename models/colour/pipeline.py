"""Samples a scumble model with diffusers:

    from diffusers import DiffusionPipeline
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    images = pipe([0, 1, 2], num_inference_steps=50, guidance_scale=2.0).images
"""

import json
import os

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput


class ScumblePipeline(DiffusionPipeline):
    _optional_components = ["vae", "class_embedder"]
    model_cpu_offload_seq = "class_embedder->unet->vae"

    def __init__(self, unet, scheduler, vae=None, class_embedder=None):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, vae=vae, class_embedder=class_embedder)

    def _description(self):
        """What diffusers' files have no place for."""
        if not hasattr(self, "_scumble"):
            with open(os.path.join(self.config["_name_or_path"], "scumble.json"), encoding="utf-8") as f:
                self._scumble = json.load(f)
        return self._scumble

    def _output(self, x, t, labels):
        if self.class_embedder is not None:
            return self.unet(x, t, encoder_hidden_states=self.class_embedder(labels)).sample
        if self.unet.config.num_class_embeds:
            return self.unet(x, t, class_labels=labels).sample
        return self.unet(x, t).sample

    @torch.no_grad()
    def __call__(self, labels, num_inference_steps=50, guidance_scale=1.0, generator=None, output_type="pil",
                 return_dict=True):
        """labels: class numbers; len(classes) is "no class". guidance_scale 1 is off."""
        d = self._description()
        device = self._execution_device
        labels = torch.as_tensor(labels, dtype=torch.long, device=device)
        null = torch.full_like(labels, len(d["classes"] or []))
        if self.vae is not None:
            factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        else:
            factor = d["pixel_unshuffle"]
        side = -(-d["size"] // factor)
        shape = (len(labels), self.unet.config.in_channels, side, side)
        x = torch.randn(shape, generator=generator).to(device, self.unet.dtype)
        self.scheduler.set_timesteps(num_inference_steps)
        x = x * self.scheduler.init_noise_sigma
        for t in self.progress_bar(self.scheduler.timesteps):
            scaled = self.scheduler.scale_model_input(x, t)
            output = self._output(scaled, t, labels)
            if guidance_scale != 1.0:
                uncond = self._output(scaled, t, null)
                output = uncond + guidance_scale * (output - uncond)
            x = self.scheduler.step(output, t, x).prev_sample
        if self.vae is not None:
            x = x / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0.0)
            x = self.vae.decode(x).sample
        elif factor > 1:
            x = torch.nn.functional.pixel_shuffle(x, factor)
        x = x[:, :, : d["size"], : d["size"]]
        images = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().float().numpy()
        if output_type == "pil":
            images = self.numpy_to_pil(images)
        return ImagePipelineOutput(images=images) if return_dict else (images,)
