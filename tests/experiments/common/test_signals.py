"""A run ends on a signal: with one line and the right code, however busy it is."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import long

ROOT = Path(__file__).parents[3]

LAUNCHER = """
import ctypes, sys, threading, time
from experiments.common import launch, signals
from substrate_jax.processes import initialize_distributed

signals.GRACE = 0.5

def busy():
    print("busy", flush=True)
    time.sleep(60)

def busy_where_python_never_runs():
    mutex = ctypes.create_string_buffer(64)  # zeros are a mutex; its second lock waits for ever
    lock = ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex)
    print("busy", flush=True)
    lock(mutex)

def deaf():
    try:
        busy()
    finally:
        time.sleep(60)

def join():
    initialize_distributed("127.0.0.1:{port}", 1, 0)

launch.start({run}, {join})
"""
CASES = {
    "busy": ("busy", "None"),
    "in a library": ("busy_where_python_never_runs", "None"),
    "cleaning up for long": ("deaf", "None"),
    "one of several processes": ("busy", "join"),
}
ENDS = {
    signal.SIGINT: (130, "interrupted; the same command goes on where this one stopped\n"),
    signal.SIGTERM: (143, "terminated; the same command goes on where this one stopped\n"),
}


@pytest.mark.parametrize(
    ("case", "number"),
    [
        (case, number) if number == signal.SIGTERM or case == "busy" else long(case, number)
        for case in CASES
        for number in ENDS
    ],
)
def test_a_signal_ends_a_run(case, number, free_port):
    run, join = CASES[case]
    code = LAUNCHER.format(run=run, join=join, port=free_port)
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--nocompilation_cache"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "busy\n"
    time.sleep(0.1)  # until it is
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    code, line = ENDS[number]
    assert process.returncode == code
    assert said.endswith(line)
    assert "Traceback" not in said


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
