#!/usr/bin/env bash
# Run a command as one process on each node of a Slurm job; jax finds the others by Slurm's
# environment. Where one fails, all end.
#
#   sbatch --nodes=4 --gpus-per-node=8 scripts/launch/slurm.sh \
#       experiments.cka --encoders=all --store=/shared/features
#
# PYTHON is the interpreter, .venv/bin/python if not given. Slurm's SIGTERM before the end of the
# time ends the run within seconds; the same command goes on.
#SBATCH --ntasks-per-node=1
#SBATCH --signal=TERM@60
set -euo pipefail
module=${1:?give a module, such as experiments.cka}
shift
exec srun --kill-on-bad-exit=1 "${PYTHON:-.venv/bin/python}" -m "$module" "$@" --coordinator=auto
