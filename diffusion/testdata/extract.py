#!/usr/bin/env python3
"""Cuts recorded scheduler runs down to what the tests need: trajectories.json.

    python extract.py DIR > trajectories.json

DIR holds the runs (folder `schedulers`) that parity/testdata/make_diffusers_fixtures.py (seed 20) wrote with
diffusers 0.42.1, torch 2.15.0. Values are independent of each other, so 12 per step are enough.
"""
import json, struct, sys


def read(path):
    raw = open(path, "rb").read()
    n, = struct.unpack("<Q", raw[:8])
    out = {}
    for name, e in json.loads(raw[8:8 + n]).items():
        if name != "__metadata__":
            a, b = e["data_offsets"]
            kind = {"F32": "f", "F64": "d", "I64": "q"}[e["dtype"]]
            data = raw[8 + n + a:8 + n + b]
            out[name] = e["shape"], struct.unpack("<%d%s" % (len(data) // struct.calcsize(kind), kind), data)
    return out


def short(v):
    return float("%.9g" % v)  # Enough for a float32.


result = {}  # Configs are text, since -Infinity is not JSON.
for name in ("ddim", "ddim_clip", "ddim_v", "ddpm", "ddpm_large_clip", "dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_karras",
             "heun", "heun_karras", "edm_euler", "edm_heun"):
    folder = sys.argv[1] + "/" + name
    t = read(folder + "/trajectory.safetensors")
    run = {"config": json.dumps(json.load(open(folder + "/scheduler_config.json"))),
           "timesteps": [short(v) for v in t["timesteps"][1]] if "timesteps" in t else None}
    if "sigmas" in t and name != "edm_heun":
        run["sigmas"] = [short(v) for v in t["sigmas"][1]]
    steps = t["input"][0][0]
    size = len(t["input"][1]) // steps
    for key in ("input", "model_input", "model_output", "noise", "output", "denoised", "euler", "denoised2"):
        if key == "model_input" and key in t and t[key][1] == t["input"][1]:
            continue
        if key in t:
            run[key] = [[short(v) for v in t[key][1][i * size:(i + 1) * size:size // 12][:12]] for i in range(steps)]
    if name == "ddim":
        ac = t["alphas_cumprod"][1]
        run["alphas_cumprod"] = {i: short(ac[i]) for i in [*range(0, 1000, 53), 999]}
        x0 = read(sys.argv[1] + "/shared.safetensors")["x0"][1]
        half = len(x0) // 2
        run["noised"] = [{"t": t["noised_t"][1][r], **{k: [short(v) for v in s[r * half:(r + 1) * half:half // 6][:6]]
                          for k, s in (("x0", x0), ("noise", t["noised_eps"][1]), ("x", t["noised"][1]))}} for r in (0, 1)]
    result[name] = run
json.dump(result, sys.stdout, separators=(",", ":"))
