#!/usr/bin/env bash
# Run a command on a TPU slice of a GKE cluster, as a JobSet that xpk makes; its processes find each
# other. IMAGE is a container with the package installed.
#
#   IMAGE=REGISTRY/substrate-jax scripts/launch/gke.sh CLUSTER v5litepod-256 \
#       experiments.cka --encoders=all --store=gs://BUCKET/features
#
# NAME is that of the workload, after the module if not given.
set -euo pipefail
cluster=${1:?give the name of the cluster} slice=${2:?give its type of TPU, such as v5litepod-256}
module=${3:?give a module, such as experiments.cka}
shift 3
name=${NAME:-${module##*.}}
arguments=$(printf ' %q' -m "$module" "$@")
exec xpk workload create --cluster="$cluster" --workload="$name" --tpu-type="$slice" \
    --docker-image="${IMAGE:?set IMAGE to a container with the package}" --command="python$arguments"
