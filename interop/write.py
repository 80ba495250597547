"""Writes models for interop's tests to load: python write.py DIR. Each folder has io.safetensors beside it."""
import os
import sys

import torch
from diffusers import DDIMPipeline, DDIMScheduler, LDMPipeline, UNet2DModel, VQModel
from safetensors.torch import save_file

torch.manual_seed(1)
torch.set_grad_enabled(False)
root = sys.argv[1]


def fill(m):
    for p in m.parameters():
        p.copy_(torch.randn_like(p) / max(1, p[0].numel() if p.ndim > 1 else 10) ** 0.5)
    return m.eval()


def record(name, unet, pipe, **save):
    x = torch.randn(2, unet.config.in_channels, 8, 8)
    y = unet.double()(x.double(), torch.tensor([3, 700])).sample
    unet.float()
    pipe.save_pretrained(os.path.join(root, name), **save)
    save_file({"sample": x, "timestep": torch.tensor([3.0, 700.0]), "output": y.float()}, os.path.join(root, name + ".io.safetensors"))


blocks = dict(down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"), block_out_channels=(8, 16), norm_num_groups=4,
              layers_per_block=1, sample_size=8)
scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, set_alpha_to_one=False)
unet = fill(UNet2DModel(in_channels=3, out_channels=3, **blocks))
record("pixels", unet, DDIMPipeline(unet, scheduler))
record("sharded", unet, DDIMPipeline(unet, scheduler), max_shard_size="20KB")
unet = fill(UNet2DModel(in_channels=3, out_channels=3, **blocks))
vae = fill(VQModel(in_channels=3, out_channels=3, latent_channels=3, num_vq_embeddings=16, block_out_channels=(8, 16), norm_num_groups=4, sample_size=16,
                   down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2))
record("latents", unet, LDMPipeline(vae, unet, scheduler))
