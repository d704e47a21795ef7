"""The k largest: Pallas's kernel against XLA's sort."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.kernels.neighbors import top_k as module
from substrate_jax.kernels.neighbors.top_k import top_k, top_k_by_pallas

INFINITE = np.float32(np.inf)


def rows(columns, seed=0):
    """Spread, many ties, all equal, mostly -inf, both zeros, both infinities."""
    rng = np.random.default_rng(seed)
    spread = rng.standard_normal(columns).astype(np.float32)
    few = np.full(columns, -INFINITE)
    few[:: max(columns // 3, 1)] = spread[:: max(columns // 3, 1)]
    zeros = np.where(rng.random(columns) < 0.5, np.float32(0), np.float32(-0.0))
    both = spread.copy()
    both[[0, -1]] = INFINITE, -INFINITE
    return np.stack([spread, np.round(spread) + 0, np.ones_like(spread), few, zeros, both])


@pytest.mark.parametrize(("columns", "k"), [(300, 37), (64, 64), (129, 1), (5, 4)])
def test_the_kernel_finds_the_largest_in_order(columns, k):
    values = rows(columns)
    got, places = jax.jit(partial(top_k_by_pallas, k=k, interpret=True))(values)
    order = np.argsort(-values.astype(np.float64), axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(places, order)
    np.testing.assert_array_equal(got, np.take_along_axis(values, order, axis=1))
    want, where = top_k(jnp.asarray(values), k)
    np.testing.assert_array_equal(places[:4], where[:4])
    np.testing.assert_array_equal(got[:4], want[:4])


def test_only_what_registers_hold_goes_to_the_kernel(monkeypatch):
    def lowered(values, k):
        program = jax.jit(partial(top_k, k=k)).trace(values)
        return program.lower(lowering_platforms=("cuda",)).as_text()

    fits = jax.ShapeDtypeStruct((8, 1000), jnp.float32)
    assert "triton" in lowered(fits, 100)
    assert "triton" not in lowered(fits, module.MOST_LARGEST + 1)
    assert "triton" not in lowered(jax.ShapeDtypeStruct((8, 1000), jnp.bfloat16), 100)
    monkeypatch.setattr(module, "MOST_COLUMNS", 999)
    assert "triton" not in lowered(fits, 100)
