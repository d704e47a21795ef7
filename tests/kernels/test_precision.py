"""What cheaper matrix products cost in accuracy, emulated by rounding their inputs."""

import numpy as np
import pytest

from experiments.benchmarks.cases import NARROW_WIDTHS, features
from experiments.benchmarks.work import Size
from substrate_jax.kernels import reference


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
    centred = [b - b.mean(0) for b in (block.astype(np.float64) for block in blocks)]
    grams = [gram(block / np.linalg.norm(block)) for block in centred]
    for debiased in (False, True):
        want = reference.pairwise_cka(blocks, debiased=debiased)
        hsic = reference.hsic_unbiased if debiased else lambda k, l: np.sum(k * l)  # noqa: E741
        inner = np.array([[hsic(k, l) for k in grams] for l in grams])  # noqa: E741
        norm = np.sqrt(np.diag(inner))
        assert np.max(np.abs(inner / np.outer(norm, norm) - want)) < error
