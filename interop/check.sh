#!/usr/bin/env bash
# Runs the round trips with Python's libraries:
#
#     interop/check.sh [VENV]
#
# They are installed into VENV (a temporary folder if not given) with pip.
# Nothing of scumble needs Python; this is a second opinion for CI.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$(mktemp -d) # Of pipeline.py files, so that none is an old one.
venv=${1:-$cache/venv}
trap 'rm -rf "$cache"' EXIT
if ! "$venv/bin/python" -c 'import torch, diffusers, peft, transformers' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir torch==2.15.0 diffusers==0.42.1 peft==0.21.2 \
    transformers==5.23.0 safetensors==0.8.0
fi
# One thread: PyTorch's threads wait for each other without sleeping, which costs more than it gains where other work has the cores.
export OMP_NUM_THREADS=1
export HF_HOME="$cache/home" HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 SCUMBLE_PYTHON="$venv/bin/python" GOEXPERIMENT=simd
cd "$here/.."
go test -count=1 -v ./interop | grep -v '^=== '
