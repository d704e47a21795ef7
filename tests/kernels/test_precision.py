"""Cheaper matrix products: that they are asked for, and what they cost in accuracy, emulated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.lax import DotAlgorithmPreset, Precision

from experiments.benchmarks.cases import NARROW_WIDTHS, features
from experiments.benchmarks.work import Size
from substrate_jax.kernels import pairwise_cka, pairwise_hsic, permutation_null
from substrate_jax.kernels.reference import statistics as reference
from tests import helpers

N, WIDTHS = 40, (64, 32)
D = sum(WIDTHS)
# Program, and the flops that have to be of the precision asked for.
PROGRAMS = {
    "gram": (functools.partial(pairwise_hsic, space="gram"), 2 * N**2 * D),
    "gram, cubic": (
        functools.partial(pairwise_hsic, space="gram", cubic=True),
        2 * N**2 * D + sum(2 * min(N, d) ** 2 * (max(N, d) + min(N, d)) for d in WIDTHS),
    ),
    "feature": (functools.partial(pairwise_cka, space="feature"), 2 * N * D**2),
    "permutations": (
        functools.partial(permutation_null, key=jax.random.key(0), permutations=3, space="gram"),
        2 * N**2 * D + 3 * 2 * N**2 * len(WIDTHS) ** 2 // 2,
    ),
}


@pytest.mark.parametrize("preset", ["TF32_TF32_F32", "BF16_BF16_F32_X3", "BF16_BF16_F32"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_precision_asked_for_is_that_of_the_large_products(name, preset):
    program, least = PROGRAMS[name]
    blocks = [jax.ShapeDtypeStruct((N, d), jnp.float32) for d in WIDTHS]

    def products(**options):
        traced = jax.make_jaxpr(functools.partial(program, **options))(blocks)
        return list(helpers.matrix_products(traced.jaxpr))

    found = products(precision=preset)
    asked = sum(flops for flops, precision in found if precision == DotAlgorithmPreset[preset])
    assert asked >= least
    full = (Precision.HIGHEST,) * 2
    assert all(precision in (DotAlgorithmPreset[preset], full) for _, precision in found)
    assert {precision for _, precision in products()} == {full}


def test_processors_refuse_tf32_and_give_float32_for_bfloat16():
    """As the docstring of `cka` says."""
    x = jax.random.normal(jax.random.key(0), (8, 300))
    want = np.asarray(x, np.float64) @ np.asarray(x, np.float64).T
    with pytest.raises(ValueError, match="not supported"):
        jax.jit(functools.partial(jnp.matmul, precision="TF32_TF32_F32"))(x, x.T)
    for preset in ("BF16_BF16_F32_X3", "BF16_BF16_F32"):
        got = jax.jit(functools.partial(jnp.matmul, precision=preset))(x, x.T)
        assert helpers.relative_error(got, want) < helpers.tolerance(300)


def rounded(x, bits):
    """float64 with the significand rounded to so many bits, the leading one included."""
    significand, exponent = np.frexp(x)
    return np.ldexp(np.round(significand * 2.0**bits) / 2.0**bits, exponent)


def split_gram(x):
    """Three of the four products of bfloat16 halves, as BF16_BF16_F32_X3 has it."""
    high = rounded(x, 8)
    low = rounded(x - high, 8)
    return high @ high.T + high @ low.T + low @ high.T


GRAMS_OF_CHEAP_PRODUCTS = {
    "tf32": (lambda x: rounded(x, 11) @ rounded(x, 11).T, 1e-5),
    "bf16x3": (split_gram, 1e-7),
    "bf16": (lambda x: rounded(x, 8) @ rounded(x, 8).T, 5e-5),
}


@pytest.mark.parametrize("name", GRAMS_OF_CHEAP_PRODUCTS)
def test_cheaper_products_err_as_the_docstring_says(name):
    gram, error = GRAMS_OF_CHEAP_PRODUCTS[name]
    blocks = features(Size(256, NARROW_WIDTHS), 0)
    centered = [b - b.mean(0) for b in (block.astype(np.float64) for block in blocks)]
    grams = [gram(block / np.linalg.norm(block)) for block in centered]
    for debiased in (False, True):
        want = reference.pairwise_cka(blocks, debiased=debiased)
        hsic = reference.hsic_unbiased if debiased else lambda k, l: np.sum(k * l)  # noqa: E741
        inner = np.array([[hsic(k, l) for k in grams] for l in grams])  # noqa: E741
        norm = np.sqrt(np.diag(inner))
        assert np.max(np.abs(inner / np.outer(norm, norm) - want)) < error
