"""Times the workloads of package bench on JAX: an ordinary step, or a step of
DP-SGD by vmap(grad), ours, or by jax_privacy.clipped_grad. Prints one JSON
object."""

import argparse
import json
import math
import os
import pathlib
import resource
import statistics
import time

p = argparse.ArgumentParser(description=__doc__)
p.add_argument("--workload", choices=["pixel", "latent"], default="pixel")
p.add_argument("--trainable", choices=["full", "attention", "none"], default="full", help="none: the ordinary step of all parameters")
p.add_argument("--method", choices=["vmap", "jax-privacy"], default="vmap")
p.add_argument("--batch", type=int, default=64)
p.add_argument("--multiplicity", type=int, default=1)
p.add_argument("--physical-batch", type=int, default=0, help="examples per call; 0 is all")
p.add_argument("--rounds", type=int, default=3)
p.add_argument("--threads", type=int, default=2)
p.add_argument("--check", action="store_true", help="compare the clipped sum with a loop over examples, instead of timing")
p.add_argument("--fixture", type=pathlib.Path, help="folder of unet2d, unet2d_condition and dp_grads: compare with those clipped sums")
o = p.parse_args()
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=1 --xla_cpu_multi_thread_eigen={'true' if o.threads > 1 else 'false'}"
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:o.threads])

import jax  # noqa: E402  After the flags.
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from jax_unet import Params, UNet, from_diffusers, read_safetensors  # noqa: E402

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "workloads"
CLIPPING_NORM = NOISE_MULTIPLIER = 1.0


def trains(name, which):
    """Tells whether a parameter belongs to a trainable set."""
    return which != "attention" or ".attentions." in name or name.startswith(("class_embedder", "class_embedding"))


def noised(abar, x0, t, eps):
    a = abar[t][..., None, None, None]
    return jnp.sqrt(a) * x0[:, None] + jnp.sqrt(1 - a) * eps


def clipper(loss, physical, method, clipping_norm):
    """Returns a function of (trained, frozen, x, t, y, eps), each [examples, draws, ...], that sums clipped gradients."""
    if method == "jax-privacy":
        import jax_privacy

        one = lambda trained, frozen, *example: loss(trained, frozen, *example)
        return jax.jit(jax_privacy.clipped_grad(one, l2_clip_norm=clipping_norm, batch_argnums=(2, 3, 4, 5), keep_batch_dim=False))

    def total(trained, frozen, *batch):
        g = jax.vmap(jax.grad(loss), in_axes=(None, None, 0, 0, 0, 0))(trained, frozen, *batch)
        norm = jnp.sqrt(sum(jnp.square(v).reshape(v.shape[0], -1).sum(1) for v in g.values()))
        factor = clipping_norm / jnp.maximum(norm, clipping_norm)
        return {n: jnp.tensordot(factor, v, 1) for n, v in g.items()}

    return jax.jit(total)


def over(physical, batch, call):
    """Sums what call gives for each physical batch."""
    total = None
    for at in range(0, len(batch[0]), physical):
        part = call(*(v[at:at + physical] for v in batch))
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    return total


def off(got, want):
    square = lambda v: float(np.square(np.asarray(v, np.float64)).sum())
    return math.sqrt(sum(square(got[n] - want[n]) for n in want) / sum(square(v) for v in want.values()))


def check_fixture():
    worst = {}
    for model, which in (("unet2d", "full"), ("unet2d", "attention"), ("unet2d", "attention_multi"), ("unet2d_condition", "attention")):
        unet = UNet(json.loads((o.fixture / model / "config.json").read_text()))
        weights = {n: from_diffusers(n, v) for n, v in read_safetensors(o.fixture / model / "diffusion_pytorch_model.safetensors").items()}
        batch = read_safetensors(o.fixture / "dp_grads" / f"batch_{model}.safetensors")
        want = read_safetensors(o.fixture / "dp_grads" / f"{model}_{which}.safetensors")
        abar = read_safetensors(o.fixture / "dp_grads" / "batch_unet2d.safetensors")["alphas_cumprod"].astype(np.float32)
        draws = batch["timesteps"].shape[1] if which.endswith("multi") else 1
        t, eps = batch["timesteps"][:, :draws], batch["eps"][:, :draws].transpose(0, 1, 3, 4, 2)
        condition = next(v for n, v in batch.items() if n not in ("x0", "timesteps", "eps", "alphas_cumprod"))
        condition = np.repeat(condition[:, None], draws, 1)

        def loss(trained, frozen, x, t, y, eps):
            return jnp.square(unet(Params({**frozen, **trained}), x, t, y) - eps).mean()

        names = {n[4:] for n in want if n.startswith("sum.")}
        trained = {n: v for n, v in weights.items() if n in names}
        frozen = {n: v for n, v in weights.items() if n not in names}
        x = noised(jnp.asarray(abar), jnp.asarray(batch["x0"].transpose(0, 2, 3, 1)), t, eps)
        for method in ("vmap", "jax-privacy"):
            got = clipper(loss, 8, method, float(want["clip"].reshape(-1)[0]))(trained, frozen, x, t, condition, eps)
            worst[f"{model}_{which} {method}"] = off(got, {n: from_diffusers(n, want["sum." + n]) for n in names})
    print(json.dumps({"relative_error_of_clipped_sum": worst}))


def main():
    if o.fixture:
        return check_fixture()
    config = json.loads((CONFIGS / f"{o.workload}.json").read_text())
    unet, latent = UNet(config), o.workload == "latent"
    size, channels = config["sample_size"], config["in_channels"]

    def forward(params, x, t, y):
        if latent:
            y = (jax.nn.one_hot(y, 11) @ params("class_embedder.weight", 11, config["cross_attention_dim"]))[:, None]
        return unet(params, x, t, y)

    made = Params()
    jax.eval_shape(lambda: forward(made, jnp.zeros((1, size, size, channels)), jnp.zeros(1, int), jnp.zeros(1, int)))
    trained = {n: jnp.asarray(v) for n, v in made.values.items() if trains(n, o.trainable)}
    frozen = {n: jnp.asarray(v) for n, v in made.values.items() if n not in trained}
    b, k, physical = o.batch, o.multiplicity, o.physical_batch or o.batch
    rng = np.random.default_rng(2)
    x0 = jnp.asarray(rng.standard_normal((b, size, size, channels)), jnp.float32)
    eps = jnp.asarray(rng.standard_normal((b, k, size, size, channels)), jnp.float32)
    t = jnp.asarray(rng.integers(1000, size=(b, k)))
    y = jnp.asarray(np.repeat(np.arange(b)[:, None] % 11, k, 1))
    abar = jnp.cumprod(1 - jnp.linspace(1e-4, 0.02, 1000))

    def loss(trained, frozen, x, t, y, eps):  # One example: its draws are the batch of the model.
        return jnp.square(forward(Params({**frozen, **trained}), x, t, y) - eps).mean()

    clip = clipper(loss, physical, o.method, CLIPPING_NORM)
    noising = jax.jit(noised)
    if o.check:
        batch = (noised(abar, x0, t, eps), t, y, eps)
        got = over(physical, batch, lambda *part: clip(trained, frozen, *part))
        gradient, want = jax.jit(jax.grad(loss)), {n: 0.0 for n in trained}
        for i in range(b):
            g = gradient(trained, frozen, *(v[i] for v in batch))
            factor = min(1.0, CLIPPING_NORM / math.sqrt(sum(float(jnp.square(v).sum()) for v in g.values())))
            want = {n: want[n] + factor * v for n, v in g.items()}
        print(json.dumps({"relative_error_of_clipped_sum": off(got, want)}))
        return

    def mean_loss(trained, x, t, y, eps):
        rows = lambda v: v.reshape(-1, *v.shape[2:])
        return jnp.square(forward(Params(trained), rows(x), rows(t), rows(y)) - rows(eps)).mean() * (len(t) / b)

    ordinary = jax.jit(jax.grad(mean_loss))

    @jax.jit
    def adam(trained, first, second, gradient, step):
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
        move = lambda w, m, v: w - 1e-4 * (m / (1 - 0.9**step)) / (jnp.sqrt(v / (1 - 0.999**step)) + 1e-8)
        return jax.tree.map(move, trained, first, second), first, second

    @jax.jit
    def noise(total, key):
        keys = dict(zip(total, jax.random.split(key, len(total))))
        return {n: (v + NOISE_MULTIPLIER * CLIPPING_NORM * jax.random.normal(keys[n], v.shape)) / b for n, v in total.items()}

    first = second = jax.tree.map(jnp.zeros_like, trained)
    wall, cpu = [], []
    for step in range(o.rounds + 1):
        w, c = time.perf_counter(), time.process_time()
        def part(x0, t, y, eps):
            x = noising(abar, x0, t, eps)
            return ordinary(trained, x, t, y, eps) if o.trainable == "none" else clip(trained, frozen, x, t, y, eps)
        total = over(physical, (x0, t, y, eps), part)
        gradient = total if o.trainable == "none" else noise(total, jax.random.PRNGKey(step))
        trained, first, second = adam(trained, first, second, gradient, step + 1.0)
        jax.block_until_ready(trained)
        wall.append(time.perf_counter() - w)
        cpu.append(time.process_time() - c)
    print(json.dumps({
        "seconds": statistics.median(wall[1:]), "cpu_seconds": statistics.median(cpu[1:]), "first_seconds": wall[0],
        "all_seconds": [round(v, 2) for v in wall[1:]], "all_cpu_seconds": [round(v, 2) for v in cpu[1:]],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "trainable_parameters": sum(v.size for v in trained.values()), "jax": jax.__version__,
        **{n: getattr(o, n) for n in ("workload", "trainable", "method", "batch", "multiplicity", "physical_batch", "rounds", "threads")},
    }))


if __name__ == "__main__":
    main()
