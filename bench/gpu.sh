#!/usr/bin/env bash
# The GPU suite, meant for 20 minutes on one H200-class GPU, straight from the checkout: on a machine that has torch, triton, what
# this package depends on, and vLLM (from a bundle, say: PYTHONPATH=DEST), but neither this package nor a network.
#   bench/gpu.sh                      the whole suite; results go to OUT (default bench/results), as they come
#   bench/gpu.sh kernels --tokens 64  one command of `tiller bench`
#   TILLER_BENCH_CPU=1 bench/gpu.sh   the same steps at tiny sizes on a CPU: a test of this script, not a measurement
#   FROM=4 bench/gpu.sh               the fourth step and those after it, where one sitting is too short for all
# Variables: PYTHON, OUT, FROM, SECONDS_IN_ALL (1170). The most telling steps come first, and each has a time limit of its own.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-bench/results}
deadline=$((SECONDS + ${SECONDS_IN_ALL:-1170}))
namespace=$(mktemp -d)
trap 'rm -rf "$namespace"' EXIT

mkdir "$namespace/tiller" "$namespace/vllm_tiller-0.1.0.dist-info"
for folder in bench configs engine evaluation kernels; do
  ln -s "$PWD/$folder" "$namespace/tiller/$folder"
done
printf 'Metadata-Version: 2.1\nName: vllm-tiller\nVersion: 0.1.0\n' >"$namespace/vllm_tiller-0.1.0.dist-info/METADATA"
printf '[vllm.general_plugins]\ntiller = tiller.engine.plugin:register\n' \
  >"$namespace/vllm_tiller-0.1.0.dist-info/entry_points.txt"
export PYTHONPATH="$namespace${PYTHONPATH:+:$PYTHONPATH}"
bench=("$python" -m tiller.bench.cli)

if [ $# -gt 0 ]; then
  "${bench[@]}" "$@"
  exit
fi

number=0
step() { # NAME SECONDS COMMAND...: one step, cut off at its limit or at the end of the suite
  local name=$1 limit=$2 begun=$SECONDS status
  shift 2
  number=$((number + 1))
  [ $number -ge "${FROM:-1}" ] || return
  [ "$limit" -le $((deadline - SECONDS)) ] || limit=$((deadline - SECONDS))
  if [ "$limit" -le 5 ]; then
    echo "=== $name: left out, no time"
    failed=1
    return
  fi
  echo "=== $number: $name, at most $limit s: $*"
  timeout --kill-after=30 "$limit" "$@"
  status=$?
  [ $status = 0 ] || failed=1
  echo "=== $name: exit code $status after $((SECONDS - begun)) s"
}

failed=0
large=131072 small=16384
core=idle,add,edit,replace
throughput=(throughput --fresh --model qwen2.5-7b --rounds 3 --num-requests 256,32,1 --prompt-len 128 --max-tokens 128)
all=()
kernels=(kernels --fresh --device cuda --features $large,$small --tokens 64,256,1,8)
serve=(serve --config qwen2.5-7b --rounds 2 --concurrency 64 --rate 0 --max-tokens 64 --gpu-memory-utilization 0.3)
tests=(-m gpu tests/kernels)
if [ -n "${TILLER_BENCH_CPU:-}" ]; then
  large=2048 small=1024
  throughput=(throughput --fresh --model qwen2.5-0.5b --rounds 1 --num-requests 4,1 --prompt-len 8 --max-tokens 4 --eager)
  all=(--arms "$core")
  kernels=(kernels --fresh --device cpu --features 1024 --tokens 1 --d-model 64 --repeats 3)
  serve=(serve --rounds 1 --concurrency 4 --rate 0 --max-tokens 4 --scale 0.1)
  tests=(tests/kernels/test_table.py)
fi

step "correctness" 150 "$python" -m pytest -q -p no:cacheprovider "${tests[@]}"
step "throughput, F = $large, TopK" 420 "${bench[@]}" "${throughput[@]}" --features $large --k 64 --activation topk \
  "${all[@]}" --out "$out"
step "throughput, F = $large, threshold" 200 "${bench[@]}" "${throughput[@]}" --features $large --k 64 \
  --activation threshold --arms $core --out "$out"
step "kernels" 150 "${bench[@]}" "${kernels[@]}" --out "$out"
step "serving" 180 "${bench[@]}" "${serve[@]}" --out "$out"
step "throughput, F = $small, TopK" 200 "${bench[@]}" "${throughput[@]}" --features $small --k 64 --activation topk \
  --arms $core --out "$out"
step "throughput, F = $small, threshold" 200 "${bench[@]}" "${throughput[@]}" --features $small --k 64 \
  --activation threshold --arms $core --out "$out"
deadline=$((SECONDS + 60))
step "report" 60 "${bench[@]}" report "$out" --out "$out/report"
exit $failed
