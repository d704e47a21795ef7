"""Dataclasses as JSON has them: which fields stand where, and which are left out."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.report.values import INLINE, plain, upper


@dataclasses.dataclass(frozen=True)
class Inner:
    value: float
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class Outer:
    known: Inner = dataclasses.field(metadata=INLINE)
    by_k: dict[int, Inner]
    ratio: float | None
    interval: Inner | None = dataclasses.field(default=None, metadata=INLINE)


def test_inline_fields_stand_among_those_of_the_owner():
    found = plain(Outer(Inner(1.0), {10: Inner(2.0, "two")}, 0.5))
    assert found == {"value": 1.0, "by_k": {"10": {"value": 2.0, "note": "two"}}, "ratio": 0.5}
    assert list(found) == ["value", "by_k", "ratio"]


def test_none_is_left_out_only_where_it_is_the_default():
    assert plain(Outer(Inner(np.nan), {}, None)) == {"value": None, "by_k": {}, "ratio": None}


def test_two_fields_of_one_name_are_refused():
    with pytest.raises(ValueError, match="Outer with two fields 'value'"):
        plain(Outer(Inner(1.0), {}, 0.5, Inner(2.0)))


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (np.array([[1, 2]], np.int32), [[1, 2]]),
        (jnp.array([0.5, jnp.inf]), [0.5, None]),
        (np.bool_(True), True),
        (np.float32(0.5), 0.5),
        (float("-inf"), None),
        (("a", None, 3), ["a", None, 3]),
        ({10: Path("a") / "b"}, {"10": "a/b"}),
        ([Inner(0.5)], [{"value": 0.5}]),
    ],
)
def test_values_become_those_of_python(value, want):
    found = plain(value)
    assert found == want
    assert type(found) is type(want)


@pytest.mark.parametrize("value", [object(), {1, 2}, Inner, 1j, b"bytes"])
def test_what_json_cannot_hold_is_named(value):
    with pytest.raises(ValueError, match=f"type {type(value).__name__} .*give a number") as error:
        plain({"deep": [value]})
    assert "\n" not in str(error.value)


def test_upper_reads_each_pair_once():
    assert upper(np.arange(9.0).reshape(3, 3)).tolist() == [1, 2, 5]
