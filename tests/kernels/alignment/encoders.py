"""Encoders to align, the digits to expect of them, and the programs that tests share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.kernels import StreamingCka
from substrate_jax.kernels import pairwise_cka as eager_pairwise_cka
from substrate_jax.kernels.reference import statistics as reference
from tests import helpers

# Compiled as a whole: test by test, compiling each operation alone takes longer.
pairwise_cka = jax.jit(eager_pairwise_cka, static_argnames=("space", "debiased", "axis_name"))
update = jax.jit(StreamingCka.update, static_argnames="axis_name")
finalize = jax.jit(StreamingCka.finalize, static_argnames="debiased")
WIDTHS = (3, 7, 12)
DEBIASED = pytest.mark.parametrize("debiased", [False, True])
SPACE = pytest.mark.parametrize("space", ["feature", "gram"])


def sample(n=40, widths=WIDTHS, ratio=0.0, seed=0, dtype=np.float32):
    """Encoders that share one direction, `ratio` standard deviations from 0."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 1))
    return [(rng.normal(size=(n, d)) + shared + ratio).astype(dtype) for d in widths]


def bound(blocks, debiased=False, dtype=jnp.float32):
    """Tolerance for CKA: inputs and sums are rounded; debiasing amplifies by <K, K> / HSIC."""
    condition = 1.0
    if debiased:
        grams = [reference.gram(block) for block in blocks]
        n = len(grams[0])
        unbiased = [n * (n - 3) * reference.hsic_unbiased(k, k) for k in grams]
        condition = max(np.sum(k * k) / h for k, h in zip(grams, unbiased, strict=True))
    return helpers.tolerance(len(blocks[0]) + max(WIDTHS), dtype, condition)


def streamed(blocks, sizes, **options):
    state, start = StreamingCka.init([block.shape[1] for block in blocks], **options), 0
    for size in sizes:
        state = update(state, [jnp.asarray(b[start : start + size]) for b in blocks])
        start += size
    assert start == len(blocks[0])
    return state
