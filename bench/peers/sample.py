"""Times sampling from the workloads of package bench with diffusers: DDIM without
guidance, from initial noise to the last step. Prints one JSON object."""

import argparse
import json
import resource
import statistics
import time

import torch

from step import Denoiser


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--workload", choices=["pixel", "latent"], required=True)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--channels-last", action="store_true")
    p.add_argument("--compile", action="store_true", help="by torch.compile; the first batch, which is not counted, compiles")
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    import diffusers

    model = Denoiser(o.workload).eval()
    if o.channels_last:
        model = model.to(memory_format=torch.channels_last)
    call = torch.compile(model) if o.compile else model
    scheduler = diffusers.DDIMScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02, clip_sample=False)
    y = torch.arange(o.batch) % 10

    @torch.inference_mode()
    def sample():
        scheduler.set_timesteps(o.steps)
        x = torch.randn(o.batch, model.channels, model.size, model.size)
        if o.channels_last:
            x = x.to(memory_format=torch.channels_last)
        for t in scheduler.timesteps:
            x = scheduler.step(call(x, t.expand(o.batch), y), t, x).prev_sample
        return x

    wall, cpu = [], []
    for _ in range(o.rounds + 1):
        w, c = time.perf_counter(), time.process_time()
        sample()
        wall.append(time.perf_counter() - w)
        cpu.append(time.process_time() - c)
    seconds = statistics.median(wall[1:])
    print(json.dumps({
        "images_per_second": o.batch / seconds, "seconds_per_batch": seconds, "cpu_seconds_per_batch": statistics.median(cpu[1:]),
        "first_seconds": wall[0], "all_seconds": [round(v, 2) for v in wall[1:]],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, "torch": torch.__version__, "diffusers": diffusers.__version__,
        **{n: getattr(o, n) for n in ("workload", "batch", "steps", "rounds", "threads", "channels_last", "compile")},
    }))


if __name__ == "__main__":
    main()
