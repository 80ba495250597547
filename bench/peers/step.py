"""Times the workloads of package bench on PyTorch: an ordinary step, or a step of
DP-SGD with per-example gradients by vmap(grad). Prints one JSON object."""

import argparse
import json
import math
import pathlib
import re
import resource
import statistics
import time

import torch
from torch.func import functional_call, grad, vmap

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "workloads"
CLIPPING_NORM = NOISE_MULTIPLIER = 1.0


class Denoiser(torch.nn.Module):
    """The UNet of a workload, conditioned on a class."""

    def __init__(self, workload):
        super().__init__()
        import diffusers

        config = json.loads((CONFIGS / f"{workload}.json").read_text())
        self.latent = workload == "latent"
        model = diffusers.UNet2DConditionModel if self.latent else diffusers.UNet2DModel
        self.unet = model.from_config(config)
        if self.latent:
            self.class_embedder = torch.nn.Embedding(11, config["cross_attention_dim"])
        self.size, self.channels = config["sample_size"], config["in_channels"]

    def forward(self, x, t, y):
        if self.latent:
            return self.unet(x, t, encoder_hidden_states=self.class_embedder(y)[:, None]).sample
        return self.unet(x, t, class_labels=y).sample


class Adapted(torch.nn.Module):
    """A frozen layer with a branch of rank 4 beside it: up(down(x)), at first zero."""

    def __init__(self, layer, rank=4):
        super().__init__()
        self.layer = layer
        if isinstance(layer, torch.nn.Conv2d):
            self.down = torch.nn.Conv2d(layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding, bias=False)
            self.up = torch.nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        else:
            self.down = torch.nn.Linear(layer.in_features, rank, bias=False)
            self.up = torch.nn.Linear(rank, layer.out_features, bias=False)
        torch.nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


TARGETS = {"lora": r"\.(to_q|to_k|to_v|to_out\.0)$", "loda": r"\.resnets\.\d+\.conv[12]$"}


def adapt(model, which):
    """Puts an adapter beside the layers that a trainable set names."""
    if which not in TARGETS:
        return
    for name in [n for n, _ in model.named_modules() if re.search(TARGETS[which], n)]:
        parent, last = name.rsplit(".", 1)
        parent = model.get_submodule(parent)
        setattr(parent, last, Adapted(getattr(parent, last)))


def trains(name, which):
    """Tells whether a parameter belongs to a trainable set."""
    if which in TARGETS:
        return name.endswith((".down.weight", ".up.weight"))
    return which != "attention" or ".attentions." in name or name.startswith(("class_embedder", "unet.class_embedding"))


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--workload", choices=["pixel", "latent"], required=True)
    p.add_argument("--trainable", choices=["full", "attention", "lora", "loda", "none"], required=True, help="none: the ordinary step of all parameters")
    p.add_argument("--batch", type=int, required=True)
    p.add_argument("--multiplicity", type=int, default=1)
    p.add_argument("--physical-batch", type=int, default=0, help="examples per call; 0 is all")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--check", action="store_true", help="compare the clipped sum with a loop over examples, instead of timing")
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    model = Denoiser(o.workload)
    adapt(model, o.trainable)
    params = {n: q for n, q in model.named_parameters() if trains(n, o.trainable)}
    frozen = {n: q.detach() for n, q in model.named_parameters() if n not in params}
    for n, q in model.named_parameters():
        q.requires_grad_(n in params)

    b, k, physical = o.batch, o.multiplicity, o.physical_batch or o.batch
    shape = (b, k, model.channels, model.size, model.size)
    x0, eps = torch.randn(b, 1, *shape[2:]), torch.randn(shape)
    t, y = torch.randint(1000, (b, k)), (torch.arange(b) % 11)[:, None].expand(b, k).contiguous()
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)

    def noised(i):
        a = abar[t[i]][..., None, None, None]
        return a.sqrt() * x0[i] + (1 - a).sqrt() * eps[i]

    def loss(trained, still, x, t, y, eps):  # One example: its draws are the batch of the model.
        out = functional_call(model, (trained, still), (x, t, y))
        return (out - eps).square().mean()

    per_example = vmap(grad(loss), in_dims=(None, None, 0, 0, 0, 0), randomness="different")
    detached = {n: q.detach() for n, q in params.items()}

    def clipped_sum():
        total = {n: torch.zeros_like(q) for n, q in detached.items()}
        for at in range(0, b, physical):
            i = slice(at, at + physical)
            g = per_example(detached, frozen, noised(i), t[i], y[i], eps[i])
            norm = torch.stack([v.flatten(1).square().sum(1) for v in g.values()]).sum(0).sqrt()
            factor = CLIPPING_NORM / norm.clamp(min=CLIPPING_NORM)
            for n, v in g.items():
                total[n] += torch.tensordot(factor, v, 1)
        return total

    if o.check:
        total, want = clipped_sum(), {n: torch.zeros_like(q) for n, q in detached.items()}
        for i in range(b):
            g = grad(loss)(detached, frozen, noised(i), t[i], y[i], eps[i])
            factor = min(1.0, CLIPPING_NORM / math.sqrt(sum(v.square().sum().item() for v in g.values())))
            for n, v in g.items():
                want[n] += factor * v
        off = math.sqrt(sum((total[n] - want[n]).square().sum().item() for n in want) / sum(v.square().sum().item() for v in want.values()))
        print(json.dumps({"relative_error_of_clipped_sum": off}))
        return

    adam = torch.optim.Adam(params.values(), lr=1e-4)

    def step():
        adam.zero_grad(set_to_none=True)
        if o.trainable == "none":
            for at in range(0, b, physical):
                i = slice(at, at + physical)
                out = model(noised(i).flatten(0, 1), t[i].flatten(), y[i].flatten())
                ((out - eps[i].flatten(0, 1)).square().mean() * (len(t[i]) / b)).backward()
        else:
            for n, v in clipped_sum().items():
                params[n].grad = (v + NOISE_MULTIPLIER * CLIPPING_NORM * torch.randn_like(v)) / b
        adam.step()

    wall, cpu = [], []
    for _ in range(o.rounds + 1):
        w, c = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - w)
        cpu.append(time.process_time() - c)
    import diffusers

    print(json.dumps({
        "seconds": statistics.median(wall[1:]), "cpu_seconds": statistics.median(cpu[1:]), "first_seconds": wall[0],
        "all_seconds": [round(v, 2) for v in wall[1:]], "all_cpu_seconds": [round(v, 2) for v in cpu[1:]],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "trainable_parameters": sum(q.numel() for q in params.values()), "torch": torch.__version__, "diffusers": diffusers.__version__,
        **{n: getattr(o, n) for n in ("workload", "trainable", "batch", "multiplicity", "physical_batch", "rounds", "threads")},
    }))


if __name__ == "__main__":
    main()
