"""Top-k principal components."""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from sklearn.decomposition import PCA

from substrate_jax.kernels import Pca, pca
from substrate_jax.kernels.reference import statistics as reference
from substrate_jax.kernels.subspaces.tall_matrices import peak_sign
from tests.helpers import long, random_orthogonal, relative_error, tolerance, transforms

METHODS = ("exact", "subspace")
K = 4
jitted = jax.jit(pca, static_argnums=1, static_argnames=("method", "max_iterations", "axis_name"))


def rows(n=60, d=24, seed=0, decay=0.7, offset=1.0):
    """Centered singular values decay^i, so that the relative gaps of the variances are known."""
    rng = np.random.default_rng(seed)
    r = min(n - 1, d)
    left = rng.normal(size=(n, r))
    left = np.linalg.qr(left - left.mean(0))[0]
    right = random_orthogonal(rng, d)[:, :r]
    x = left * decay ** np.arange(r) @ right.T * np.sqrt(n) + offset * rng.normal(size=d)
    return x.astype(np.float32)


def limit(x, k=K, stop=1e-5):
    """Error of a component: residual and rounding over the least relative gap."""
    _, variance = reference.pca(x, min(k + 1, min(x.shape[0] - 1, x.shape[1])))
    gap = np.min(-np.diff(variance)) / variance[0]
    size = np.abs(x).max() / np.sqrt(variance[0])
    return (tolerance(x.shape[0], condition=max(size, 1)) + stop) / gap


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "d"), [(60, 24), (24, 60), (40, 40)])
def test_matches_sklearn_and_oracle(method, n, d):
    x = rows(n, d)
    got = jitted(jnp.asarray(x), K, method=method)
    components, variance = reference.pca(x, K)
    judge = PCA(K, svd_solver="full").fit(x.astype(np.float64))
    assert np.allclose(judge.components_.T, components)
    assert relative_error(got.components, components) < limit(x)
    assert relative_error(got.explained_variance, variance) < limit(x)
    assert relative_error(got.explained_variance_ratio, judge.explained_variance_ratio_) < limit(x)
    assert relative_error(got.mean, judge.mean_) < tolerance(n)


@pytest.mark.parametrize("method", METHODS)
def test_residual_is_honest(method):
    x = rows()
    got = jitted(jnp.asarray(x), K, method=method)
    centered = x.astype(np.float64) - x.astype(np.float64).mean(0)
    covariance = centered.T @ centered / (len(x) - 1)
    v = np.asarray(got.components, np.float64)
    error = np.linalg.norm(covariance @ v - v * np.asarray(got.explained_variance), axis=0)
    assert got.residual <= 1e-5
    rounding = tolerance(len(x), condition=np.abs(x).max())
    assert abs(error.max() / got.explained_variance[0] - got.residual) < rounding
    assert np.abs(v.T @ v - np.eye(K)).max() < tolerance(x.shape[1])
    assert (v[np.abs(v).argmax(0), range(K)] > 0).all()


def test_a_pass_too_few_is_told():
    x = jnp.asarray(rows(decay=0.95))
    first = pca(x, K, method="subspace", oversampling=0, max_iterations=1)
    assert first.iterations == 1
    assert first.residual > 1e-5
    best = pca(x, K, method="subspace", oversampling=0, max_iterations=1000)
    assert 1 < best.iterations < 1000
    assert best.residual <= 1e-5


def test_subspace_method_never_holds_the_covariance():
    n, d = 300, 400
    text = str(jax.make_jaxpr(lambda x: pca(x, K, method="subspace"))(jnp.zeros((n, d))))
    sizes = [math.prod(map(int, dims.split(","))) for dims in re.findall(r"f32\[([\d,]+)\]", text)]
    assert max(sizes) == n * d


def test_features_may_be_sharded_too():
    x = rows(64, 48, offset=100)  # mean/std = 100
    mesh = jax.make_mesh((2, 4), ("rows", "features"), axis_types=(AxisType.Auto,) * 2)
    out = Pca(P("features", None), P("features"), P(), P(), P(), P())

    def fit(x, mask, axis_name=None, feature_axis_name=None):
        return pca(
            x,
            K,
            mask=mask,
            axis_name=axis_name,
            feature_axis_name=feature_axis_name,
            method="subspace",
            tolerance=1e-6,
        )

    mask = jnp.arange(64) < 61
    sharded = jax.shard_map(
        partial(fit, axis_name="rows", feature_axis_name="features"),
        mesh=mesh,
        in_specs=(P("rows", "features"), P("rows")),
        out_specs=out,
    )
    got, want = jax.jit(sharded)(x, mask), jax.jit(fit)(x, mask)
    assert got.iterations == want.iterations
    for name in ("components", "mean", "explained_variance", "explained_variance_ratio"):
        assert relative_error(getattr(got, name), getattr(want, name)) < 1e-5, name
    components, _ = reference.pca(x[:61], K)
    assert relative_error(got.components, components) < limit(x[:61], stop=1e-6)
    text = str(jax.make_jaxpr(sharded)(x, mask))
    assert "all_gather" not in text


def test_signs_do_not_depend_on_rounding():
    waves = np.stack([np.cos(np.arange(8) * np.pi), np.eye(8)[3] - np.eye(8)[5]], axis=1)
    noise = np.random.default_rng(3).uniform(-1e-6, 1e-6, size=(20, 8, 2))
    for moved in waves + noise:
        assert peak_sign(jnp.asarray(moved, jnp.float32)).tolist() == [1, 1]
        assert peak_sign(jnp.asarray(-moved, jnp.float32)).tolist() == [-1, -1]
    assert peak_sign(jnp.zeros((3, 1))).tolist() == [1]


def test_passes_needed_grow_with_the_root_of_the_gap():
    x = rows(200, 100, decay=0.97)
    found = pca(jnp.asarray(x), K, method="subspace", oversampling=4, tolerance=1e-4)
    # Plain subspace iteration shrinks the error by 0.97^(2 x 5) per pass: 30 passes for 1e-4.
    assert found.residual <= 1e-4
    assert found.iterations < 20


def test_auto_takes_the_exact_method_for_small_sides():
    assert pca(jnp.asarray(rows()), K).iterations == 1
    passes = jax.eval_shape(lambda x: pca(x, K), jnp.zeros((600, 600)))
    text = str(jax.make_jaxpr(lambda x: pca(x, K))(jnp.zeros((600, 600))))
    assert "while" in text
    assert passes.components.shape == (600, K)


@pytest.mark.parametrize("method", METHODS)
def test_invariances(method):
    x = rows()

    def fit(a):
        return jitted(jnp.asarray(a, jnp.float32), K, method=method)

    base = fit(x)
    rng = np.random.default_rng(1)
    assert relative_error(fit(x[rng.permutation(len(x))]).components, base.components) < limit(x)
    assert relative_error(fit(8 * x).explained_variance, 64 * base.explained_variance) < limit(x)
    shifted = (x + 100).astype(np.float32)
    assert relative_error(fit(shifted).components, base.components) < limit(shifted)
    turn = random_orthogonal(rng, x.shape[1])
    turned = np.asarray(fit(x @ turn).components, np.float64)
    wanted = turn.T @ np.asarray(base.components, np.float64)
    assert relative_error(np.abs(turned.T @ wanted), np.eye(K)) < limit(x)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "d"), [(20, 12), (12, 20)])
@pytest.mark.parametrize("rank", [0, 2])
def test_rank_deficient_rows_still_give_orthonormal_components(method, n, d, rank):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) + 3
    got = jitted(jnp.asarray(x, jnp.float32), 5, method=method)
    v = np.asarray(got.components, np.float64)
    assert np.abs(v.T @ v - np.eye(5)).max() < tolerance(d)
    variance = np.asarray(got.explained_variance)
    assert (variance >= 0).all()
    scale = max(variance[0], 1)
    assert variance[rank:].max() < tolerance(n) * scale
    assert np.isfinite(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(got)])).all()
    if rank == 0:
        assert (np.asarray(got.explained_variance_ratio) == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_three_rows(method):
    x = rows(3, 6)
    got = pca(jnp.asarray(x), 2, method=method)
    components, variance = reference.pca(x, 2)
    assert relative_error(got.components, components) < limit(x, 2)
    assert relative_error(got.explained_variance_ratio, variance / variance.sum()) < limit(x, 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(37, 12), (13, 40)])
@pytest.mark.parametrize("transform", ["shard_map", long("jit"), long("pmap")])
def test_same_numbers_under_every_transform_with_padding(transform, method, shape):
    n, d = shape
    x = rows(n, d)
    padding = -n % 8
    padded = np.concatenate([x, np.full((padding, d), np.nan, np.float32)])

    def fit(x, mask, axis_name):
        return pca(x, K, mask=mask, method=method, axis_name=axis_name)

    sharded = [jnp.asarray(padded), jnp.arange(n + padding) < n]
    got = transforms(every=True)[transform](fit, sharded)
    components, variance = reference.pca(x, K)
    assert relative_error(got.components, components) < limit(x)
    assert relative_error(got.explained_variance, variance) < limit(x)
    assert relative_error(got.mean, x.astype(np.float64).mean(0)) < tolerance(n)


def test_converged_components_do_not_depend_on_the_start():
    x = jnp.asarray(rows())
    base = pca(x, K, method="subspace")
    again = pca(x, K, method="subspace")
    other = pca(x, K, method="subspace", key=jax.random.key(7))
    assert (base.components == again.components).all()
    assert relative_error(other.components, base.components) < 2 * limit(np.asarray(x))


def test_exact_variances_have_their_analytic_gradient():
    x = rows(20, 8)
    slope = jax.grad(lambda a: pca(a, K, method="exact").explained_variance.sum())(jnp.asarray(x))
    components, _ = reference.pca(x, K)
    centered = x.astype(np.float64) - x.astype(np.float64).mean(0)
    want = 2 * centered @ components @ components.T / (len(x) - 1)
    assert relative_error(slope, want) < limit(x)


@pytest.mark.parametrize("method", METHODS)
def test_vmap_equals_a_loop(method):
    x = np.stack([rows(seed=s) for s in range(3)])
    got = jax.vmap(lambda a: pca(a, K, method=method).components)(jnp.asarray(x))
    for one, result in zip(x, got, strict=True):
        assert relative_error(result, reference.pca(one, K)[0]) < limit(one)


def test_half_precision_is_computed_in_float32():
    x = jnp.asarray(rows(), jnp.bfloat16)
    got = pca(x, K).components
    assert got.dtype == jnp.float32
    assert (got == pca(x.astype(jnp.float32), K).components).all()


def test_traced_once_for_one_shape():
    traces = []

    @jax.jit
    def fit(x):
        traces.append(None)
        return pca(x, K, method="subspace").components

    for seed in range(3):
        fit(jnp.asarray(rows(seed=seed)))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 5}, r"k must be in 1\.\.4 = min\(n - 1, d\) for 5 rows of 9 features, got 5"),
        ({"k": 0}, "got 0"),
        ({"k": 2, "method": "svd"}, "auto, subspace, exact"),
        ({"k": 2, "method": "exact", "feature_axis_name": "f"}, "'exact' holds all features"),
        ({"k": 2, "oversampling": -1}, "oversampling must be at least 0, got -1"),
        ({"k": 2, "max_iterations": 0}, "max_iterations must be at least 1, got 0"),
        ({"k": 2, "mask": jnp.ones(4, bool)}, r"mask must be bool of shape \(5,\)"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        pca(jnp.ones((5, 9)), **options)
