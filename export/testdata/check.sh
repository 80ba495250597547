#!/usr/bin/env bash
# Opens a data set made by scumble export with Python's datasets and mlcroissant:
#
#     export/testdata/check.sh DIR [VENV]
#
# The libraries are installed into VENV (a temporary folder if not given) with pip.
# Nothing of scumble needs Python; this is a second opinion for CI.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?usage: check.sh DIR [VENV]}
if [ $# -gt 1 ]; then
  venv=$2
else
  venv=$(mktemp -d)
  trap 'rm -rf "$venv"' EXIT
fi
if ! "$venv/bin/python" -c 'import datasets, mlcroissant' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 mlcroissant==1.1.1 pillow==13.0.0 webdataset
fi
# A copy, so that no cache is written beside the data set and nothing is fetched.
copy=$(mktemp -d)
cp -r "$dir" "$copy/set"
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME="$copy/home" XDG_CACHE_HOME="$copy/cache" HF_DATASETS_DISABLE_PROGRESS_BARS=1
status=0
"$venv/bin/python" "$here/check.py" "$copy/set" || status=$?
rm -rf "$copy"
exit $status
