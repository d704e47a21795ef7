"""Starts the processes of one run on this machine, two CPU devices each, joined over loopback."""

import argparse
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
PROCESSES, DEVICES = 2, 2


def start(
    *command: str, count=PROCESSES, devices=DEVICES, each=None, **options
) -> list[subprocess.Popen]:
    """`python COMMAND --coordinator=... --num_processes=COUNT --process_id=RANK`, once for each.

    `each` has the environment variables of each, `options` are of Popen.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    return [
        subprocess.Popen(
            [
                *(sys.executable, *command),
                f"--coordinator=127.0.0.1:{port}",
                f"--num_processes={count}",
                f"--process_id={rank}",
            ],
            cwd=ROOT,
            env=environment | (each[rank] if each else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )
        for rank in range(count)
    ]


def finish(workers: list[subprocess.Popen], timeout: float = 600) -> list[str]:
    """What they said, once all have ended; none outlives the call."""
    try:
        return [worker.communicate(timeout=timeout)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def run(module: str, folder: pathlib.Path, *flags: str, timeout: float = 600, **options) -> None:
    """All processes of a worker, which leaves what it found in the folder; they must succeed."""
    workers = start("-m", module, f"--folder={folder}", *flags, **options)
    output = finish(workers, timeout)
    assert not any(worker.returncode for worker in workers), "\n\n".join(output)


def arguments() -> argparse.Namespace:
    """What `start` gives a worker, its --folder, and what its caller adds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--measures", nargs="+", help="some of the table")
    parser.add_argument("--only", action="append", help="some of the worker's runs")
    parser.add_argument("--coordinator")
    parser.add_argument("--num_processes", type=int)
    parser.add_argument("--process_id", type=int)
    return parser.parse_args()
