"""Options of SVCCA, PWCCA and Procrustes similarity."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from substrate_jax.kernels import pairwise_procrustes, pairwise_pwcca, pairwise_svcca
from substrate_jax.kernels.arithmetic import from_first
from substrate_jax.kernels.reference import measures as reference_measures
from substrate_jax.kernels.subspaces.tall_matrices import factor_rows
from tests import helpers
from tests.kernels.encoders import sample


def test_pwcca_means_both_sides_and_svcca_keeps_all():
    blocks = sample()[:2]
    row = np.asarray(pairwise_pwcca(blocks))
    np.testing.assert_allclose(pairwise_pwcca(blocks, side="mean"), (row + row.T) / 2, atol=1e-6)
    turned = [blocks[0], blocks[0] @ np.diag([1, 2, 3, 4, 5]).astype(np.float32)]
    np.testing.assert_allclose(pairwise_svcca(turned, variance=1.0), 1, atol=helpers.tolerance(60))


def test_all_of_the_variance_is_that_of_small_components_too():
    """Whose share, 1e-8, float32 cannot tell from none beside the others."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(40, 3)).astype(np.float32) for _ in "xy")
    y[:, 0] = x[:, 2]
    x[:, 2] *= 1e-4
    for compute, oracle in (
        (pairwise_svcca, reference_measures.svcca),
        (pairwise_pwcca, reference_measures.pwcca),
    ):
        got = jax.jit(functools.partial(compute, variance=1.0))([x, y])[0, 1]
        # Its direction is known to 1e4 eps.
        limit = helpers.tolerance(40, condition=1e4)
        np.testing.assert_allclose(got, oracle(x, y, 1.0), atol=limit)


def test_the_angle_is_that_of_the_similarity():
    blocks = sample()[:2]
    angle = pairwise_procrustes(blocks, angle=True)
    np.testing.assert_allclose(jnp.cos(angle), pairwise_procrustes(blocks), atol=1e-6)
    np.testing.assert_array_equal(jnp.diagonal(angle), 0)


def test_a_reflection_is_no_rotation_of_encoders_of_one_width():
    """Beside a wider one, of which both could be rotated through; and of one feature."""
    x, y, wide = sample(widths=(5, 5, 9))
    mirrored = x * np.array([1, 1, 1, 1, -1], np.float32)
    turned = mirrored @ helpers.random_orthogonal(np.random.default_rng(0), 5).astype(np.float32)
    blocks = [x, mirrored, turned, y, y[:, ::-1], wide]
    compute = jax.jit(functools.partial(pairwise_procrustes, reflections=False))
    got = np.asarray(compute(blocks))
    oracle = functools.partial(reference_measures.procrustes, reflections=False)
    want = [[oracle(a, b) for b in blocks] for a in blocks]
    np.testing.assert_allclose(got, want, atol=helpers.tolerance(37 + 9))
    assert (got < pairwise_procrustes(blocks) - 1e-3).sum() > 5
    one = [x[:, :1], -x[:, :1]]
    np.testing.assert_allclose(compute(one)[0], [1, -1], atol=1e-6)
    angle = pairwise_procrustes(one, reflections=False, angle=True)
    np.testing.assert_allclose(angle[0, 1], np.pi, atol=1e-3)


def test_pwcca_is_nan_where_a_weight_belongs_to_no_correlation():
    """Correlations of 1 that repeat share their variables: any basis of these is as good."""
    rng = np.random.default_rng(0)
    compute = jax.jit(functools.partial(pairwise_pwcca, variance=1.0))
    x, y = (rng.normal(size=(20, d)).astype(np.float32) for d in (12, 11))  # 4 of 11 are 1
    for blocks in ([x, y], [x[:, :5], np.hstack([x[:, :2], y[:, :4]])]):
        got = np.asarray(compute(blocks))
        np.testing.assert_allclose(np.diag(got), 1, atol=1e-5)
        assert np.isnan(got[0, 1])
        assert np.isnan(got[1, 0])
    # One that is 1, none, and all: as defined, in any order of the rows.
    order = rng.permutation(20)
    for a, b in ((x[:, :10], y[:, :10]), (x[:, :4], y[:, :5]), (x, x[:, :3])):
        got = np.asarray(compute([a, b]))
        np.testing.assert_allclose(compute([a[order], b[order]]), got, atol=1e-4)
        np.testing.assert_allclose(got[0, 1], reference_measures.pwcca(a, b, 1.0), atol=1e-4)


@pytest.mark.parametrize(("devices", "width"), [(6, 5), helpers.long(8, 5), helpers.long(6, 40)])
def test_sharded_rows_are_factored_where_they_are(devices, width):
    """By groups of devices, of which a prime is one; with more rows than features, and fewer."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, width)).astype(np.float32)
    x[:, -1] = x[:, 0]  # of less than full rank

    def product_of_factors(x, axis_name):
        q, r = factor_rows(x, axis_name)
        inner = jax.lax.psum(q.T @ q, axis_name)
        rows = jax.lax.all_gather(q @ r, axis_name, tiled=True)
        return inner, from_first(rows, axis_name), r

    run = helpers.transforms(devices)["shard_map"]
    inner, product, r = run(product_of_factors, [x])
    rank = min(24, width)
    limit = helpers.tolerance(24)
    assert r.shape == (rank, width)
    np.testing.assert_allclose(inner, np.eye(rank), atol=limit)
    np.testing.assert_allclose(product, x, atol=limit * np.abs(x).max())


@pytest.mark.parametrize("compute", [pairwise_svcca, helpers.long(pairwise_pwcca)])
def test_the_derivative_is_that_of_one_device(compute):
    x, y = (block[:36] for block in sample(widths=(5, 9)))
    found = {}
    for name, axis in (("one", None), ("six", helpers.AXIS)):

        def value(x, y, axis=axis):
            return jnp.sum(compute([x, y], axis_name=axis)[0, 1])

        if axis:
            mesh = jax.make_mesh(
                (6,), (axis,), axis_types=(AxisType.Auto,), devices=jax.devices()[:6]
            )
            rows = PartitionSpec(axis)
            value = jax.shard_map(value, mesh=mesh, in_specs=rows, out_specs=PartitionSpec())
        found[name] = np.asarray(jax.jit(jax.grad(value))(x, y))
    # The gaps between singular values, of which the derivative has the inverse, are above 1e-2.
    limit = helpers.tolerance(36, condition=100) * np.abs(found["one"]).max()
    np.testing.assert_allclose(found["six"], found["one"], atol=limit)
