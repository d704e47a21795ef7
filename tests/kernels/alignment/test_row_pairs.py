"""Sums over pairs of rows do not depend on how the rows are halved and tiled."""

import functools
import math

import jax
import numpy as np
import pytest

from substrate_jax.kernels import pairwise_cka as eager_pairwise_cka
from substrate_jax.kernels.alignment import row_pairs
from tests.kernels.alignment.encoders import SPACE, bound, pairwise_cka, sample


@SPACE
@pytest.mark.parametrize(("rows", "tile"), [(1, (1, 1)), (4, (8, 16)), (45, (45, 45))])
def test_tiles_do_not_matter(monkeypatch, space, rows, tile):
    blocks = sample(45)
    want = pairwise_cka(blocks, space=space)
    monkeypatch.setattr(row_pairs, "LEAST_ROWS", rows)
    monkeypatch.setattr(row_pairs, "TILE", tile)
    got = jax.jit(functools.partial(eager_pairwise_cka, space=space))(blocks)
    np.testing.assert_allclose(got, want, atol=bound(blocks))


@pytest.mark.parametrize("length", [1, 7, 160, 161, 1000, 13394])
@pytest.mark.parametrize("multiple", [1, 2, 16])
@pytest.mark.parametrize("most", [None, 1, 5000])
def test_halving_covers_the_rows_and_tiles_divide_them(length, multiple, most):
    halving = row_pairs.halve(length, multiple, most)
    assert length <= halving.rows < length + (multiple << halving.levels)
    assert halving.unit % multiple == 0
    assert halving.unit <= max(multiple, row_pairs.LEAST_ROWS + multiple)
    most = most or math.prod(row_pairs.TILE)
    assert math.prod(halving.tile) <= max(most, multiple**2)
    for side, limit in zip(halving.tile, row_pairs.TILE, strict=True):
        power = side // halving.unit
        assert side == halving.unit * power <= max(limit, halving.unit)
        assert power & (power - 1) == 0
