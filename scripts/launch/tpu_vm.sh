#!/usr/bin/env bash
# Run a command on all hosts of a Cloud TPU VM pod; its processes find each other. The package is
# installed on each host, and --store is a bucket that all can read and write.
#
#   scripts/launch/tpu_vm.sh POD ZONE experiments.cka --encoders=all --store=gs://BUCKET/features
#
# REMOTE is the command that stands for python there: .venv/bin/python in ~/substrate_jax.
set -euo pipefail
pod=${1:?give the name of the pod} zone=${2:?give its zone}
module=${3:?give a module, such as experiments.cka}
shift 3
remote=${REMOTE:-cd substrate_jax && exec .venv/bin/python}
arguments=$(printf ' %q' -m "$module" "$@")
exec gcloud compute tpus tpu-vm ssh "$pod" --zone="$zone" --worker=all --command="$remote$arguments"
