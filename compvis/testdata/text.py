"""Compares what scumble imported with diffusers' own converter, tensor by tensor:

    SCUMBLE_KEEP=DIR go test -run Published ./compvis && python text.py DIR

diffusers 0.42.1, torch 2.15.0, transformers 5.23. DIR holds ldm.ckpt, sd-1.ckpt, sd-2.ckpt and the folders made of
them. OpenCLIP's encoder is compared by what it computes with torch's own multi-head attention.
"""
import json
import sys

import torch
from diffusers import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.convert_from_ckpt import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file
from transformers import CLIPTextModel


def same(what, got, want):
    assert set(got) == set(want), (what, sorted(set(got) ^ set(want))[:4])
    for k in want:
        assert torch.equal(got[k].reshape(-1), want[k].reshape(-1)), (what, k)
    print(what, len(want), "tensors are the same")


def open_clip(sd, tokens, heads):
    p = "cond_stage_model.model."
    x = sd[p + "token_embedding.weight"][tokens] + sd[p + "positional_embedding"][: tokens.shape[1]]
    n, width = tokens.shape[1], x.shape[-1]
    mask = torch.full((n, n), float("-inf")).triu(1)
    for i in range(23):  # Of 24.
        b = f"{p}transformer.resblocks.{i}."
        y = torch.nn.functional.layer_norm(x, (width,), sd[b + "ln_1.weight"], sd[b + "ln_1.bias"])
        a = torch.nn.MultiheadAttention(width, heads, batch_first=True)
        a.load_state_dict({k: sd[b + "attn." + k] for k in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")})
        x = x + a(y, y, y, attn_mask=mask, need_weights=False)[0]
        y = torch.nn.functional.layer_norm(x, (width,), sd[b + "ln_2.weight"], sd[b + "ln_2.bias"])
        y = torch.nn.functional.gelu(y @ sd[b + "mlp.c_fc.weight"].T + sd[b + "mlp.c_fc.bias"])
        x = x + y @ sd[b + "mlp.c_proj.weight"].T + sd[b + "mlp.c_proj.bias"]
    return torch.nn.functional.layer_norm(x, (width,), sd[p + "ln_final.weight"], sd[p + "ln_final.bias"])


for name in ("ldm", "sd-1", "sd-2"):
    folder = f"{sys.argv[1]}/{name}"
    sd = torch.load(folder + ".ckpt", weights_only=True)["state_dict"]
    config = json.load(open(folder + "/unet/config.json"))
    unet = convert_ldm_unet_checkpoint(dict(sd), config)
    got = load_file(folder + "/unet/diffusion_pytorch_model.safetensors")
    same(name + " unet", got, unet)
    vae = convert_ldm_vae_checkpoint(dict(sd), json.load(open(folder + "/vae/config.json")))
    same(name + " vae", load_file(folder + "/vae/diffusion_pytorch_model.safetensors"), vae)
    UNet2DConditionModel.from_pretrained(folder + "/unet")
    if name == "sd-1":
        p = "cond_stage_model.transformer.text_model."
        text = {k[len(p):]: v for k, v in sd.items() if k.startswith(p) and "position_ids" not in k}
        got = {k.removeprefix("text_model."): v for k, v in load_file(folder + "/text_encoder/model.safetensors").items()}
        same(name + " text encoder", got, text)
    if name == "sd-2":
        model = CLIPTextModel.from_pretrained(folder + "/text_encoder").eval()
        tokens = torch.arange(20).reshape(1, 20) * 3
        with torch.no_grad():
            a, b = model(tokens).last_hidden_state, open_clip(sd, tokens, model.config.num_attention_heads)
        print(name, "text encoder differs by", float((a - b).abs().max() / b.abs().max()))
