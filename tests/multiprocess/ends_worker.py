"""One process of test_ends.py: a launcher that is busy, or fails as it is told."""

import os
import sys
import time

from experiments.common import devices, launch


def run():
    print("busy", flush=True)
    if sys.stdin.readline() == "fail\n":
        raise RuntimeError("disk on fire")
    time.sleep(600)


def other_code():
    from substrate_jax import processes

    version = f"1.0+{os.environ.get('CODE', 'a')}"
    processes.code_version = lambda: version
    devices.join_processes()


if __name__ == "__main__":
    launch.start(run, other_code if "CODE" in os.environ else devices.join_processes)
