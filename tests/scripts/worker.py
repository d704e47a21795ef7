"""A process of a run that a launch script started: says its number, once all have met."""

import argparse
import sys

import jax

from substrate_jax.processes import exchange, initialize_distributed

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--coordinator")
    parser.add_argument("--num_processes", type=int)
    parser.add_argument("--process_id", type=int)
    parser.add_argument("--fail", type=int, default=-1)
    given = parser.parse_args()
    initialize_distributed(given.coordinator, given.num_processes, given.process_id)
    met = exchange(jax.process_index())
    # In one piece: print writes the end of the line apart where output is not buffered.
    sys.stdout.write(f"process {jax.process_index()} met {met}\n")
    sys.stdout.flush()
    if given.fail == jax.process_index():
        raise SystemExit(3)
