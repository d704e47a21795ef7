"""Activations of more than two dimensions: which axes are averaged, and what is refused."""

import numpy as np
import pytest

from substrate_jax.features.files import FileRows
from substrate_jax.features.files import rows as module
from tests.helpers import tolerance

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "axes"), [((6, 4, 5), 1), ((6, 3, 3, 5), (1, 2)), ((6, 5, 3, 3), (2, 3))]
)
def test_the_mean_is_over_positions(shape, axes):
    values = RNG.normal(size=shape).astype(np.float16)
    found = FileRows(values, "mean", "a")
    assert found.shape == (6, 5)
    want = values.astype(np.float64).mean(axes)
    np.testing.assert_allclose(np.asarray(found), want, rtol=tolerance(1))
    np.testing.assert_array_equal(found[2:4], np.asarray(found)[2:4])


def test_the_first_token_and_everything():
    values = RNG.normal(size=(6, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(FileRows(values, "first", "a")[:], values[:, 0])
    flat = FileRows(values, "flatten", "a", np.array([5, 0]))
    assert flat.shape == (2, 20)
    np.testing.assert_array_equal(flat[:], values.reshape(6, 20)[[5, 0]])


@pytest.mark.parametrize("pool", [None, *module.POOLS])
def test_two_dimensions_are_left_alone(pool):
    values = RNG.normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_array_equal(FileRows(values, pool, "a")[:], values)


@pytest.mark.parametrize(
    ("shape", "pool", "match"),
    [
        ((6, 4, 5), None, r"a is \[6, 4, 5\], more than two dimensions; give pool=mean, flatten"),
        ((6, 4, 5), "max", "give pool="),
        ((6, 7, 7, 7), "mean", "which axes are positions"),
        ((6, 8, 3, 5), "mean", "which axes are positions"),
        ((6, 2, 3, 3, 5), "mean", "which axes are positions"),
        ((6, 3, 3, 5), "first", r"pool=first needs \[rows, tokens, features\]"),
        ((6, 0, 5), "mean", "at least one feature"),
        ((6, 0, 5), "first", "at least one feature"),
        ((6, 0), None, "at least one feature"),
        ((6,), "mean", r"give \[rows, features\]"),
    ],
)
def test_what_makes_no_row_is_refused(shape, pool, match):
    with pytest.raises(ValueError, match=match):
        FileRows(np.zeros(shape, np.float32), pool, "a")


def test_rows_are_checked_in_parts(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_BYTES", 100)
    values = np.ones((50, 3), np.float32)
    values[[3, 48], 2] = np.nan
    with pytest.raises(ValueError, match="2 of 49 rows: r3, r48"):
        FileRows(values, None, "a", np.arange(49)).check_finite([f"r{i}" for i in range(49)])
