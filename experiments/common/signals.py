"""Ending on a signal: soon, with one line, and with nothing half-written.

A run ends on SIGINT (Ctrl-C) with exit code 130 and on SIGTERM (a scheduler, `docker stop`) with
143. Files appear whole or not at all, so any moment is a good one, and the same command goes on.

Python runs what answers a signal between two of its own instructions. A thread waits beside it, for
compiling a large network or waiting for other processes may keep Python from them for minutes: it
ends the process `GRACE` seconds after the signal.

In a run of several processes a signal to one ends all in the same way, and one that dies or fails
ends the others with one line: they would wait for it for ever. Process 0 goes last, for jax aborts
the others as soon as it is gone.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from .liveness import DIED, DONE, FAILED, Liveness

GRACE = 5.0  # seconds; containers are given ten before they are killed
GO_ON = "the same command goes on where this one stopped"
_AGAIN = f"start all processes again: {GO_ON}"
_WORDS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_said = threading.Event()
_ending = threading.Event()
_passing = threading.Lock()  # a signal to this process, or the handler that is to answer it
_LAST = 1.0  # seconds that process 0 stays behind the others
_watches: list[Liveness] = []  # of this run, at most one


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGINT and SIGTERM end the block by KeyboardInterrupt, or the process; main thread only.

    The exception's argument is the number of the signal where it was SIGTERM, see `exit_code`.
    """
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    before = signal.signal(signal.SIGTERM, _interrupt)
    wakes = signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    threading.Thread(target=_end_after_grace, args=(receiving,), daemon=True).start()
    _ending.clear()
    try:
        yield
    finally:
        with _passing:  # what another process says from here on comes too late
            _ending.set()
            signal.set_wakeup_fd(wakes)
            signal.signal(signal.SIGTERM, before)
        os.close(sending)  # the thread ends, unless a signal came: then it sees to the end


def exit_code(interrupt: KeyboardInterrupt, advice: str = GO_ON) -> int:
    """What a shell calls an end by the signal; says on stderr what to do next.

    Example:
        >>> exit_code(KeyboardInterrupt(signal.SIGTERM))
        143
    """
    number = int(interrupt.args[0]) if interrupt.args else int(signal.SIGINT)
    tell(number)
    _said.set()
    _say(number, advice)
    return 128 + number


def watch_processes(number: int) -> Liveness:
    """This process's part of the watch over the processes of a run, to be joined."""
    _watches[:] = [Liveness(number, _heard)]
    return _watches[0]


def tell(how: int) -> None:
    """Say to the other processes, where there are any, how this one ends; the first word counts."""
    if how == FAILED:
        _said.set()
    for watch in _watches:
        watch.tell(how)


def _heard(process: int, how: int) -> None:
    """End this process as another has ended, unless it was done."""
    with _passing:
        if how == DONE or _ending.is_set():
            return
        if how in _WORDS:
            _ending.set()
            os.kill(os.getpid(), how)
            return
    if how == FAILED:
        time.sleep(GRACE)  # most failures are common to all: then this one says why
    if not _said.is_set():
        what = "has died, or its host cannot be reached" if how == DIED else "has failed"
        print(f"error: process {process} {what}; {_AGAIN}", file=sys.stderr, flush=True)
    _stay_behind()
    os._exit(2)


def _stay_behind() -> None:
    if any(watch.number == 0 for watch in _watches):
        time.sleep(_LAST)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


def _say(number: int, advice: str) -> None:
    print(f"{_WORDS[signal.Signals(number)]}; {advice}", file=sys.stderr, flush=True)


def _end_after_grace(receiving: int) -> None:
    while number := os.read(receiving, 1):
        if number[0] in _WORDS:
            _ending.set()
            tell(number[0])
            time.sleep(GRACE)
            _stay_behind()
            if not _said.is_set():
                _say(number[0], GO_ON)
            os._exit(128 + number[0])
    os.close(receiving)
