"""Polar factor: singular values and products agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from substrate_jax.kernels import polar
from tests.helpers import random_orthogonal, relative_error, tolerance

METHODS = ("svd", "newton_schulz")
jitted = jax.jit(polar, static_argnames="method")


def matrix(k=24, condition=1e2, rank=None, seed=0):
    rng = np.random.default_rng(seed)
    s = np.geomspace(1, 1 / condition, k)
    s[k if rank is None else rank :] = 0
    return (random_orthogonal(rng, k) * s @ random_orthogonal(rng, k)).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 3, 24, 80])
def test_matches_scipy(method, k):
    a = matrix(k)
    got = jitted(jnp.asarray(a), method=method)
    s = np.linalg.svd(a.astype(np.float64), compute_uv=False)
    limit = tolerance(k, condition=2 * s[0] / s[-2:].sum())
    assert np.abs(got - scipy.linalg.polar(a.astype(np.float64))[0]).max() < limit
    assert np.abs(np.asarray(got, np.float64).T @ got - np.eye(k)).max() < tolerance(k)


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e6])
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_methods_agree_in_double_precision(condition, scale):
    with jax.enable_x64(True):
        a = jnp.asarray(matrix(condition=condition).astype(np.float64) * scale)
        svd, products = (jitted(a, method=method) for method in METHODS)
        assert products.dtype == jnp.float64
        assert np.abs(svd - products).max() < 1e-8  # eps x condition is 2e-10
        assert np.abs(products - scipy.linalg.polar(np.asarray(a))[0]).max() < 1e-8


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rank", [0, 5, 23])
def test_null_space_takes_the_choice_nearest_to_the_identity(method, rank):
    a = matrix(rank=rank, condition=4)
    u, _, vt = np.linalg.svd(a.astype(np.float64))
    inner = scipy.linalg.polar(u[:, rank:].T @ vt[rank:].T)[0]
    want = u[:, :rank] @ vt[:rank] + u[:, rank:] @ inner @ vt[rank:]
    # The null bases turn by eps over the gap, 1/4, and their own polar factor magnifies it.
    least = np.linalg.svd(u[:, rank:].T @ vt[rank:].T, compute_uv=False)[-2:].sum()
    got = jitted(jnp.asarray(a), method=method)
    assert np.abs(got - want).max() < tolerance(24, condition=4 * 2 / least)


def test_a_singular_matrix_in_a_batch_does_not_spoil_the_others():
    batch = np.stack([matrix(seed=1), matrix(rank=3), np.zeros((24, 24), np.float32)])
    got = jitted(jnp.asarray(batch), method="newton_schulz")
    for one, result in zip(batch, got, strict=True):
        assert relative_error(result, jitted(jnp.asarray(one), method="svd")) < tolerance(
            24, condition=100
        )
    mapped = jax.vmap(lambda a: polar(a, method="newton_schulz"))(jnp.asarray(batch))
    assert relative_error(mapped, got) < tolerance(24, condition=100)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("a", [matrix(6, 4), np.eye(6, dtype=np.float32)])
def test_derivative_is_that_of_the_oracle_with_and_without_repeated_values(method, a):
    da = np.random.default_rng(1).normal(size=a.shape).astype(np.float32)
    _, got = jax.jvp(lambda x: polar(x, method=method), (jnp.asarray(a),), (jnp.asarray(da),))
    step, a, da = 1e-6, a.astype(np.float64), da.astype(np.float64)
    ends = [scipy.linalg.polar(a + sign * step * da)[0] for sign in (1, -1)]
    assert relative_error(got, (ends[0] - ends[1]) / (2 * step)) < tolerance(6, condition=16)
    slope = jax.grad(lambda x: (polar(x, method=method) * da).sum())(jnp.asarray(a, jnp.float32))
    assert abs(np.vdot(slope, da) - np.vdot(got, da)) < tolerance(36, condition=16) * np.sum(da**2)


def test_auto_is_svd_where_it_is_faster_and_lowers_to_both_elsewhere():
    small, large = jnp.asarray(matrix(8)), jnp.asarray(matrix(64))
    assert (polar(small) == polar(small, method="svd")).all()
    assert relative_error(polar(large), polar(large, method="svd")) < tolerance(64)
    assert "platform" in str(jax.make_jaxpr(polar)(large))


@pytest.mark.parametrize(
    ("a", "options", "message"),
    [
        (jnp.ones((3, 2)), {}, r"a must be .* got shape \(3, 2\)"),
        (jnp.ones((2, 2), jnp.int32), {}, "a must be real floating-point, got int32"),
        (jnp.ones((2, 2)), {"method": "qdwh"}, "method must be one of auto, svd, newton_schulz"),
    ],
)
def test_bad_input_is_named(a, options, message):
    with pytest.raises(ValueError, match=message):
        polar(a, **options)
