#!/usr/bin/env bash
# `tiller bench kernels` straight from the checkout, on a machine that has torch, triton, typer, rich, matplotlib, scipy and
# jinja2 but neither vLLM, nor this package, nor a network:   bench/gpu.sh [options of tiller bench kernels]
set -euo pipefail
cd "$(dirname "$0")/.."
namespace=$(mktemp -d)
trap 'rm -rf "$namespace"' EXIT
mkdir "$namespace/tiller"
for folder in bench engine evaluation kernels; do
  ln -s "$PWD/$folder" "$namespace/tiller/$folder"
done
PYTHONPATH=$namespace ${PYTHON:-python3} -m tiller.bench.cli kernels "$@"
