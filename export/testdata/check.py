"""Opens a data set made by scumble export with other people's libraries.

    python check.py DIR

Wants datasets, mlcroissant and Pillow. Compares the three layouts with each
other, pixel by pixel, and reads the Croissant metadata and its records. Exits 1 with
what is wrong.
"""

import hashlib
import importlib.metadata
import io
import json
import pathlib
import sys

import datasets
import mlcroissant
from PIL import Image

root = pathlib.Path(sys.argv[1]).resolve()
for name in ("datasets", "mlcroissant", "pyarrow", "pillow"):
    print(name, importlib.metadata.version(name))


def digest(image):
    return hashlib.sha256(image.mode.encode() + str(image.size).encode() + image.tobytes()).hexdigest()


def load(*args, **more):
    return datasets.load_dataset(*args, split="train", cache_dir=str(root.parent / (root.name + ".cache")), **more)


parquet = load(str(root))
assert isinstance(parquet.features["image"], datasets.Image), parquet.features
assert isinstance(parquet.features["label"], datasets.ClassLabel), parquet.features
names = parquet.features["label"].names
images = [digest(r["image"]) for r in parquet]
labels = parquet["label"]
assert len(images) == len(labels) > 0
for r in parquet:
    assert not r["image"].info, f"picture carries metadata: {r['image'].info}"
    assert not r["image"].getexif(), "picture carries EXIF"

folder = load("imagefolder", data_dir=str(root / "imagefolder"))
assert sorted(folder.features["label"].names) == sorted({names[i] for i in labels}), folder.features
theirs = sorted((digest(r["image"]), folder.features["label"].names[r["label"]]) for r in folder)
assert theirs == sorted((i, names[l]) for i, l in zip(images, labels)), "imagefolder and Parquet differ"

shards = load("webdataset", data_dir=str(root / "webdataset"))
assert [digest(r["png"]) for r in shards] == images, "WebDataset and Parquet differ in images"
assert [int(r["cls"]) for r in shards] == list(labels), "WebDataset and Parquet differ in labels"

croissant = mlcroissant.Dataset(jsonld=str(root / "croissant.json"))
issues = croissant.metadata.ctx.issues
assert not issues.errors, issues.errors
for warning in sorted(issues.warnings):
    print("warning:", warning)
records = list(croissant.records("images"))
assert len(records) == len(images), f"{len(records)} records, want {len(images)}"
for r, image, label in zip(records, images, labels):
    picture = r["images/image"]
    if isinstance(picture, bytes):
        picture = Image.open(io.BytesIO(picture))
    assert digest(picture) == image and int(r["images/label"]) == label, "Croissant and Parquet differ"
text = lambda v: v.decode() if isinstance(v, bytes) else str(v)
classes = {int(r["labels/label"]): text(r["labels/name"]) for r in croissant.records("labels")}
assert classes == dict(enumerate(names)), classes
json.loads((root / "croissant.json").read_text())
print(f"{len(images)} images in {len(names)} classes: three layouts and Croissant agree")
