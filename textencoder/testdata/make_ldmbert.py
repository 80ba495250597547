"""Writes ldmbert/: a small random LDMBertModel of diffusers 0.42.1 with recorded outputs.

    python make_ldmbert.py        (torch 2.15.0, transformers 5.23.0, diffusers 0.42.1, CPU)

Weights are float32 noise, outputs are computed in float64 from them.
"""
import json
import os

import torch
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from safetensors.torch import save_file

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ldmbert")
os.makedirs(here, exist_ok=True)
config = LDMBertConfig(vocab_size=53, max_position_embeddings=9, encoder_layers=3, encoder_ffn_dim=40,
                       encoder_attention_heads=3, head_dim=5, d_model=24)
model = LDMBertModel(config).eval()
gen = torch.Generator().manual_seed(7)
with torch.no_grad():
    for name, p in sorted(model.named_parameters()):
        p.copy_(torch.randn(p.shape, generator=gen) * (0.3 if p.dim() > 1 else 0.2) + (1.0 if "norm.weight" in name else 0.0))
save_file({k: v.contiguous() for k, v in model.state_dict().items() if "position_ids" not in k},
          os.path.join(here, "model.safetensors"), {"format": "pt"})
with open(os.path.join(here, "config.json"), "w") as f:
    json.dump({"architectures": ["LDMBertModel"]} | config.to_dict(), f, indent=1, sort_keys=True, default=str)
ids = torch.randint(0, 53, (2, 7), generator=gen)
out = model.double()(ids, output_hidden_states=True)
io = {"input_ids": ids, "last_hidden_state": out[0].float()}
save_file({k: v.detach().contiguous() for k, v in io.items()}, os.path.join(here, "io.safetensors"))
