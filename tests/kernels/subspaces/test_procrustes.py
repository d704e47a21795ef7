"""Orthogonal and generalized Procrustes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from substrate_jax.kernels import (
    generalized_procrustes,
    orthogonal_procrustes,
    procrustes_disparity,
)
from substrate_jax.kernels.reference import statistics as reference
from tests.helpers import random_orthogonal, relative_error, tolerance, transforms

N, K = 40, 5

generalized = jax.jit(generalized_procrustes, static_argnames=("tolerance", "axis_name"))


def pair(seed=0, n=N, k=K):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, k)).astype(np.float32), rng.normal(size=(n, k)).astype(np.float32)


def noisy_copies(seed=0, m=4, n=N, k=K, noise=0.3):
    """Rotations of one configuration with distinct variances, each with its own noise."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n, k)) * np.arange(k, 0, -1)
    copies = [
        (base + noise * rng.normal(size=(n, k))) @ random_orthogonal(rng, k) for _ in range(m)
    ]
    return [copy.astype(np.float32) for copy in copies]


def polar_condition(a, b):
    """||A|| ||B|| over the two smallest singular values: how a polar factor magnifies rounding."""
    s = np.linalg.svd(b.astype(np.float64).T @ a, compute_uv=False)
    return np.linalg.norm(a) * np.linalg.norm(b) / s[-2:].sum()


def assert_orthogonal(rotation):
    rotation = np.asarray(rotation, np.float64)
    error = np.abs(rotation.T @ rotation - np.eye(len(rotation))).max()
    assert error < tolerance(len(rotation))


@pytest.mark.parametrize(("n", "k"), [(40, 5), (3, 3), (3, 8), (7, 1)])
def test_matches_scipy_and_oracle(n, k):
    a, b = pair(n=n, k=k)
    rotation = orthogonal_procrustes(jnp.asarray(a), jnp.asarray(b))
    assert_orthogonal(rotation)
    disparity = procrustes_disparity(jnp.asarray(a), jnp.asarray(b))
    assert abs(disparity - reference.procrustes_disparity(a, b)) < tolerance(n * k, condition=4)
    if n >= k:  # otherwise b'a is singular and the rotation is not unique
        want, _ = scipy.linalg.orthogonal_procrustes(b.astype(np.float64), a.astype(np.float64))
        assert np.allclose(want, reference.orthogonal_procrustes(a, b))
        limit = tolerance(n, condition=polar_condition(a, b))
        assert relative_error(rotation, want) < limit


def test_recovers_the_rotation_applied():
    b, _ = pair()
    turn = random_orthogonal(np.random.default_rng(1), K)
    a = (b @ turn).astype(np.float32)
    limit = tolerance(N, condition=polar_condition(a, b))
    assert relative_error(orthogonal_procrustes(jnp.asarray(a), jnp.asarray(b)), turn) < limit
    assert procrustes_disparity(jnp.asarray(a), jnp.asarray(b)) < limit**2


def test_disparity_invariances():
    a, b = pair()
    rng = np.random.default_rng(2)
    base = float(procrustes_disparity(jnp.asarray(a), jnp.asarray(b)))
    order = rng.permutation(N)
    turn_a, turn_b = (random_orthogonal(rng, K).astype(np.float32) for _ in range(2))
    for x, y in ((a @ turn_a, b @ turn_b), (a[order], b[order]), (4 * a, 4 * b)):
        other = float(procrustes_disparity(jnp.asarray(x), jnp.asarray(y)))
        assert abs(other - base) < tolerance(N * K, condition=4)
    swapped = float(procrustes_disparity(jnp.asarray(b), jnp.asarray(a)))
    assert np.isclose(swapped * (b**2).sum(), base * (a**2).sum(), rtol=tolerance(N * K))


def test_null_space_takes_the_choice_nearest_to_the_identity():
    a, b = pair()
    a[:, 3:], b[:, 3:] = 0, 0
    rotation = np.asarray(orthogonal_procrustes(jnp.asarray(a), jnp.asarray(b)))
    want = scipy.linalg.block_diag(reference.orthogonal_procrustes(a[:, :3], b[:, :3]), np.eye(2))
    assert np.abs(rotation - want).max() < tolerance(
        N, condition=polar_condition(a[:, :3], b[:, :3])
    )
    zero = jnp.zeros((N, K))
    assert np.abs(orthogonal_procrustes(zero, zero) - np.eye(K)).max() < tolerance(K)
    assert np.isinf(procrustes_disparity(zero, jnp.asarray(b)))
    assert np.isnan(procrustes_disparity(zero, zero))


def test_null_space_rule_does_not_depend_on_the_basis():
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=(N, 1)) @ rng.normal(size=(1, K)) for _ in range(2))
    u, _, vt = np.linalg.svd(b.T @ a)
    w, _, zt = np.linalg.svd(u[:, 1:].T @ vt[1:].T)
    want = u[:, :1] @ vt[:1] + u[:, 1:] @ (w @ zt) @ vt[1:]
    got = orthogonal_procrustes(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    assert_orthogonal(got)
    assert relative_error(got, want) < tolerance(N, condition=4)


def test_disparity_gradient_matches_differences_of_the_oracle():
    a, b = pair()
    slope_a, slope_b = jax.grad(procrustes_disparity, argnums=(0, 1))(
        jnp.asarray(a), jnp.asarray(b)
    )
    da, db = pair(seed=4)
    da, db = da.astype(np.float64), db.astype(np.float64)
    step = 1e-5
    want = (
        reference.procrustes_disparity(a + step * da, b + step * db)
        - reference.procrustes_disparity(a - step * da, b - step * db)
    ) / (2 * step)
    got = np.vdot(slope_a, da) + np.vdot(slope_b, db)
    scale = np.linalg.norm(slope_a) * np.linalg.norm(da) + np.linalg.norm(slope_b) * np.linalg.norm(
        db
    )
    assert abs(got - want) < tolerance(N * K) * scale


@pytest.mark.parametrize("repeated", [False, True])
def test_rotation_gradient_with_and_without_repeated_singular_values(repeated):
    a, b = pair()
    if repeated:
        b = np.linalg.qr(b)[0].astype(np.float32)
        a = b.copy()
    da, _ = pair(seed=5)
    _, got = jax.jvp(lambda x: orthogonal_procrustes(x, jnp.asarray(b)), (jnp.asarray(a),), (da,))
    step, da = 1e-5, da.astype(np.float64)
    want = (
        reference.orthogonal_procrustes(a + step * da, b)
        - reference.orthogonal_procrustes(a - step * da, b)
    ) / (2 * step)
    assert relative_error(got, want) < tolerance(N, condition=polar_condition(a, b) ** 2)


def test_vmap_equals_a_loop():
    pairs = [pair(seed) for seed in range(3)]
    a, b = (jnp.stack([jnp.asarray(p[i]) for p in pairs]) for i in (0, 1))
    got = jax.vmap(orthogonal_procrustes)(a, b)
    want = [reference.orthogonal_procrustes(*p) for p in pairs]
    assert relative_error(got, want) < tolerance(
        N, condition=max(polar_condition(*p) for p in pairs)
    )


def test_two_blocks_have_the_closed_form():
    a, b = noisy_copies(m=2)
    result = generalized([jnp.asarray(a), jnp.asarray(b)])
    residual = reference.procrustes_disparity(a, b) * (a.astype(np.float64) ** 2).sum()
    want = residual / 2 / ((a.astype(np.float64) ** 2).sum() + (b.astype(np.float64) ** 2).sum())
    assert abs(result.loss - want) < tolerance(2 * N * K) * want


def test_loss_is_the_best_that_the_oracle_finds_from_any_block():
    blocks = noisy_copies(noise=2.0)
    result = generalized([jnp.asarray(x) for x in blocks], tolerance=1e-6)
    best = min(reference.generalized_procrustes_loss(blocks, start) for start in range(len(blocks)))
    assert abs(result.loss - best) < tolerance(len(blocks) * N * K)
    assert result.change <= 1e-6
    for block, rotation, aligned in zip(blocks, result.rotations, result.aligned, strict=True):
        assert_orthogonal(rotation)
        assert relative_error(aligned, block.astype(np.float64) @ rotation) < tolerance(K)
    assert relative_error(result.consensus, np.mean(result.aligned, axis=0)) < tolerance(
        len(blocks)
    )


def test_consensus_is_in_principal_axes_with_positive_peaks():
    result = generalized([jnp.asarray(x) for x in noisy_copies()])
    consensus = np.asarray(result.consensus, np.float64)
    gram = consensus.T @ consensus
    energy = np.diag(gram)
    assert (np.diff(energy) < 0).all()
    assert np.abs(gram - np.diag(energy)).max() < tolerance(N * K) * energy[0]
    assert (consensus.max(axis=0) >= -consensus.min(axis=0)).all()


def test_result_depends_neither_on_order_nor_on_orientation_of_blocks():
    blocks = noisy_copies()
    rng = np.random.default_rng(6)
    base = generalized([jnp.asarray(x) for x in blocks])
    turned = [(x @ random_orthogonal(rng, K)).astype(np.float32) for x in blocks[::-1]]
    other = generalized([jnp.asarray(x) for x in turned])
    energy = np.sum(np.asarray(base.consensus, np.float64) ** 2, axis=0)
    # Axes of the consensus are told apart by the gaps of its energies; iteration stops at 1e-5.
    gap = np.min(-np.diff(energy)) / energy[0]
    limit = (tolerance(N * K) + 1e-5) / gap
    assert relative_error(other.consensus, base.consensus) < limit
    assert relative_error(other.aligned[::-1], base.aligned) < limit


def test_degenerate_blocks():
    a, _ = pair()
    single = generalized([jnp.asarray(a)])
    assert single.loss < tolerance(N) ** 2
    assert relative_error(single.aligned[0], single.consensus) < tolerance(1)
    zero = generalized([jnp.zeros((N, K))] * 4)
    assert zero.loss == 0
    for rotation in zero.rotations:
        assert_orthogonal(rotation)
    three = generalized([jnp.asarray(x) for x in noisy_copies(n=3, k=6)])
    for rotation in three.rotations:  # rank 3 of 6: still rotations
        assert_orthogonal(rotation)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(three))


def summary(a, b, mask, axis_name):
    result = generalized_procrustes([a, b, a - b], mask=mask, axis_name=axis_name)
    return {
        "rotation": orthogonal_procrustes(a, b, mask=mask, axis_name=axis_name),
        "disparity": procrustes_disparity(a, b, mask=mask, axis_name=axis_name),
        "rotations": result.rotations,
        "loss": result.loss,
    }


@pytest.mark.parametrize("transform", transforms())
def test_same_numbers_under_every_transform_with_padding(transform):
    a, b, *_ = noisy_copies(n=37)
    want = jax.tree.map(np.asarray, summary(jnp.asarray(a), jnp.asarray(b), None, None))
    padded = [np.concatenate([x, np.full((3, K), np.nan, np.float32)]) for x in (a, b)]
    sharded = [jnp.asarray(x) for x in (*padded, np.arange(40) < 37)]
    got = transforms()[transform](summary, sharded)
    limit = (tolerance(N * K) + 1e-5) * polar_condition(a, b)
    for name in want:
        assert relative_error(got[name], want[name]) < limit, name


def test_traced_once_for_one_shape():
    traces = []

    @jax.jit
    def align(blocks):
        traces.append(None)
        return generalized_procrustes(blocks).consensus

    for seed in range(3):
        align([jnp.asarray(x) for x in noisy_copies(seed)])
    assert len(traces) == 1


def test_half_precision_is_computed_in_float32():
    a, b = (jnp.asarray(x, jnp.bfloat16) for x in pair())
    want = orthogonal_procrustes(a.astype(jnp.float32), b.astype(jnp.float32))
    got = orthogonal_procrustes(a, b)
    assert got.dtype == jnp.float32
    assert (got == want).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(orthogonal_procrustes, jnp.ones((3, 2)), jnp.ones((3, 4))), r"\(3, 2\).*\(3, 4\)"),
        (partial(procrustes_disparity, jnp.ones((3, 2)), jnp.ones((4, 2))), r"\[3, 4\] rows"),
        (partial(orthogonal_procrustes, jnp.ones(3), jnp.ones(3)), r"shape \(3,\)"),
        (partial(generalized_procrustes, []), "blocks must be a non-empty"),
        (partial(generalized_procrustes, [jnp.ones((3, 2)), jnp.ones((3, 1))]), "one width"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
