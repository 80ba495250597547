"""Loads what interop's tests wrote and compares: python read.py DIR.

DIR holds cases; each has case.json (kind and settings), in.safetensors, out.safetensors (what scumble computed) and
what is to be loaded. Prints the largest difference of each case; exits 1 if one is above its tolerance.
"""
import json
import os
import sys

import torch
import diffusers
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from peft import PeftModel
from safetensors.torch import load_file

torch.set_grad_enabled(False)
torch.set_num_threads(2)
diffusers.utils.logging.disable_progress_bar()
diffusers.utils.logging.set_verbosity_error()
root, failed = sys.argv[1], False


def pipeline(dir, case, given):
    pipe = DiffusionPipeline.from_pretrained(os.path.join(dir, "model"), trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    config = pipe.scheduler.config
    for run in case["runs"]:
        cls = getattr(diffusers, run["class"])
        pipe.scheduler = cls.from_config(config, **run["options"])
        what = case.get("prompts") or given["labels"].tolist()
        images = pipe(what, num_inference_steps=run["steps"], guidance_scale=run["guidance"], latents=given["latents"], output_type="np").images
        yield run["name"], torch.from_numpy(images)


def adapters(dir, case, given):
    def fresh():
        return UNet2DConditionModel.from_pretrained(os.path.join(dir, "unet")).eval()

    def run(unet):
        return unet(given["sample"], given["timestep"], encoder_hidden_states=given["context"]).sample

    yield "peft", run(PeftModel.from_pretrained(fresh(), os.path.join(dir, "peft")).eval())
    yield "merged", run(UNet2DConditionModel.from_pretrained(os.path.join(dir, "merged", "unet")).eval())
    for name, file in (("diffusers-lora", "pytorch_lora_weights.safetensors"), ("kohya", "lycoris.safetensors")):
        got = StableDiffusionLoraLoaderMixin.lora_state_dict(os.path.join(dir, name), weight_name=file, return_lora_metadata=True)
        state, alphas, metadata = got
        unet = fresh()
        StableDiffusionLoraLoaderMixin.load_lora_into_unet(state, network_alphas=alphas, unet=unet, metadata=metadata)
        layers = sum(1 for n, _ in unet.named_modules() if n.endswith(".lora_A"))
        assert layers == case["layers"], f"{name}: {layers} layers have a branch, want {case['layers']}"
        yield name, run(unet)


for name in sorted(os.listdir(root)):
    dir = os.path.join(root, name)
    with open(os.path.join(dir, "case.json")) as f:
        case = json.load(f)
    given, want = load_file(os.path.join(dir, "in.safetensors")), load_file(os.path.join(dir, "out.safetensors"))
    seen = set()
    for key, got in {"pipeline": pipeline, "adapters": adapters}[case["kind"]](dir, case, given):
        seen.add(key)
        off = (got.double() - want[key].double()).abs().max().item()
        bad = not off <= 1e-4
        failed |= bad
        print(f"{name} {key}: largest difference {off:.1e}{' TOO LARGE' if bad else ''}")
    missing = set(want) - seen
    if missing:
        print(f"{name}: nothing was compared with {sorted(missing)}")
        failed = True
sys.exit(failed)
