"""Principal components in one pass, and in a few."""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from sklearn.decomposition import IncrementalPCA

from substrate_jax.kernels import Pca, StreamingPca
from substrate_jax.kernels.reference import statistics as reference
from tests.helpers import random_orthogonal, relative_error, tolerance

N, D, K = 96, 48, 4
SPECTRA = {
    "flat": np.ones(D),
    "decaying": 1 / np.arange(1, D + 1),
    "low_rank": np.where(np.arange(D) < 6, 0.5 ** np.arange(D), 0),
}
update = jax.jit(StreamingPca.update)
merge = jax.jit(StreamingPca.merge)
finalize = jax.jit(StreamingPca.finalize)
refine = jax.jit(StreamingPca.refine)


def rows(spectrum="decaying", seed=0, mean=1.0):
    """[N, D] rows whose scatter is N times the spectrum, with a mean of this size."""
    rng = np.random.default_rng(seed)
    left = rng.normal(size=(N, D))
    left = np.linalg.qr(left - left.mean(0))[0]
    x = left * np.sqrt(N * SPECTRA[spectrum]) @ random_orthogonal(rng, D)
    return (x + mean * rng.normal(size=D)).astype(np.float32)


def stream(state, x, size=24):
    """Adds the rows in batches of one shape, the last padded with NaN."""
    for start in range(0, len(x), size):
        batch = x[start : start + size]
        padded = np.full((size, x.shape[1]), np.nan, np.float32)
        padded[: len(batch)] = batch
        state = update(state, padded, np.arange(size) < len(batch))
    return state


def scatter(x):
    centered = x.astype(np.float64) - x.astype(np.float64).mean(0)
    return centered.T @ centered


def largest_sine(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.linalg.norm(b - a @ np.linalg.lstsq(a, b, rcond=None)[0], 2)


@pytest.mark.parametrize("mean", [0.0, 1.0, 100.0])
def test_sums_are_those_of_the_oracle(mean):
    x = rows(mean=mean)
    state = stream(StreamingPca.init(D, K), x, 17)
    a = scatter(x)
    assert state.count == N
    limit = tolerance(N, condition=4)
    square = float(state.unit) ** 2
    want = a @ np.asarray(state.test_matrix, np.float64)
    assert relative_error(state.image * square, want) < limit
    assert abs(state.energy * square - np.trace(a)) < limit * np.trace(a)
    error = np.abs(finalize(state).mean - x.astype(np.float64).mean(0)).max()
    assert error < limit * np.abs(x).max()


@pytest.mark.parametrize("size", [1, 5, 32])
def test_batch_size_does_not_matter(size):
    x = rows(mean=100.0)
    base, other = (stream(StreamingPca.init(D, K), x, s) for s in (N, size))
    square = (other.unit / base.unit) ** 2
    assert relative_error(other.image * square, base.image) < tolerance(N, condition=4)
    assert relative_error(other.energy * square, base.energy) < tolerance(N * D)


def test_merge_is_associative_and_commutative_and_has_a_neutral_element():
    empty = StreamingPca.init(D, K)
    parts = [stream(empty, part) for part in np.split(rows(mean=100.0), [10, 50])]
    a, b, c = parts
    want = stream(empty, rows(mean=100.0))
    orders = [
        merge(merge(a, b), c),
        merge(a, merge(b, c)),
        merge(c, merge(b, a)),
        reduce(merge, [empty, a, empty, b, c]),
    ]
    for got in orders:
        assert got.count == N
        for name in ("image", "energy"):
            value = getattr(got, name) * (got.unit / want.unit) ** 2
            assert relative_error(value, getattr(want, name)) < tolerance(N, condition=4)
    foreign = stream(StreamingPca.init(D, K, key=jax.random.key(1)), rows())
    assert np.isnan(merge(a, foreign).image).all()


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_bounds_hold(spectrum):
    x = rows(spectrum)
    a = scatter(x)
    value = np.linalg.eigvalsh(a)[::-1]
    wide, narrow = 16, 12  # l, and the j of the expected error
    expected = (1 + narrow / (wide - narrow - 1)) * value[narrow:].sum()
    rounding = tolerance(N, condition=4) * np.trace(a)
    traces = []
    for seed in range(8):
        state = StreamingPca.init(D, wide, oversampling=0, key=jax.random.key(seed))
        got = finalize(stream(state, x))
        u = np.asarray(got.components, np.float64)
        found = np.asarray(got.explained_variance, np.float64) * (N - 1)
        left = a - u * found @ u.T
        traces.append(np.trace(left))
        assert np.linalg.eigvalsh(left).min() > -rounding  # A_l <= A
        assert np.linalg.norm(left, 2) <= np.trace(a) - found.sum() + rounding
        assert (found <= value[:wide] + rounding).all()
        error = np.linalg.norm(a @ u - u * found, axis=0).max() / found[0]
        assert error <= got.residual + rounding / found[0]
    assert np.mean(traces) <= expected + rounding


@pytest.mark.parametrize("spectrum", ["decaying", "low_rank"])
def test_refining_reaches_the_components(spectrum):
    x = rows(spectrum)
    state, residuals, errors = StreamingPca.init(D, K), [], []
    components, variance = reference.pca(x, K)
    for passes in range(1, 7):
        state = stream(state, x)
        got = finalize(state)
        assert got.iterations == passes
        residuals.append(float(got.residual))
        errors.append(largest_sine(components, got.components))
        if passes < 6:
            state = refine(state)
    assert errors[1] < max(errors[0] / 2, 1e-5)
    gap = np.min(-np.diff(reference.pca(x, K + 1)[1])) / variance[0]
    limit = tolerance(N, condition=4) / gap
    assert residuals[-1] < 1e-4
    assert errors[-1] < limit + residuals[-1] / gap
    assert relative_error(got.components, components) < limit + residuals[-1] / gap
    assert relative_error(got.explained_variance, variance) < tolerance(N, condition=8)


def test_one_pass_is_nearer_than_that_of_sklearn():
    x = rows()
    components, _ = reference.pca(x, K)
    judge = IncrementalPCA(K, batch_size=24).fit(x)
    got = finalize(stream(StreamingPca.init(D, K), x))
    assert largest_sine(components, got.components) < largest_sine(components, judge.components_.T)


def test_full_width_is_exact():
    x = rows("flat")[:, :12] * 0.9 ** np.arange(12, dtype=np.float32)
    got = finalize(stream(StreamingPca.init(12, 5), x))
    components, variance = reference.pca(x, 5)
    gap = np.min(-np.diff(reference.pca(x, 6)[1])) / variance[0]
    assert relative_error(got.components, components) < tolerance(N, condition=4) / gap
    assert relative_error(got.explained_variance, variance) < tolerance(N, condition=4)
    assert got.residual < tolerance(N)


def test_two_by_four_devices_give_what_one_gives():
    x = rows(mean=100.0)
    mesh = jax.make_mesh((2, 4), ("rows", "features"), axis_types=(AxisType.Auto,) * 2)
    f = P("features")
    state_spec = StreamingPca(P(), f, f, f, f, P(), P(), P(), K)
    axes = {"feature_axis_name": "features"}

    def fit(state, x, mask):
        for part in range(2):  # each shard gives half of its rows at a time
            half = slice(part * 24, part * 24 + 24)
            state = state.update(x[half], mask[half], axis_name="rows", **axes)
        return state.finalize(**axes), state.refine(**axes)

    sharded = jax.jit(
        jax.shard_map(
            fit,
            mesh=mesh,
            in_specs=(state_spec, P("rows", "features"), P("rows")),
            out_specs=(Pca(f, f, P(), P(), P(), P()), state_spec),
        )
    )
    start = jax.jit(
        jax.shard_map(
            partial(StreamingPca.init, D // 4, K, **axes),
            mesh=mesh,
            in_specs=(),
            out_specs=state_spec,
        )
    )()
    mask = np.arange(N) % 48 < 46
    got, again = sharded(start, x, mask)
    alone = stream(StreamingPca.init(D, K), x[mask])
    want = finalize(alone)
    assert largest_sine(start.test_matrix, StreamingPca.init(D, K).test_matrix) < tolerance(D)
    for name in ("mean", "explained_variance", "explained_variance_ratio"):
        assert relative_error(getattr(got, name), getattr(want, name)) < 1e-5, name
    gap = np.min(-np.diff(want.explained_variance)) / want.explained_variance[0]
    assert relative_error(got.components, want.components) < 1e-5 / gap
    assert largest_sine(again.test_matrix[:, :K], refine(alone).test_matrix[:, :K]) < 1e-4


@pytest.mark.parametrize("batch", ["constant", "two", "none", "zero"])
def test_degenerate_rows(batch):
    x, rank = {
        "constant": (np.full((9, D), 3.3, np.float32), 0),
        "two": (rows()[:2], 1),
        "none": (rows()[:0], 0),
        "zero": (np.zeros((5, D), np.float32), 0),
    }[batch]
    state = update(StreamingPca.init(D, K), x)
    for got in (finalize(state), finalize(update(refine(state), x))):
        v = np.asarray(got.components, np.float64)
        assert np.abs(v.T @ v - np.eye(K)).max() < tolerance(D)
        assert np.isfinite(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(got)])).all()
        variance = np.asarray(got.explained_variance)
        assert (variance[rank:] <= tolerance(D) * max(variance[0], 1e-30)).all()
    if rank:
        assert relative_error(got.explained_variance[0], reference.pca(x, 1)[1]) < tolerance(D)


def test_states_of_double_precision_stay_so():
    with jax.enable_x64(True):
        x = rows().astype(np.float64)
        state = StreamingPca.init(D, K, dtype=jnp.float64).update(jnp.asarray(x))
        assert state.image.dtype == jnp.float64
        want = scatter(x) @ np.asarray(state.test_matrix)
        image = state.image * state.unit**2
        assert relative_error(image, want) < tolerance(N, jnp.float64, 4)
        assert state.finalize().components.dtype == jnp.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: StreamingPca.init(3, 4), r"k must be in 1\.\.3 for 3 features, got 4"),
        (lambda: StreamingPca.init(3, 1, oversampling=-1), "oversampling .* got -1"),
        (lambda: StreamingPca.init(3, 1).update(jnp.ones((2, 4))), "must have 3 features, got 4"),
        (
            lambda: StreamingPca.init(3, 1).merge(StreamingPca.init(4, 1)),
            r"\(1, 3, 3\) and \(1, 4, 4\) do not merge",
        ),
        (
            lambda: StreamingPca.init(3, 1).update(jnp.ones((2, 3)), jnp.ones(3, bool)),
            r"mask must be bool of shape \(2,\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
