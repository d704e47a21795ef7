"""Gradients against finite differences in x64, and that degenerate points give none that is NaN."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax import kernels

WEIGHTS = np.random.default_rng(9).normal(size=(3, 3))


def encoders(widths=(3, 5, 4), n=14):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(n, 3))
    return [shared @ rng.normal(size=(3, d)) + 0.5 * rng.normal(size=(n, d)) for d in widths]


def of_pairs(compute):
    """A number that depends on all pairs unequally, of the first encoder's features."""
    return lambda x, others: jnp.sum(jnp.asarray(WEIGHTS, x.dtype) * compute([x, *others]))


def streamed(blocks):
    state = kernels.StreamingCka.init([x.shape[1] for x in blocks], blocks[0].dtype)
    for rows in (slice(0, 5), slice(5, 14)):
        state = state.update([jnp.asarray(x[rows]) for x in blocks])
    return state.finalize()


CASES = {
    "cka": kernels.pairwise_cka,
    "debiased": functools.partial(kernels.pairwise_cka, debiased=True),
    "streamed": streamed,
    "procrustes": kernels.pairwise_procrustes,
    "angle": functools.partial(kernels.pairwise_procrustes, angle=True),
    "svcca": functools.partial(kernels.pairwise_svcca, variance=0.9),
    "pwcca": functools.partial(kernels.pairwise_pwcca, variance=0.9),
    "cknna": functools.partial(kernels.pairwise_cknna, k=4),
}


@pytest.mark.parametrize(
    ("name", "widths"),
    [*((name, (3, 5, 4)) for name in CASES), ("procrustes", (20, 5, 30))],
)
def test_gradients_are_finite_differences(name, widths):
    with jax.enable_x64(True):
        x, *others = encoders(widths)
        value = jax.jit(of_pairs(CASES[name]))
        gradient = np.asarray(jax.jit(jax.grad(of_pairs(CASES[name])))(x, others))
        rng = np.random.default_rng(1)
        for _ in range(2):
            step = 1e-6 * rng.normal(size=x.shape)
            change = float(value(x + step, others) - value(x - step, others)) / 2
            np.testing.assert_allclose(np.sum(gradient * step), change, rtol=1e-4, atol=1e-12)
        # No measure depends on the scale; all but CKNNA have no dependence on a shift.
        assert abs(np.sum(gradient * x)) < 1e-8
        if name != "cknna":
            np.testing.assert_allclose(gradient.sum(0), 0, atol=1e-8)


@pytest.mark.parametrize("name", ["procrustes"])
def test_degenerate_points_have_finite_gradients(name):
    """Equal encoders, repeated singular values, zero columns, rank one, a constant, all widths."""
    rng = np.random.default_rng(0)
    simplex = np.eye(14, 4)
    thin = rng.normal(size=(14, 1)) @ rng.normal(size=(1, 3))
    for x in (simplex, thin, np.hstack([thin, 0 * thin]), np.ones((14, 2)), encoders()[1]):
        others = [simplex.astype(np.float32), encoders()[1].astype(np.float32)]
        gradient = jax.grad(lambda x, o: jnp.nansum(CASES[name]([x, *o])[0]))(
            x.astype(np.float32), others
        )
        assert np.isfinite(gradient).all()


def test_angles_of_equal_and_orthogonal_spaces_have_finite_gradients():
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 3)))[0].astype(np.float32)
    for other in (basis[:, :2], basis @ np.float32([[1], [2], [3]]), basis[::-1].copy()):
        gradient = jax.grad(lambda a, b: jnp.sum(kernels.principal_angles(a, b)))(basis, other)
        assert np.isfinite(gradient).all()
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        a, b, step = rng.normal(size=(6, 2)), rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
        for value in (kernels.grassmann_similarity, lambda a, b: kernels.principal_angles(a, b)[0]):
            change = float(value(a + 1e-6 * step, b) - value(a - 1e-6 * step, b)) / 2e-6
            np.testing.assert_allclose(np.sum(jax.grad(value)(a, b) * step), change, rtol=1e-6)


def test_the_loss_of_generalized_procrustes_has_its_gradient():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        shared = rng.normal(size=(9, 3))
        blocks = [shared + 0.2 * rng.normal(size=(9, 3)) for _ in range(3)]

        def loss(x):
            return kernels.generalized_procrustes([x, *blocks[1:]], tolerance=1e-13).loss

        gradient, step = jax.jit(jax.grad(loss))(blocks[0]), 1e-5 * rng.normal(size=(9, 3))
        change = float(loss(blocks[0] + step) - loss(blocks[0] - step)) / 2
        np.testing.assert_allclose(np.sum(gradient * step), change, rtol=1e-5)


def test_ranks_and_neighbors_are_constants():
    x, other, _ = encoders()
    for compute in (
        lambda x: kernels.pairwise_rsa([x, other]),
        lambda x: kernels.mutual_knn([x, other], (3,)).recall,
        lambda x: kernels.cycle_knn([x, other], k=3),
    ):
        gradient = jax.grad(lambda x, f=compute: jnp.sum(f(x)))(x.astype(np.float32))
        np.testing.assert_array_equal(gradient, 0)
