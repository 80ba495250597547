"""The UNets of package bench in JAX: pure functions of parameters that carry
diffusers' names, in JAX's layouts (images channels last, kernels height, width,
in, out, dense weights in, out)."""

import json
import math
import struct

import jax
import jax.numpy as jnp
import numpy as np


class Params:
    """Parameters of a model by name. Those that are not given are made up."""

    def __init__(self, values=None, seed=1):
        self.values, self.make, self.rng = values or {}, values is None, np.random.default_rng(seed)

    def __call__(self, name, *shape):
        if self.make and name not in self.values:
            fan = math.prod(shape[:-1]) or 1
            value = self.rng.standard_normal(shape) / math.sqrt(fan if len(shape) > 1 else 1)
            if name.endswith("bias"):
                value *= 0.1
            elif len(shape) == 1:
                value = 1 + 0.1 * value
            self.values[name] = value.astype(np.float32)
        return self.values[name]


def dense(p, name, x, out, bias=True):
    y = x @ p(name + ".weight", x.shape[-1], out)
    return y + p(name + ".bias", out) if bias else y


def conv(p, name, x, out, kernel=3, stride=1):
    pad = kernel // 2
    y = jax.lax.conv_general_dilated(x, p(name + ".weight", kernel, kernel, x.shape[-1], out), (stride, stride),
                                     ((pad, pad), (pad, pad)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + p(name + ".bias", out)


def group_norm(p, name, x, groups, eps):
    rows, channels = x.shape[0], x.shape[-1]
    h = x.reshape(rows, -1, groups, channels // groups)
    h = (h - h.mean((1, 3), keepdims=True)) / jnp.sqrt(h.var((1, 3), keepdims=True) + eps)
    return h.reshape(x.shape) * p(name + ".weight", channels) + p(name + ".bias", channels)


def layer_norm(p, name, x):
    h = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return h * p(name + ".weight", x.shape[-1]) + p(name + ".bias", x.shape[-1])


def attention(q, k, v, heads):
    split = lambda x: x.reshape(x.shape[0], x.shape[1], heads, -1)
    q, k, v = split(q), split(k), split(v)
    scores = jax.nn.softmax(jnp.einsum("bnhc,bmhc->bhnm", q, k) / math.sqrt(q.shape[-1]), axis=-1)
    y = jnp.einsum("bhnm,bmhc->bnhc", scores, v)
    return y.reshape(y.shape[0], y.shape[1], -1)


class UNet:
    def __init__(self, config):
        self.c, self.cross = config, config.get("cross_attention_dim") is not None and "Cross" in config["down_block_types"][0]
        self.groups, self.eps = config["norm_num_groups"], config["norm_eps"]

    def heads(self, level, channels):
        """In diffusers attention_head_dim is the number of heads where there is a context, else their width."""
        d = self.c["attention_head_dim"]
        d = d[level] if isinstance(d, list) else d
        return d if self.cross else channels // d

    def resnet(self, p, name, x, emb, out):
        h = conv(p, name + ".conv1", jax.nn.silu(group_norm(p, name + ".norm1", x, self.groups, self.eps)), out)
        h = h + dense(p, name + ".time_emb_proj", emb, out)[:, None, None]
        h = conv(p, name + ".conv2", jax.nn.silu(group_norm(p, name + ".norm2", h, self.groups, self.eps)), out)
        return (conv(p, name + ".conv_shortcut", x, out, 1) if x.shape[-1] != out else x) + h

    def attend(self, p, name, x, context, level):
        channels = x.shape[-1]
        heads = self.heads(level, channels)
        flat = lambda h: h.reshape(h.shape[0], -1, channels)
        if not self.cross:
            h = flat(group_norm(p, name + ".group_norm", x, self.groups, self.eps))
            q, k, v = (dense(p, f"{name}.to_{n}", h, channels) for n in "qkv")
            return x + dense(p, name + ".to_out.0", attention(q, k, v, heads), channels).reshape(x.shape)
        h = flat(conv(p, name + ".proj_in", group_norm(p, name + ".norm", x, self.groups, 1e-6), channels, 1))
        t = name + ".transformer_blocks.0"
        for i, sees in ((1, None), (2, context)):
            n = layer_norm(p, f"{t}.norm{i}", h)
            q = dense(p, f"{t}.attn{i}.to_q", n, channels, bias=False)
            k, v = (dense(p, f"{t}.attn{i}.to_{l}", n if sees is None else sees, channels, bias=False) for l in "kv")
            h = h + dense(p, f"{t}.attn{i}.to_out.0", attention(q, k, v, heads), channels)
        value, gate = jnp.split(dense(p, t + ".ff.net.0.proj", layer_norm(p, t + ".norm3", h), 8 * channels), 2, axis=-1)
        h = h + dense(p, t + ".ff.net.2", value * jax.nn.gelu(gate, approximate=False), channels)
        return x + conv(p, name + ".proj_out", h.reshape(x.shape), channels, 1)

    def __call__(self, p, x, t, condition):
        """x [rows, height, width, channels], t [rows]; condition: classes [rows], or context [rows, tokens, width]."""
        c, widths, layers = self.c, self.c["block_out_channels"], self.c["layers_per_block"]
        half = widths[0] // 2
        angles = t[:, None].astype(jnp.float32) * jnp.exp(-math.log(10000) / half * jnp.arange(half, dtype=jnp.float32))
        emb = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)
        emb = dense(p, "time_embedding.linear_2", jax.nn.silu(dense(p, "time_embedding.linear_1", emb, 4 * widths[0])), 4 * widths[0])
        if not self.cross:
            emb = emb + jax.nn.one_hot(condition, c["num_class_embeds"]) @ p("class_embedding.weight", c["num_class_embeds"], 4 * widths[0])
        emb = jax.nn.silu(emb)
        x = conv(p, "conv_in", x, widths[0])
        skips = [x]
        for i, (kind, width) in enumerate(zip(c["down_block_types"], widths)):
            for j in range(layers):
                x = self.resnet(p, f"down_blocks.{i}.resnets.{j}", x, emb, width)
                if "Attn" in kind:
                    x = self.attend(p, f"down_blocks.{i}.attentions.{j}", x, condition, i)
                skips.append(x)
            if i < len(widths) - 1:
                x = conv(p, f"down_blocks.{i}.downsamplers.0.conv", x, width, stride=2)
                skips.append(x)
        x = self.resnet(p, "mid_block.resnets.0", x, emb, widths[-1])
        x = self.attend(p, "mid_block.attentions.0", x, condition, len(widths) - 1)
        x = self.resnet(p, "mid_block.resnets.1", x, emb, widths[-1])
        for i, (kind, width) in enumerate(zip(c["up_block_types"], reversed(widths))):
            for j in range(layers + 1):
                x = self.resnet(p, f"up_blocks.{i}.resnets.{j}", jnp.concatenate([x, skips.pop()], -1), emb, width)
                if "Attn" in kind:
                    x = self.attend(p, f"up_blocks.{i}.attentions.{j}", x, condition, len(widths) - 1 - i)
            if i < len(widths) - 1:
                x = conv(p, f"up_blocks.{i}.upsamplers.0.conv", jnp.repeat(jnp.repeat(x, 2, 1), 2, 2), width)
        return conv(p, "conv_out", jax.nn.silu(group_norm(p, "conv_norm_out", x, self.groups, self.eps)), c["out_channels"])


def read_safetensors(path):
    """Returns the arrays of a safetensors file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    kinds = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "I32": np.int32}
    arrays = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name != "__metadata__":
            a, b = entry["data_offsets"]
            arrays[name] = np.frombuffer(data[8 + size + a:8 + size + b], kinds[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def from_diffusers(name, value):
    """Brings an array from diffusers' layout to JAX's."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T if value.ndim == 2 and "embedding.weight" not in name else value
