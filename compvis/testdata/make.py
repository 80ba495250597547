"""Makes small checkpoints in the layout of CompVis' repositories, with what diffusers gives for them:

    python make.py testdata

torch 2.15.0, diffusers 0.42.1. Weights are seeded noise. Names are brought from diffusers' to CompVis' by the
rules below; that they are right is checked by diffusers' own converter, which must give the model back.
"""
import json
import os
import sys

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel, VQModel
from diffusers.pipelines.stable_diffusion.convert_from_ckpt import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import save_file

out = sys.argv[1]
g = torch.Generator().manual_seed(5)


def fill(m):
    for n, p in m.named_parameters():
        with torch.no_grad():
            scale = 1 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.1
            p.copy_(torch.randn(p.shape, generator=g) * scale + (1.0 if p.ndim == 1 and n.endswith("weight") else 0.0))
    return m.eval()


RES = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
       "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
ENDS = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0", "conv_out": "out.2"}


def unet_names(sd, per, attends, plain_width=None):
    """per: layers + 1; attends: whether an up block has attention."""
    new = {}
    for k, v in sd.items():
        mod, leaf = k.rsplit(".", 1)
        p = k.split(".")
        if mod in ENDS:
            new[f"{ENDS[mod]}.{leaf}"] = v
            continue
        if p[0] == "mid_block":
            where = "middle_block.%d" % (1 if p[1] == "attentions" else 2 * int(p[2]))
            kind, rest = p[1], p[3:]
        else:
            b, kind, j, rest = int(p[1]), p[2], int(p[3]), p[4:]
            down = p[0] == "down_blocks"
            if kind == "downsamplers":
                new[f"input_blocks.{(b + 1) * per}.0.op.{leaf}"] = v
                continue
            if kind == "upsamplers":
                new[f"output_blocks.{(b + 1) * per - 1}.{2 if attends[b] else 1}.conv.{leaf}"] = v
                continue
            where = f"{'input' if down else 'output'}_blocks.{b * per + j + (1 if down else 0)}.{0 if kind == 'resnets' else 1}"
        if kind == "resnets":
            new[f"{where}.{RES[rest[0]]}.{leaf}"] = v
        elif plain_width is None:
            new[f"{where}.{'.'.join(rest)}"] = v
        elif rest[0] == "group_norm":
            new[f"{where}.norm.{leaf}"] = v
        elif rest[0] == "to_out":
            new[f"{where}.proj_out.{leaf}"] = v[..., None] if v.ndim == 2 else v
        else:
            new.setdefault(f"{where}.qkv.{leaf}", {})[rest[0]] = v
    for k, v in new.items():
        if isinstance(v, dict):  # Rows are [heads, 3, width].
            parts = [v[q].reshape(-1, plain_width, *v[q].shape[1:]) for q in ("to_q", "to_k", "to_v")]
            new[k] = torch.stack(parts, 1).reshape(-1, *v["to_q"].shape[1:])
            if new[k].ndim == 2:
                new[k] = new[k][..., None]
    return new


def vae_names(sd, levels):
    new = {}
    part = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
    for k, v in sd.items():
        p = k.split(".")
        if p[0] not in ("encoder", "decoder"):
            new[k] = v
            continue
        rest = [("nin_shortcut" if q == "conv_shortcut" else q) for q in p[1:]]
        if rest[0] == "conv_norm_out":
            rest[0] = "norm_out"
        elif rest[0] == "mid_block" and rest[1] == "resnets":
            rest = ["mid", f"block_{int(rest[2]) + 1}"] + rest[3:]
        elif rest[0] == "mid_block":
            rest = ["mid", "attn_1", part[rest[3]], rest[-1]]
            v = v[:, :, None, None] if v.ndim == 2 else v
        elif rest[0] in ("down_blocks", "up_blocks"):
            level = int(rest[1]) if rest[0] == "down_blocks" else levels - 1 - int(rest[1])
            way = rest[0].split("_")[0]
            if rest[2] == "resnets":
                rest = [way, str(level), "block"] + rest[3:]
            else:
                rest = [way, str(level), rest[2].replace("samplers", "sample"), "conv", rest[-1]]
        new[".".join([p[0]] + rest)] = v
    return new


def save(name, unet, vae, unet_sd, vae_sd, more, io, config):
    state = {"model.diffusion_model." + k: v.contiguous() for k, v in unet_sd.items()}
    if name == "plain":
        state |= {"model_ema.diffusion_model" + k.replace(".", ""): (v * 2).contiguous() for k, v in unet_sd.items()}
    state |= {"first_stage_model." + k: v.contiguous() for k, v in vae_sd.items()}
    state |= {"betas": torch.ones(3), "first_stage_model.loss.logvar": torch.zeros(1)} | more
    torch.save({"epoch": 1, "global_step": 7, "pytorch-lightning_version": "1.4.2", "state_dict": state, "callbacks": {}, "lr_schedulers": [None, 1.5, True]},
               f"{out}/{name}.ckpt")
    with open(f"{out}/{name}.yaml", "w") as f:
        json.dump(config, f, indent=1)  # JSON is YAML.
    save_file({k: v.float().contiguous() for k, v in io.items()}, f"{out}/{name}.io.safetensors")
    os.chmod(f"{out}/{name}.io.safetensors", 0o644)
    print(name, os.path.getsize(f"{out}/{name}.ckpt"))


def same(a, b):
    assert set(a) == set(b), set(a) ^ set(b)
    for k in a:
        assert torch.equal(a[k], b[k].reshape(a[k].shape)), k


torch.set_grad_enabled(False)
# Class-conditional latent model with a VQ autoencoder, as LDM's cin256.
unet = fill(UNet2DConditionModel(sample_size=8, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(32, 32), norm_num_groups=32,
                                 cross_attention_dim=16, attention_head_dim=(2, 2), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                                 up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))).bfloat16().float()
vae = fill(VQModel(in_channels=3, out_channels=3, latent_channels=3, num_vq_embeddings=16, vq_embed_dim=3, block_out_channels=(32, 32), layers_per_block=1,
                   norm_num_groups=32, sample_size=16, scaling_factor=1.0, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)).bfloat16().float()
usd = unet_names(unet.state_dict(), 2, (True, False))
same(unet.state_dict(), convert_ldm_unet_checkpoint({"model.diffusion_model." + k: v for k, v in usd.items()},
                                                    {"layers_per_block": 1, "class_embed_type": None, "addition_embed_type": None}))
vsd = vae_names(vae.state_dict(), 2)
table = torch.randn(4, 16, generator=g)
x, y = torch.randn(2, 3, 8, 8, generator=g), torch.tensor([0, 3])
io = {"sample": x, "timestep": torch.tensor([3.0, 800.0]), "labels": y.float(),
      "output": unet.double()(x.double(), torch.tensor([3, 800]), encoder_hidden_states=table[y][:, None].double()).sample,
      "decoded": vae.double().decode(x.double()).sample}
save("classes", unet, vae, {k: v.bfloat16() for k, v in usd.items()}, {k: v.bfloat16() for k, v in vsd.items()}, {"cond_stage_model.embedding.weight": table}, io, {"model": {"params": {
    "linear_start": 0.0015, "linear_end": 0.0195, "timesteps": 1000, "image_size": 8, "conditioning_key": "crossattn",
    "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": {
        "image_size": 8, "in_channels": 3, "out_channels": 3, "model_channels": 32, "attention_resolutions": [2], "num_res_blocks": 1,
        "channel_mult": [1, 1], "num_head_channels": 16, "use_spatial_transformer": True, "transformer_depth": 1, "context_dim": 16}},
    "first_stage_config": {"target": "ldm.models.autoencoder.VQModelInterface", "params": {"embed_dim": 3, "n_embed": 16, "ddconfig": {
        "double_z": False, "z_channels": 3, "resolution": 16, "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1,
        "attn_resolutions": [], "dropout": 0.0}}},
    "cond_stage_config": {"target": "ldm.modules.encoders.modules.ClassEmbedder", "params": {"n_classes": 4, "embed_dim": 16, "key": "class_label"}}}}})

# Unconditional latent model with a KL autoencoder and plain attention, as LDM's lsun models; in half precision.
unet = fill(UNet2DModel(sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(32, 32), norm_num_groups=32, attention_head_dim=32,
                        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"))).half().float()
vae = fill(AutoencoderKL(in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=32, sample_size=16,
                         down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)).half().float()
usd = unet_names(unet.state_dict(), 2, (True, False), plain_width=32)
vsd = vae_names(vae.state_dict(), 2)
same(vae.state_dict(), convert_ldm_vae_checkpoint({"first_stage_model." + k: v for k, v in vsd.items()}, {"down_block_types": (1, 1), "up_block_types": (1, 1)}))
x = torch.randn(2, 4, 8, 8, generator=g)
io = {"sample": x, "timestep": torch.tensor([3.0, 800.0]), "output": unet.double()(x.double(), torch.tensor([3, 800])).sample,
      "decoded": vae.double().decode(x.double()).sample}
save("plain", unet, vae, {k: v.half() for k, v in usd.items()}, {k: v.half() for k, v in vsd.items()}, {"scale_factor": torch.tensor(0.25)}, io, {"model": {"params": {
    "linear_start": 0.0015, "linear_end": 0.0155, "image_size": 8,
    "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": {
        "image_size": 8, "in_channels": 4, "out_channels": 4, "model_channels": 32, "attention_resolutions": [2], "num_res_blocks": 1,
        "channel_mult": [1, 1], "num_head_channels": 32}},
    "first_stage_config": {"target": "ldm.models.autoencoder.AutoencoderKL", "params": {"embed_dim": 4, "ddconfig": {
        "double_z": True, "z_channels": 4, "resolution": 16, "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1, "attn_resolutions": []}}},
    "cond_stage_config": "__is_unconditional__"}}})
