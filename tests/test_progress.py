"""Bars on a terminal, lines in a log."""

import io
import sys

import pytest

from substrate_jax import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stderr(monkeypatch):
    """Returns a function that puts a terminal or a log in place of stderr, and gives it."""

    def put(kind):
        monkeypatch.setattr(sys, "stderr", kind())
        return sys.stderr

    return put


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a bar reads, set by the test."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def run(now, seconds, before=None):
    """A task of a hundred steps."""
    with progress.progress_bar("texture", 100, "image", before=before) as bar:
        for _ in range(100):
            now[0] += seconds / 100
            bar.update()


def test_a_log_has_a_line_after_two_seconds_then_every_half_minute(stderr, clock):
    log = stderr(io.StringIO)
    run(clock, 100)
    lines = log.getvalue().splitlines()
    assert lines[0].startswith("texture: 2 of 100, ")
    assert lines[0].endswith("01:38 left")
    assert [int(line.split()[1]) for line in lines] == [2, 32, 62, 92, 100]
    assert "\r" not in log.getvalue()


def test_bytes_are_written_with_prefixes(stderr, clock):
    log = stderr(io.StringIO)
    with progress.progress_bar("set.npz", 4_000_000, "B", prefixes=True) as bar:
        clock[0] += 10
        bar.update(1_000_000)
    assert log.getvalue().startswith("set.npz: 1.00M of 4.00M, 100kB/s, 00:30 left\n")


def test_a_short_task_leaves_a_log_alone(stderr, clock):
    log = stderr(io.StringIO)
    run(clock, 1)
    assert log.getvalue() == ""


def test_the_end_is_said_once(stderr, clock):
    log = stderr(io.StringIO)
    with progress.progress_bar("load", 1, "step") as bar:
        clock[0] += 40
        bar.update()
    assert log.getvalue() == "load: 1 of 1, 40.00s/step, 00:00 left\n"


def test_lines_say_which_process_they_are_of_even_on_a_terminal(stderr, clock):
    log = stderr(Terminal)
    run(clock, 50, before="process 1 of 2: ")
    assert log.getvalue().startswith("process 1 of 2: texture: 4 of 100, ")


def test_a_terminal_has_a_bar(stderr, clock):
    terminal = stderr(Terminal)
    run(clock, 10)
    assert "\rtexture: " in terminal.getvalue()


def test_nothing_is_shown_without_a_label(stderr):
    terminal = stderr(Terminal)
    with progress.progress_bar(None, 2, "step") as bar:
        bar.update(2)
    assert terminal.getvalue() == ""
