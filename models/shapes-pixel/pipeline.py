"""Samples a scumble model with diffusers:

    from diffusers import DiffusionPipeline
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    images = pipe([0, 1, 2], num_inference_steps=50, guidance_scale=2.0).images

or, where the model takes text,

    images = pipe(["a bold seven"], negative_prompt="a one", guidance_scale=2.0).images
"""

import functools
import json
import math
import os
import re

import torch
from safetensors.torch import load_file
from diffusers import DiffusionPipeline, ImagePipelineOutput


def _scale(config, name):
    """The factor of a layer's branch: alpha / rank."""
    def of(key, default):
        for pattern, value in sorted((config.get(key) or {}).items()):
            if re.fullmatch(r"(?:.*\.)?(?:" + pattern + ")", name):
                return value
        return default

    rank = of("rank_pattern", config["r"])
    alpha = of("alpha_pattern", config["lora_alpha"]) or rank
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _branch(parts, scale):
    """A hook that adds scale * B f(A x); f(z) = z + V silu(U z), or z without U and V."""
    def hook(layer, args, output):
        down, u, v, up = (None if p is None else p.to(output.device, output.dtype) for p in parts)
        x = args[0]
        if down.dim() == 2:
            product = torch.nn.functional.linear
            z = product(x, down)
        else:
            product = torch.nn.functional.conv2d
            z = product(x, down, None, layer.stride, layer.padding)
        if u is not None:
            z = z + product(torch.nn.functional.silu(product(z, u)), v)
        return output + scale * product(z, up)

    return hook


class ScumblePipeline(DiffusionPipeline):
    _optional_components = ["vae", "class_embedder", "text_encoder", "tokenizer"]
    model_cpu_offload_seq = "text_encoder->class_embedder->unet->vae"

    def __init__(self, unet, scheduler, vae=None, class_embedder=None, text_encoder=None, tokenizer=None):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, vae=vae, class_embedder=class_embedder,
                              text_encoder=text_encoder, tokenizer=tokenizer)

    def _description(self):
        """What diffusers' files have no place for."""
        if not hasattr(self, "_scumble"):
            with open(os.path.join(self.config["_name_or_path"], "scumble.json"), encoding="utf-8") as f:
                self._scumble = json.load(f)
        return self._scumble

    def _adapt(self):
        """Adds the branches in adapter/, if the folder has them and they are not there yet."""
        folder = os.path.join(self.config["_name_or_path"], "adapter")
        if getattr(self.unet, "_scumble_adapted", False) or not os.path.isdir(folder):
            return
        with open(os.path.join(folder, "adapter_config.json"), encoding="utf-8") as f:
            config = json.load(f)
        tensors = load_file(os.path.join(folder, "adapter_model.safetensors"))
        layers = dict(self.unet.named_modules())
        for key in tensors:
            name = key[len("base_model.model."):]
            if not name.endswith(".lora_A.weight"):
                continue
            layer = layers[name[: -len(".lora_A.weight")]]
            parts = [tensors.get(key.replace("lora_A", part)) for part in ("lora_A", "loda_U", "loda_V", "lora_B")]
            layer.register_forward_hook(_branch(parts, _scale(config, name[: -len(".lora_A.weight")])))
        self.unet._scumble_adapted = True

    def _fit(self, side):
        """Lets a UNet2DModel meet sides that its levels do not divide, as UNet2DConditionModel does by itself."""
        if type(self.unet).__name__ != "UNet2DModel":
            return
        sides = [side]
        for _ in self.unet.up_blocks[1:]:
            sides.append(-(-sides[-1] // 2))
        for block, size in zip(self.unet.up_blocks, reversed(sides[:-1])):
            upsampler = block.upsamplers[0]
            forward = functools.partial(type(upsampler).forward, upsampler, output_size=(size, size))
            upsampler.forward = lambda hidden, *_, _forward=forward: _forward(hidden)

    def _encode(self, texts, device):
        """Contexts of texts, padded or cut to what the text encoder takes."""
        length = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        tokens = self.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return self.text_encoder(tokens.input_ids.to(device))[0]

    def _output(self, x, t, labels):
        if self.text_encoder is not None:
            return self.unet(x, t, encoder_hidden_states=labels).sample
        if self.class_embedder is not None:
            return self.unet(x, t, encoder_hidden_states=self.class_embedder(labels)).sample
        if self.unet.config.num_class_embeds:
            return self.unet(x, t, class_labels=labels).sample
        return self.unet(x, t).sample

    @torch.no_grad()
    def __call__(self, labels, num_inference_steps=50, guidance_scale=1.0, generator=None, output_type="pil",
                 return_dict=True, negative_prompt="", latents=None):
        """labels: class numbers, of which len(classes) is "no class"; or texts. guidance_scale 1 is off. latents are
        the standard normal start; drawn from generator if not given."""
        d = self._description()
        self._adapt()
        device = self._execution_device
        if self.text_encoder is not None:
            texts = [labels] if isinstance(labels, str) else list(labels)
            labels, null = self._encode(texts, device), self._encode([negative_prompt] * len(texts), device)
        else:
            labels = torch.as_tensor(labels, dtype=torch.long, device=device)
            null = torch.full_like(labels, len(d["classes"] or []))
        if self.vae is not None:
            factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        else:
            factor = d["pixel_unshuffle"]
        side = -(-d["size"] // factor)
        self._fit(side)
        shape = (len(labels), self.unet.config.in_channels, side, side)
        x = torch.randn(shape, generator=generator) if latents is None else latents
        x = x.to(device, self.unet.dtype)
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
