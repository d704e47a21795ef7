"""Where one process ends, all do: soon, with one line, and with the code that says why."""

import os
import signal
import subprocess
import sys

import pytest

from tests.multiprocess import processes

WORKER = ("-m", "tests.multiprocess.ends_worker", "--nocompilation_cache")
TERMINATED = "terminated; the same command goes on where this one stopped\n"
AGAIN = "start all processes again: the same command goes on where this one stopped\n"
MINUTE = 60


def busy():
    workers = processes.start(*WORKER, stdin=subprocess.PIPE)
    for worker in workers:
        while (line := worker.stdout.readline()) != "busy\n":
            assert line, "a process ended before it was busy"
    return workers


@pytest.mark.parametrize(
    ("number", "said", "code"),
    [
        (signal.SIGTERM, TERMINATED, 143),
        (signal.SIGKILL, f"error: process 1 has died, or its host cannot be reached; {AGAIN}", 2),
    ],
)
def test_a_signal_to_one_ends_the_other(number, said, code):
    first, second = workers = busy()
    second.send_signal(number)
    output = processes.finish(workers, MINUTE)
    assert (first.returncode, output[0]) == (code, said)
    if number == signal.SIGTERM:
        assert (second.returncode, output[1]) == (code, said)


@pytest.mark.long
def test_a_failure_of_one_ends_the_other():
    first, second = workers = busy()
    second.stdin.write("fail\n")
    second.stdin.flush()
    output = processes.finish(workers, MINUTE)
    assert (first.returncode, output[0]) == (2, f"error: process 1 has failed; {AGAIN}")
    assert second.returncode == 2
    assert "disk on fire" in output[1]


@pytest.mark.long
def test_processes_of_other_code_are_refused_with_both():
    workers = processes.start(*WORKER, each=[{"CODE": "a"}, {"CODE": "b"}])
    for output in processes.finish(workers, MINUTE):
        assert output.endswith(
            "error: process 1 runs substrate_jax 1.0+b and process 0 substrate_jax 1.0+a; install "
            "the same on all hosts\n"
        )
    assert [worker.returncode for worker in workers] == [2, 2]


def test_a_coordinator_that_does_not_answer_ends_in_one_line():
    code = (
        "from experiments.common import devices, launch; from substrate_jax import processes;"
        "processes._REACHED = 0; launch.start(print, devices.join_processes)"
    )
    flags = ("--coordinator=127.0.0.1:1", "--num_processes=2", "--process_id=1")
    done = subprocess.run(
        [sys.executable, "-c", code, *flags],
        cwd=processes.ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=MINUTE,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: coordinator='127.0.0.1:1' cannot be reached for 0 s")
    assert done.stderr.endswith("start process 0, or give its host and port\n")
