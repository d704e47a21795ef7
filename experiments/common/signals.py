"""Ending on a signal: soon, with one line, and with nothing half-written.

A run ends on SIGINT (Ctrl-C) with exit code 130 and on SIGTERM (a scheduler, `docker stop`) with
143. Files appear whole or not at all, so any moment is a good one, and the same command goes on.

Python runs what answers a signal between two of its own instructions. A thread waits beside it, for
compiling a large network or waiting for other processes may keep Python from them for minutes: it
ends the process `GRACE` seconds after the signal.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

GRACE = 5.0  # seconds; containers are given ten before they are killed
GO_ON = "the same command goes on where this one stopped"
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_said = threading.Event()


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
    try:
        yield
    finally:
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
    _said.set()
    _say(number, advice)
    return 128 + number


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


def _say(number: int, advice: str) -> None:
    print(f"{_WORDS[signal.Signals(number)]}; {advice}", file=sys.stderr, flush=True)


def _end_after_grace(receiving: int) -> None:
    while number := os.read(receiving, 1):
        if number[0] in _WORDS:
            time.sleep(GRACE)
            if not _said.is_set():
                _say(number[0], GO_ON)
            os._exit(128 + number[0])
    os.close(receiving)
