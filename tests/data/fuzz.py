"""What the fuzz tests share: how files are damaged, how much is tried, and what may come of it.

As tests they try the same few examples each time. The long form tries new ones, target by target,
and prints a row for docs/results.md each:

    python -m tests.data.fuzz --minutes=20
    python -m tests.data.fuzz --minutes=20 --target=images

Seconds and minutes are those that the process computes, so that other work on the machine does not
count. SIGTERM ends a target, and its row then says how far it came.

What is lost (a traceback, a hang, a wrong value, memory) is printed, and the exit code is then 1.
"""

import argparse
import contextlib
import dataclasses
import faulthandler
import functools
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MOST_GROWTH = 1024  # MiB that damaged files may make a process grow by
MOST_MEMORY = 8 << 30  # bytes of the long form's processes: asking for more is a loss
DEADLINE = 20  # seconds of one example
HANGING = 3600  # seconds on the clock after which an example ends the long form
LOST = 3  # exit code where a row says what was lost

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

_DATA, _ENCODERS = "tests/data/test_fuzz.py::", "tests/encoders/test_fuzz.py::"
TARGETS = {
    "safetensors": (
        f"{_ENCODERS}test_damaged_safetensors",
        f"{_ENCODERS}test_any_header",
        f"{_ENCODERS}test_damaged_indices_of_shards",
    ),
    "images": (f"{_DATA}test_damaged_images", f"{_DATA}test_noise_is_no_image"),
    "npz": (f"{_DATA}test_damaged_npz", f"{_DATA}test_damaged_npy_of_quickdraw"),
    "array_record": (f"{_DATA}test_damaged_records",),
    "config.json": (f"{_ENCODERS}test_damaged_configs",),
    "features.json": (f"{_DATA}test_damaged_descriptions_of_a_set",),
    "flags": (
        "tests/experiments/common/test_flag_fuzz.py",
        f"{_DATA}test_any_text_as_domains_or_spec",
    ),
}


@dataclasses.dataclass
class Seen:
    """What came of all examples of this process.

    Attributes:
        examples: how many were tried.
        read: attempts that gave something, such as a plan; the tests hold it to be right.
        refused: attempts that ended in one line.
        slowest: seconds of the longest attempt.
        share: seconds that each test may try new examples for; 0 for the usual few.
    """

    examples: int = 0
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    share: float = 0.0


SEEN = Seen()


def tried(examples: int, *strategies: st.SearchStrategy):
    """A test of so many examples, the same each time; in the long form of new ones for a while."""

    def decorate(test: Callable[..., None]) -> Callable[[], None]:
        @functools.wraps(test)  # with its arguments, which hypothesis looks at
        def counted(*drawn, **named):
            SEEN.examples += 1
            began = time.process_time()
            peak = _peak()
            if SEEN.share:  # a test that hangs would never come to its deadline
                # Not to what a test may have put in the place of stderr.
                faulthandler.dump_traceback_later(HANGING, exit=True, file=sys.__stderr__)
            try:
                test(*drawn, **named)
            finally:
                faulthandler.cancel_dump_traceback_later()
            assert time.process_time() - began < DEADLINE
            assert _peak() - peak < MOST_GROWTH

        def check() -> None:
            _try(counted, strategies, examples, derandomize=not SEEN.share)
            until = time.process_time() + SEEN.share
            while time.process_time() < until:
                _try(counted, strategies, examples, derandomize=False)

        check.__name__ = test.__name__
        return check

    return decorate


def _try(test: Callable[..., None], strategies, examples: int, *, derandomize: bool) -> None:
    chosen = settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    chosen(given(*strategies)(test))()


@st.composite
def damaged(draw, data: bytes) -> bytes:
    """The bytes of a file after one to three mishaps, most of them near its beginning."""
    for _ in range(draw(st.integers(1, 3))):
        near = draw(st.sampled_from([32, 128, len(data)]))
        at = draw(st.integers(0, max(min(near, len(data)) - 1, 0)))
        how = draw(st.sampled_from(["cut", "flip", "number", "fill", "repeat", "drop", "noise"]))
        if how == "cut":
            data = data[:at] if draw(st.booleans()) else data[: len(data) - at]
        elif how == "flip" and data:
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif how == "number":  # a size, offset or count, in either byte order
            size = draw(st.sampled_from([1, 2, 4, 8]))
            value = draw(st.sampled_from(EXTREMES)) & (256**size - 1)
            order = draw(st.sampled_from(["little", "big"]))
            data = data[:at] + value.to_bytes(size, order) + data[at + size :]
        elif how == "fill":
            size = draw(st.integers(1, 64))
            data = data[:at] + bytes([draw(st.sampled_from([0, 255]))]) * size + data[at + size :]
        elif how == "repeat":
            data = data[:at] + data[at : at + 64] * draw(st.integers(2, 4)) + data[at + 64 :]
        elif how == "drop":
            data = data[:at] + data[at + draw(st.integers(1, 16)) :]
        else:
            data = data[:at] + draw(st.binary(min_size=1, max_size=16)) + data[at:]
    return data


# Without the tables of st.text, which take seconds to make.
_ODD = st.sampled_from([*" \n\t\r\x1b\\'\"é\u202e\udcff", "\\xff"])
LETTERS = st.lists(st.integers(1, 0x10FFFF).map(chr) | _ODD, max_size=80).map("".join)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2, 3, 7, 10**6, 10**9, 10**18, 10**30, -(10**9)]),
    st.sampled_from([0.0, -1.0, 0.5, 1e-30, 1e30, 1e300]),
    st.sampled_from(["", "gelu", "1", "a" * 1000, "../..", "\0"]),
    st.sampled_from([[], {}, [1], [10**9], ["a"], {"a": 1}, [[]], [0.5, 0.5], [1] * 200]),
)


@st.composite
def altered(draw, content):
    """JSON with one to three of its values, at any depth, replaced or taken away."""
    for _ in range(draw(st.integers(1, 3))):
        content = draw(_altered_once(content))
    return content


@st.composite
def _altered_once(draw, content):
    if not content or not isinstance(content, (dict, list)) or draw(st.integers(0, 9)) == 0:
        return draw(JUNK)
    if isinstance(content, list):
        at = draw(st.integers(0, len(content) - 1))
        return [*content[:at], draw(_altered_once(content[at])), *content[at + 1 :]]
    key = draw(st.sampled_from(sorted(content)))
    if draw(st.integers(0, 9)) == 0:
        return {name: value for name, value in content.items() if name != key}
    return content | {key: draw(_altered_once(content[key]))}


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Fail if what is inside made the process grow by much."""
    before = _peak()
    yield
    grown = _peak() - before
    # TFDS keeps 6 kB of every set it opened, and the long form opens hundreds of thousands: there
    # the limit is that of each example.
    assert SEEN.share or grown < MOST_GROWTH, f"{grown:.0f} MiB"


def _peak() -> float:
    """MiB that this process has taken at most (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def attempt(read: Callable[[], Any], *names: str) -> Any:
    """What `read` gives; None if it refuses, in one line that can be printed and holds a name.

    Warnings are as Python has them by default: as errors they would hide what comes after.
    """
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = read()
        except ValueError as error:
            message = str(error)
        else:
            SEEN.read += 1
            return found
        finally:
            SEEN.slowest = max(SEEN.slowest, time.process_time() - began)
    SEEN.refused += 1
    assert "\n" not in message, message
    assert len(message) < 3_000, message[:200]
    assert message.encode()
    assert not names or any(name in message for name in names), message
    return None


class Long:
    """Shares the time of a target out among its tests, and counts what they lost.

    Args:
        seconds: of all tests together.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.lost = 0
        self.before = 0.0

    def pytest_collection_finish(self, session):
        """Once it is known how many there are."""
        SEEN.share = self.seconds / max(len(session.items), 1)
        self.before = _peak()

    def pytest_runtest_logreport(self, report):
        """A test that failed, or could not begin or end."""
        self.lost += report.failed


def fuzz(target: str, minutes: float) -> int:
    """Try new examples of one target, print its row, and return how many tests lost something."""
    began, long = time.process_time(), Long(60 * minutes)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    quiet = ("-n", "0", "-q", "--durations=0", "-W", "ignore::pytest.PytestAssertRewriteWarning")
    code = pytest.main([*quiet, *TARGETS[target]], [long])
    ends = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    if code not in ends:
        long.lost += 1
    cells = (
        f"{(time.process_time() - began) / 60:.1f}",
        f"{SEEN.examples:,}",
        f"{SEEN.read:,}",
        f"{SEEN.refused:,}",
        str(long.lost),
        f"{SEEN.slowest:.1f} s",
        f"{_peak() - long.before:.0f} MiB",
    )
    print(f"ROW | {target} | {' | '.join(cells)} |", flush=True)
    return long.lost


def main() -> None:
    """The long form: each target in a process of its own, whose memory is then known."""
    parser = argparse.ArgumentParser(description="See the module's docstring.")
    parser.add_argument("--minutes", type=float, required=True, help="for each target")
    parser.add_argument("--target", choices=TARGETS, help="this one alone")
    arguments = parser.parse_args()
    if arguments.target:
        sys.exit(LOST if fuzz(arguments.target, arguments.minutes) else 0)
    print(
        "ROW | target | minutes | examples | read | refused | lost | slowest | memory |", flush=True
    )
    print("ROW |---|---|---|---|---|---|---|---|", flush=True)
    again = [sys.executable, "-m", "tests.data.fuzz", f"--minutes={arguments.minutes}"]
    ends = {t: subprocess.run([*again, f"--target={t}"]).returncode for t in TARGETS}
    for target, code in ends.items():
        if code not in (0, LOST):  # it crashed, or hung
            print(f"ROW | {target} | ended with {code} |", flush=True)
    sys.exit(any(ends.values()))


if __name__ == "__main__":
    # The tests import this module by its name: that one has the counts.
    from tests.data.fuzz import main as start

    start()
