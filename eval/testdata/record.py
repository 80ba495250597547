"""Records what torch-fidelity, clean-fid, prdc and Pillow compute, for the tests of package eval.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 torchvision==0.29.2 torch-fidelity==0.4.0 \
        clean-fid==0.1.35 prdc==0.2 pillow==13.0.0 numpy==2.4.6 scipy==1.17.1
    venv/bin/python record.py > recorded.json

Runs on the CPU. No network weights are needed: features, images and the weights of Inception v3 come from a
counter hash that the tests compute as well, so what is compared is arithmetic, not a download.
"""

import hashlib
import json
import os
import sys
import tempfile

import numpy as np
import PIL
import scipy
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

MASK = (1 << 64) - 1


def key(name):
    """FNV-1a, 64 bits."""
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & MASK
    return h


def bits(name, n):
    """n 64-bit words: splitmix64 of a counter that starts at key(name)."""
    with np.errstate(over="ignore"):
        z = np.uint64(key(name)) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(name, n):
    """n numbers in [-1, 1) with 24 bits each, exact in float32."""
    return (bits(name, n) >> np.uint64(40)).astype(np.float64) / (1 << 23) - 1


def features(name, rows, dim, shift, scale):
    """Correlated features: 12 hidden numbers mixed by a matrix that all sets share, plus noise."""
    hidden = uniform(name + ".hidden", rows * 12).reshape(rows, 12)
    mix = uniform("mix", 12 * dim).reshape(12, dim)
    noise = uniform(name + ".noise", rows * dim).reshape(rows, dim)
    return (scale * (hidden @ mix) + 0.3 * noise + shift).astype(np.float32)


def pixels(name, height, width, channels):
    """Blocks of 4x4 pixels with noise upon them: edges and gradients."""
    rows, columns = -(-height // 4), -(-width // 4)
    coarse = (bits(name + ".coarse", rows * columns * channels) >> np.uint64(56)).astype(np.int64)
    coarse = coarse.reshape(rows, columns, channels).repeat(4, 0).repeat(4, 1)[:height, :width]
    fine = (bits(name + ".fine", height * width * channels) >> np.uint64(59)).astype(np.int64)
    return np.minimum(coarse + fine.reshape(height, width, channels), 255).astype(np.uint8)


def digest(values):
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").tobytes()).hexdigest()


def clean(image, size):
    """clean-fid's "clean": each channel alone, as float32, then clipped."""
    from cleanfid.resize import make_resizer

    if image.shape[2] == 1:
        image = image.repeat(3, 2)
    return make_resizer("PIL", False, "bicubic", size)(image)


def resizes():
    out = []
    for height, width, to_height, to_width in [
        (28, 28, 299, 299), (32, 32, 299, 299), (64, 64, 299, 299), (331, 331, 299, 299),
        (28, 28, 32, 32), (64, 64, 32, 32), (40, 31, 32, 57), (299, 299, 299, 299),
    ]:  # fmt: skip
        image = pixels(f"resize.{height}.{width}", height, width, 3)
        x = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]
        tf = interpolate_bilinear_2d_like_tensorflow1x(x, size=(to_height, to_width), align_corners=False)
        pt = torch.nn.functional.interpolate(x, size=(to_height, to_width), mode="bilinear", align_corners=False)
        tf, pt = (y[0].numpy().transpose(1, 2, 0) for y in (tf, pt))
        cl = clean(image, (to_width, to_height))
        at = [[0, 0, 0], [to_height // 2, to_width // 3, 1], [to_height - 1, to_width - 2, 2], [7, 11, 0]]
        out.append({
            "from": [height, width], "to": [to_height, to_width],
            "clean": digest(cl), "tensorflow": digest(tf), "at": at,
            "clean_at": [float(cl[tuple(i)]) for i in at],
            "tensorflow_at": [float(tf[tuple(i)]) for i in at],
            "pytorch_at": [float(pt[tuple(i)]) for i in at],
            "pytorch_mean_square": float((pt.astype(np.float64) ** 2).mean()),
        })  # fmt: skip
    return out


def metrics():
    """Each metric on features, by its own library."""
    from cleanfid.fid import fid_from_feats, kernel_distance
    from prdc import compute_prdc

    out = []
    for case in [
        {"name": "more-rows-than-columns", "rows": [900, 700], "dim": 24, "shift": 0.25, "scale": 0.9, "kid_subset_size": 200},
        {"name": "fewer-rows-than-columns", "rows": [60, 80], "dim": 128, "shift": 0.05, "scale": 1.1, "kid_subset_size": 50},
        {"name": "no-overlap", "rows": [150, 150], "dim": 16, "shift": 12, "scale": 1, "kid_subset_size": 150},
    ]:  # fmt: skip
        a = features(case["name"] + ".synthetic", case["rows"][0], case["dim"], case["shift"], case["scale"])
        b = features(case["name"] + ".reference", case["rows"][1], case["dim"], 0, 1)
        logits = 4 * features(case["name"] + ".logits", case["rows"][0], 10, 0, 1)
        ta, tb = torch.from_numpy(a), torch.from_numpy(b)
        kw = {"verbose": False}
        r = fid_statistics_to_metric(fid_features_to_statistics(ta), fid_features_to_statistics(tb), False)
        r |= kid_features_to_metric(ta, tb, kid_subset_size=case["kid_subset_size"], **kw)
        r |= isc_features_to_metric(torch.from_numpy(logits), 10, True, 2020)
        r |= prc_features_to_metric(ta, tb, **kw)
        stdout, sys.stdout = sys.stdout, sys.stderr
        prdc = compute_prdc(b, a, 5)
        case["clean_fid"] = float(fid_from_feats(a, b))
        np.random.seed(1)
        case["clean_kid_all"] = kernel_distance(a, b, num_subsets=1, max_subset_size=min(case["rows"]))
        sys.stdout = stdout
        case["torch_fidelity"] = r
        case["prdc5"] = {k: float(v) for k, v in prdc.items()}
        out.append(case)
    return out


def numpy_draws():
    rng = np.random.RandomState(2020)
    first = rng.choice(1000, 5, replace=False).tolist()
    return {"choice_1000_5": first, "then_choice_37_4": rng.choice(37, 4, replace=False).tolist(),
            "permutation_12": np.random.RandomState(7).permutation(12).tolist()}  # fmt: skip


def inception_weights():
    """Random weights with the names of the FID Inception, of which activations keep their size."""
    load, torch.load = torch.load, lambda *a, **k: {}
    check, torch.nn.Module.load_state_dict = torch.nn.Module.load_state_dict, lambda self, *a, **k: None
    net = FeatureExtractorInceptionV3("random", ["2048", "logits_unbiased"], feature_extractor_weights_path="none")
    torch.load, torch.nn.Module.load_state_dict = load, check
    state = net.state_dict()
    for name, value in state.items():
        shape, n = tuple(value.shape), value.numel()
        u = uniform(name, n)
        if name.endswith("conv.weight"):
            u *= np.sqrt(6 / (n / shape[0]))
        elif name.endswith("running_var"):
            u = 1 + 0.25 * u
        elif name.endswith("bn.weight"):
            u = 1 + 0.5 * u
        elif name.endswith("bn.bias") or name.endswith("running_mean"):
            u *= 0.25
        elif name == "fc.weight":
            u *= np.sqrt(3 / shape[1])
        elif name != "fc.bias":
            continue  # num_batches_tracked
        state[name] = torch.from_numpy(u.astype(np.float32).reshape(shape))
    return state


def inception():
    """Two folders of images through Inception with each resizing."""
    import cleanfid.fid

    state = inception_weights()
    out = {"images": [8, 8], "size": 32, "kid_subset_size": 8, "isc_splits": 2}
    with tempfile.TemporaryDirectory() as work:
        weights = os.path.join(work, "weights.pth")
        torch.save(state, weights)
        folders = []
        for name in ["synthetic", "reference"]:
            folder = os.path.join(work, name)
            os.mkdir(folder)
            folders.append(folder)
            for i in range(8):
                Image.fromarray(pixels(f"{name}.{i}", 32, 32, 3)).save(os.path.join(folder, f"{i}.png"))
        out["torch_fidelity"] = torch_fidelity.calculate_metrics(
            input1=folders[0], input2=folders[1], cuda=False, fid=True, kid=True, isc=True, prc=True,
            feature_extractor="inception-v3-compat",  # Precision and recall would take VGG-16.
            feature_extractor_weights_path=weights, kid_subset_size=8, isc_splits=2, verbose=False, cache=False,
        )  # fmt: skip
        net = FeatureExtractorInceptionV3("random", ["2048", "logits_unbiased"], feature_extractor_weights_path=weights)
        for name in ["synthetic", "reference"]:
            x = torch.from_numpy(np.stack([pixels(f"{name}.{i}", 32, 32, 3).transpose(2, 0, 1) for i in range(8)]))
            f, logits = net(x)
            out[name] = {"features": f[:2, ::64].double().tolist(), "logits": logits[:2, ::64].double().tolist()}

        # clean-fid resizes; the network is the same without its own resizing, which at 299 pixels is none.
        class Resized(torch.nn.Module):
            def forward(self, x):
                return body(net, (x - 128) / 128)

        stdout, sys.stdout = sys.stdout, sys.stderr
        out["clean_fid"] = float(cleanfid.fid.compute_fid(
            folders[0], folders[1], mode="clean", num_workers=0, batch_size=8, device=torch.device("cpu"),
            custom_feat_extractor=Resized(), verbose=False))  # fmt: skip
        sys.stdout = stdout
    return out


def body(net, x):
    """Features of images that are resized and scaled already."""
    for stage in [net.Conv2d_1a_3x3, net.Conv2d_2a_3x3, net.Conv2d_2b_3x3, net.MaxPool_1, net.Conv2d_3b_1x1,
                  net.Conv2d_4a_3x3, net.MaxPool_2, net.Mixed_5b, net.Mixed_5c, net.Mixed_5d, net.Mixed_6a, net.Mixed_6b,
                  net.Mixed_6c, net.Mixed_6d, net.Mixed_6e, net.Mixed_7a, net.Mixed_7b, net.Mixed_7c, net.AvgPool]:  # fmt: skip
        x = stage(x)
    return torch.flatten(x, 1)


def arrays(folder):
    """Small files as numpy writes them."""
    x = uniform("arrays", 15).reshape(5, 3)
    np.savez_compressed(os.path.join(folder, "features.npz"), features=x.astype(np.float16), logits=x[:, :2], names=np.array(["a"]))
    np.savez(os.path.join(folder, "statistics.npz"), mu=x.mean(0), sigma=np.cov(x, rowvar=False))
    np.save(os.path.join(folder, "features.npy"), x.astype(np.float32))


if __name__ == "__main__":
    torch.set_num_threads(2)
    arrays(os.path.dirname(os.path.abspath(__file__)))
    json.dump({
        "made_by": {"torch": torch.__version__, "torch-fidelity": torch_fidelity.__version__, "clean-fid": "0.1.35",
                    "prdc": "0.2", "pillow": PIL.__version__, "numpy": np.__version__, "scipy": scipy.__version__},
        "numpy_draws": numpy_draws(), "resizes": resizes(), "metrics": metrics(), "inception": inception(),
    }, sys.stdout, indent=1)  # fmt: skip
    print()
