#!/usr/bin/env bash
# What only a GPU can show, in under ten minutes: kernels and encoders against the CPU, forward passes
# beside torch.compile, and distillation at scale. Each part is ended when its time is over.
#
#   scripts/gpu.sh OUT [SET]
#
# SET is a set of labeled images with train and test, such as tfds:cifar100 (default) or
# tfds:cifar100_mini@FOLDER. PYTHON is the interpreter, of an environment with jax[cuda13] and, for
# the second part, torch and timm. What is written is in OUT, what is said in OUT/*.log.
set -uo pipefail
out=${1:?give a folder for what is found}
set=${2:-tfds:cifar100}
python=${PYTHON:-python}
cd "$(dirname "$0")/.." || exit
mkdir -p "$out"
name=${set%%@*} folder=
[[ $set == *@* ]] && folder=@${set#*@}
failed=0

part() { # name, seconds, command
    local what=$1 most=$2 start=$SECONDS code=0
    shift 2
    timeout --signal=TERM --kill-after=10 "$most" "$python" "$@" >"$out/$what.log" 2>&1 || code=$?
    echo "$what: code $code after $((SECONDS - start)) s, $out/$what.log"
    ((code == 0)) || failed=1
}

JAX_PLATFORMS=${JAX_PLATFORMS:-cuda,cpu} part agreement 200 -m tests.on_gpu
part extraction 220 -m experiments.bench --what=extract --encoders=all --dtype=bfloat16 \
    --repeats=20 --out="$out/extraction"
part distillation 170 -m experiments.distill "--data=$name:train$folder" \
    "--test_data=$name:test$folder" --fractions=0.1 --out="$out/distillation"
exit "$failed"
