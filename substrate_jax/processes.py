"""Runs of several processes: joining one, and what its processes tell each other.

One process drives the devices of one host. `initialize_distributed` makes it one of several before
anything touches a device; `jax.devices()` are then those of all, and a mesh over them spans the
run. What only one process knows travels over the host's network: JSON-like values by `exchange`,
rows of an array by `join_rows`. A process alone is a run of one: nothing travels.

Cost: two rounds of messages per exchange, each as long as the longest value; n d values received
by every process for joined rows.

Not guaranteed: an end. All processes must make the same calls in the same order; where one has
failed, the others wait for it, unless a launcher ends them (`experiments.common.liveness`).
"""

import functools
import glob
import hashlib
import importlib.util
import itertools
import json
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree, Shaped

from substrate_jax.version import __version__

# A process that has ended waits so long for the others: one may still analyze and report alone. A
# process that dies is known by its heartbeat, not by this.
_LONGEST_ALONE = 7 * 24 * 3600  # seconds
_REACHED = 50.0  # seconds in which process 0 must answer: it may be started after the others
_NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}


def exchange(value: PyTree) -> list[PyTree]:
    """The JSON-like values of all processes, in the order of their numbers; all must call it.

    Example:
        >>> exchange({"rows": [1, 2]})
        [{'rows': [1, 2]}]
    """
    if jax.process_count() == 1:
        return [value]
    from jax.experimental import multihost_utils

    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(data)]))[:, 0]
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(data)] = data
    sent = multihost_utils.process_allgather(padded)
    return [json.loads(row[:n].tobytes()) for row, n in zip(sent, lengths, strict=True)]


def join_rows(
    block: Shaped[np.ndarray, "n ..."], starts: Sequence[int]
) -> Shaped[np.ndarray, "n ..."]:
    """The block in every process, of which process p filled rows starts[p] to starts[p+1] - 1.

    Processes beyond the end of `starts` filled none. All must call it.

    Example:
        >>> join_rows(np.ones((3, 2), np.float32), [0, 3]).shape
        (3, 2)
    """
    if jax.process_count() == 1:
        return block
    from jax.experimental import multihost_utils

    longest = max(stop - start for start, stop in itertools.pairwise(starts))
    mine = np.zeros((longest, *block.shape[1:]), block.dtype)
    me = jax.process_index()
    if me < len(starts) - 1:
        own = block[starts[me] : starts[me + 1]]
        mine[: len(own)] = own
    parts = multihost_utils.process_allgather(mine)
    pairs = enumerate(itertools.pairwise(starts))
    return np.concatenate([parts[p, : stop - start] for p, (start, stop) in pairs])


@functools.lru_cache
def code_version() -> str:
    """Version of this package and the first letters of a hash of its code, as 1.0.0+12ab34cd."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    folders = os.walk(root, followlinks=True)  # kernels and experiments are links in a checkout
    paths = [Path(folder, name) for folder, _, names in folders for name in names]
    for path in sorted(path for path in paths if path.suffix == ".py"):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:8]}"


def check_code(said: Sequence[Mapping[str, str]]) -> None:
    """Check that all processes run the same code.

    Args:
      said: package -> version, of every process.

    Raises:
      ValueError: naming a process that differs from the first, and the versions of both.

    Example:
      >>> check_code([{"jax": "0.10.2"}, {"jax": "0.10.1"}])
      Traceback (most recent call last):
          ...
      ValueError: process 1 runs jax 0.10.1 and process 0 jax 0.10.2; install the same on all hosts
    """
    first = said[0]
    for process, code in enumerate(said):
        if differ := [name for name in first if code.get(name) != first[name]]:
            theirs, ours = (
                ", ".join(f"{name} {one.get(name)}" for name in differ) for one in (code, first)
            )
            raise ValueError(
                f"process {process} runs {theirs} and process 0 {ours}; install the same on all "
                "hosts"
            )


def on_tpu() -> bool:
    """Whether this host has TPUs and the library that drives them; touches no device."""
    if importlib.util.find_spec("libtpu") is None:
        return False
    return any(glob.glob(pattern) for pattern in ("/dev/accel*", "/dev/vfio/[0-9]*"))


def tell_libtpu_of_no_tpu() -> None:
    """Answer beforehand what libtpu would ask a cloud's host; elsewhere it complains.

    To be called before anything touches a device. What the user has set stays.
    """
    for variable, value in _NO_TPU.items():
        os.environ.setdefault(variable, value)


def initialize_distributed(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Join a run of several processes; call before anything touches a device.

    Args:
      coordinator: "host:port" of process 0; None does nothing, "auto" asks the cluster (Cloud
        TPU, Slurm, MPI) for all three.
      num_processes: how many there are in all.
      process_id: this one's number, 0 to num_processes - 1.

    Raises:
      ValueError: an incomplete or inconsistent triple, or a coordinator that cannot be reached.

    Example:
      >>> initialize_distributed()  # one process: nothing to join
    """
    if coordinator is None:
        if num_processes is not None or process_id is not None:
            raise ValueError(
                f"coordinator=None with num_processes={num_processes}, process_id={process_id}; "
                "give host:port of process 0"
            )
        return
    if coordinator == "auto":
        jax.distributed.initialize(shutdown_timeout_seconds=_LONGEST_ALONE)
        return
    if not re.fullmatch(r"\S+:\d+", coordinator):
        raise ValueError(f"coordinator={coordinator!r}: give host:port of process 0, or auto")
    if num_processes is None or process_id is None or not 0 <= process_id < num_processes:
        raise ValueError(
            f"coordinator={coordinator!r}, num_processes={num_processes}, process_id={process_id}: "
            "give all three, with 0 <= process_id < num_processes"
        )
    if process_id > 0:
        _wait_for(coordinator)
    jax.distributed.initialize(
        coordinator, num_processes, process_id, shutdown_timeout_seconds=_LONGEST_ALONE
    )


def _wait_for(coordinator: str) -> None:
    """Wait until process 0 listens; jax would say in many lines that it does not."""
    host, _, port = coordinator.rpartition(":")
    until = time.monotonic() + _REACHED
    while True:
        left = until - time.monotonic()
        try:
            socket.create_connection((host.strip("[]"), int(port)), max(left, 1)).close()
            return
        except (OSError, OverflowError) as error:
            if left <= 0:
                raise ValueError(
                    f"coordinator={coordinator!r} cannot be reached for {_REACHED:.0f} seconds "
                    f"({error}); start process 0, or give its host and port"
                ) from error
        time.sleep(0.5)
