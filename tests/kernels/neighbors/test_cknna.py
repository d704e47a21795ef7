"""Measures of shared neighborhoods where too few rows count."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.kernels import pairwise_measure
from tests.kernels.encoders import ROWS, sample


@pytest.mark.parametrize(
    "name", ["cknna", "cycle_knn", "neighborhood_jaccard", "second_order_cosine"]
)
def test_without_k_other_rows_there_is_no_value(name):
    compute = jax.jit(functools.partial(pairwise_measure, name))
    for count, defined in ((10, False), (11, True)):
        got = compute([jnp.asarray(b) for b in sample()[:2]], mask=jnp.arange(ROWS) < count)
        assert (np.isfinite(got) if defined else np.isnan(got)).all()
