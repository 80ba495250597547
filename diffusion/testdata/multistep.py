#!/usr/bin/env python3
"""Records diffusers' DPM-Solver++ in third order and with noise, on 12 values and a network
that is a formula: multistep.json, in the form of trajectories.json.

    python multistep.py > multistep.json

Made with diffusers 0.42.1, torch 2.15.0.
"""
import json, sys
import torch
from diffusers import DPMSolverMultistepScheduler


def short(v):
    return float("%.9g" % v)


result = {}
for name, steps, options in (
        ("third", 10, {"solver_order": 3}),
        ("third_long", 16, {"solver_order": 3, "use_karras_sigmas": True, "prediction_type": "v_prediction"}),
        ("third_min", 16, {"solver_order": 3, "final_sigmas_type": "sigma_min", "lower_order_final": False}),
        ("sde", 10, {"algorithm_type": "sde-dpmsolver++"}),
        ("sde_first", 10, {"algorithm_type": "sde-dpmsolver++", "solver_order": 1, "timestep_spacing": "trailing"}),
        ("sde_heun", 16, {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun",
                          "final_sigmas_type": "sigma_min", "prediction_type": "sample"})):
    s = DPMSolverMultistepScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, **options)
    s.set_timesteps(steps)
    g = torch.Generator().manual_seed(7)
    x = torch.randn(12, generator=g)
    run = {"steps": steps, "timesteps": [], "sigmas": [short(v) for v in s.sigmas.tolist()[:-1]], "input": [], "model_output": [], "output": []}
    noisy = s.config.algorithm_type.startswith("sde")
    if noisy:
        run["noise"] = []
    for t in s.timesteps:
        out = torch.sin(3 * x) * 0.7 + 0.1 * torch.arange(12) / 12
        noise = torch.randn(12, generator=g)
        run["timesteps"].append(float(t))
        run["input"].append([short(v) for v in x.tolist()])
        run["model_output"].append([short(v) for v in out.tolist()])
        if noisy:
            run["noise"].append([short(v) for v in noise.tolist()])
        x = s.step(out, t, x, variance_noise=noise if noisy else None).prev_sample
        run["output"].append([short(v) for v in x.tolist()])
    # The folder's file, which has -Infinity.
    run["config"] = json.dumps({"_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.42.1", **{k: v for k, v in s.config.items() if not k.startswith("_")}})
    result[name] = run
json.dump(result, sys.stdout, separators=(",", ":"))
