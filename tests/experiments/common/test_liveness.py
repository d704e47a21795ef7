"""Processes hear of each other's ends: said, passed on by process 0, or a connection broke."""

import queue
import signal
import socket
import subprocess
import sys

import pytest

from experiments.common.liveness import DIED, DONE, Liveness

WAIT = 30  # seconds, on a busy machine


@pytest.fixture
def run():
    """Three processes' parts of a watch in one, and what each of them hears."""
    heard = [queue.Queue() for _ in range(3)]
    parts = [
        Liveness(number, lambda *notice, put=each.put: put(notice))
        for number, each in enumerate(heard)
    ]
    address = parts[0].serve(3)
    for part in parts[1:]:
        part.join(["localhost"], *address)
    return parts, heard


def test_an_end_is_passed_on_once(run):
    parts, heard = run
    parts[2].tell(signal.SIGTERM)
    parts[2].tell(DONE)  # the first word counts
    for each in heard[:2]:
        assert each.get(timeout=WAIT) == (2, signal.SIGTERM)
    parts[0].tell(DONE)
    for each in heard[1:]:
        assert each.get(timeout=WAIT) == (0, DONE)
    assert all(each.empty() for each in heard)


CHILD = """
import sys, time
from experiments.common.liveness import Liveness
port, token = sys.argv[1:]
Liveness(1, print).join(["localhost"], int(port), token)
print("joined", flush=True)
time.sleep(600)
"""


def test_a_kill_is_heard_and_a_stranger_is_not():
    heard = queue.Queue()
    first = Liveness(0, lambda *notice: heard.put(notice))
    port, token = first.serve(2)
    with socket.create_connection(("localhost", port)) as stranger:
        stranger.sendall(bytes(20))  # no token, and the number 0
        assert stranger.recv(1) == b""
    command = [sys.executable, "-c", CHILD, str(port), token]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "joined\n"
        child.kill()
        assert heard.get(timeout=WAIT) == (1, DIED)


def test_where_process_0_does_not_answer_the_last_reason_is_given():
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        Liveness(1, print).join(["localhost"], port, "00" * 16)
