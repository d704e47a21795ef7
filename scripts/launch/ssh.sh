#!/usr/bin/env bash
# Run a command on a list of hosts by ssh, one process each; the first host coordinates. Where one
# fails, all end, and this ends with its code.
#
#   scripts/launch/ssh.sh "node1 node2 node3" \
#       experiments.cka --encoders=all --store=/shared/features
#
# REMOTE is the command that stands for python there: .venv/bin/python in ~/substrate_jax. PORT is
# the coordinator's, 8476 if not given.
set -euo pipefail
read -ra hosts <<<"${1:?give the hosts, in one argument}"
module=${2:?give a module, such as experiments.cka}
shift 2
remote=${REMOTE:-cd substrate_jax && exec .venv/bin/python}
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for number in "${!hosts[@]}"; do
    arguments=$(printf ' %q' -m "$module" "$@" --coordinator="${hosts[0]}:${PORT:-8476}" \
        --num_processes="${#hosts[@]}" --process_id="$number")
    # With a terminal, what runs there ends as ssh does.
    ssh -tt "${hosts[number]}" "$remote$arguments" </dev/null &
done
for _ in "${hosts[@]}"; do
    wait -n
done
