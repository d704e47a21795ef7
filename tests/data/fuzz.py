"""What the fuzz tests share: how files are damaged, how much is tried, and what may come of it.

`SUBSTRATE_FUZZ_SECONDS=600 pytest tests/data/test_fuzz.py` tries new examples for about that long;
without the variable the same few are tried each time.
"""

import contextlib
import datetime
import os
import resource
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("SUBSTRATE_FUZZ_SECONDS", "0"))
USUAL_SECONDS = 20  # what a file of fuzz tests takes otherwise
MOST_GROWTH = 1024  # MiB that damaged files may make a process grow by

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def tried(examples: int):
    """Settings of a test: the same examples each time, or new ones for a while."""
    more = max(int(examples * SECONDS / USUAL_SECONDS), examples) if SECONDS else examples
    return settings(
        max_examples=more,
        derandomize=not SECONDS,
        database=None,
        deadline=datetime.timedelta(seconds=20),
        suppress_health_check=list(HealthCheck),
    )


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
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MOST_GROWTH, f"{grown:.0f} MiB"


def attempt(read: Callable[[], Any], *names: str) -> Any:
    """What `read` gives; None if it refuses, in one line that can be printed and holds a name.

    Warnings are as Python has them by default: as errors they would hide what comes after.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read()
        except ValueError as error:
            message = str(error)
    assert "\n" not in message, message
    assert len(message) < 3_000, message[:200]
    assert message.encode()
    assert not names or any(name in message for name in names), message
    return None
