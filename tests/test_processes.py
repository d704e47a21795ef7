"""A run of one process, and what joining several refuses. tests/multiprocess has real ones."""

import fnmatch
import importlib.machinery

import numpy as np
import pytest

from substrate_jax import processes
from substrate_jax.processes import initialize_distributed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 2, 0), "coordinator=None with num_processes=2"),
        (("localhost", 2, 0), "coordinator='localhost': give host:port"),
        (("localhost:1", 2, 2), "0 <= process_id < num_processes"),
        (("localhost:1", None, 0), "coordinator='localhost:1', .*give all three"),
    ],
)
def test_initialize_distributed_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        initialize_distributed(*arguments)


@pytest.mark.parametrize("arguments", [("localhost:1", 2, 0), ("auto", None, None)])
def test_a_process_that_is_done_waits_for_one_that_works_on(arguments, monkeypatch):
    """JAX would end all of them, work and all, five minutes after the first is done."""
    given = {}
    monkeypatch.setattr(
        processes.jax.distributed, "initialize", lambda *_, **options: given.update(options)
    )
    initialize_distributed(*arguments)
    assert given["shutdown_timeout_seconds"] > 24 * 3600


def test_one_process_tells_itself_everything():
    value = {"rows": [1, 2], "text": "ä", "none": None}
    assert processes.exchange(value) == [value]
    block = np.ones((3, 2), np.float32)
    assert processes.join_rows(block, [0, 3]) is block


@pytest.mark.parametrize(
    ("library", "device", "found"),
    [
        (True, "/dev/accel0", True),
        (True, "/dev/vfio/0", True),
        (True, "/dev/vfio/vfio", False),
        (True, None, False),
        (False, "/dev/accel0", False),
    ],
)
def test_a_tpu_is_a_library_and_a_device(monkeypatch, library, device, found):
    spec = importlib.machinery.ModuleSpec("libtpu", None) if library else None
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: spec)
    devices = [device] if device else []
    monkeypatch.setattr(processes.glob, "glob", lambda pattern: fnmatch.filter(devices, pattern))
    assert processes.on_tpu() == found
