"""Centered moments against float64 NumPy, over batches, merges, masks, transforms and offsets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from substrate_jax.kernels import StreamingCka, StreamingMoments, StreamingPca, center, standardize
from tests import helpers


def sample(n, d, ratio=0.0, seed=0):
    """Float32 rows of unit variance whose mean is `ratio` standard deviations from 0."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) + ratio * rng.uniform(0.5, 1, size=d)).astype(np.float32)


def stream(x, sizes, **options):
    state, start = StreamingMoments.init(x.shape[1], **options), 0
    for size in sizes:
        state = state.update(jnp.asarray(x[start : start + size]))
        start += size
    assert start == len(x)
    return state


def check(state, x, tolerance):
    """Compares mean and (co)variance with NumPy in float64, errors in units of the deviations."""
    x = x.astype(np.float64)
    mean, covariance = state.finalize()
    want = np.cov(x.T).reshape(x.shape[1], x.shape[1])
    if covariance.ndim == 1:
        want = np.diag(want)
    assert int(state.count) == len(x)
    assert helpers.relative_error(covariance, want) < tolerance
    # The mean itself is one float32 number: half a unit in the last place of the largest entry.
    spacing = np.finfo(np.float32).eps * np.abs(x).max()
    assert np.abs(np.asarray(mean, np.float64) - x.mean(0)).max() < spacing + tolerance


@pytest.mark.parametrize("ratio", [0.0, 1e2, 1e3, 1e4])
@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("sizes", [(300,), (7, 93, 200), (1,) * 300])
def test_update_matches_numpy_far_from_zero(ratio, diagonal, sizes):
    x = sample(300, 5, ratio)
    check(stream(x, sizes, diagonal=diagonal), x, helpers.tolerance(300))


def test_the_tolerance_refuses_the_textbook_shortcut():
    x = sample(300, 5, 1e2)
    mean = x.mean(0)
    shortcut = (x.T @ x - len(x) * np.outer(mean, mean)) / (len(x) - 1)
    error = helpers.relative_error(shortcut, np.cov(x.T.astype(np.float64)))
    assert error > 10 * helpers.tolerance(300)


@pytest.mark.parametrize("ratio", [0.0, 1e3])
def test_merge_is_associative_and_commutative(ratio):
    x = sample(90, 4, ratio)
    a, b, c = (stream(part, (len(part),)) for part in (x[:10], x[10:31], x[31:]))
    empty = StreamingMoments.init(4)
    for state in (a.merge(b).merge(c), a.merge(b.merge(c)), c.merge(a).merge(b)):
        check(state, x, helpers.tolerance(90))
    for state in (a.merge(empty), empty.merge(a)):
        jax.tree.map(np.testing.assert_array_equal, state, a)


@pytest.mark.parametrize("diagonal", [False, True])
def test_every_transform_gives_the_same_moments_of_uneven_rows(diagonal):
    x = sample(37, 3, 1e2)
    padded = np.concatenate([x, np.full((3, 3), np.nan, np.float32)])
    mask = np.arange(40) < 37

    def moments(x, mask, axis_name):
        state = StreamingMoments.init(3, diagonal=diagonal)
        return state.update(x, mask, axis_name=axis_name)

    for name, call in helpers.transforms().items():
        state = call(moments, (padded, mask))
        try:
            check(state, x, helpers.tolerance(40))
        except AssertionError as error:
            raise AssertionError(f"under {name}") from error


def test_few_rows_are_defined():
    empty = StreamingMoments.init(2)
    np.testing.assert_array_equal(empty.finalize()[1], np.zeros((2, 2)))
    one = empty.update(jnp.array([[3.0, 4.0]]))
    mean, covariance = one.finalize()
    np.testing.assert_array_equal(mean, [3, 4])
    np.testing.assert_array_equal(covariance, np.zeros((2, 2)))
    nobody = one.update(jnp.ones((2, 2)), jnp.zeros(2, bool))
    jax.tree.map(np.testing.assert_array_equal, nobody, one)


def test_bfloat16_is_upcast_before_it_is_summed():
    x = sample(200, 3, 10).astype(jnp.bfloat16)
    state = StreamingMoments.init(3).update(jnp.asarray(x))
    assert state.scatter.dtype == jnp.float32
    check(state, x.astype(np.float32), helpers.tolerance(200))


def test_float64_stays_float64():
    x = sample(200, 3, 1e2).astype(np.float64) + np.random.default_rng(1).normal(size=(200, 3))
    with jax.enable_x64(True):
        state = StreamingMoments.init(3, dtype=jnp.float64).update(jnp.asarray(x))
        assert helpers.relative_error(state.finalize()[1], np.cov(x.T)) < helpers.tolerance(
            200, jnp.float64
        )


def test_update_is_traced_once_for_equal_shapes():
    traces = []

    @jax.jit
    def update(state, batch):
        traces.append(1)
        return state.update(batch)

    state = StreamingMoments.init(3)
    for seed in range(3):
        state = update(state, sample(8, 3, seed=seed))
    assert len(traces) == 1


@pytest.mark.parametrize("ratio", [0.0, 1e2, 1e4])
def test_standardize_matches_numpy(ratio):
    x = sample(300, 4, ratio)
    wide = x.astype(np.float64)
    want = (wide - wide.mean(0)) / wide.std(0)
    np.testing.assert_allclose(standardize(jnp.asarray(x)), want, atol=helpers.tolerance(300))
    centered = wide - wide.mean(0)
    np.testing.assert_allclose(center(jnp.asarray(x)), centered, atol=helpers.tolerance(300))


def test_standardize_ignores_units():
    x = sample(50, 3)
    units = np.array([1e-15, 1.0, 1e25], np.float32)  # whose squares leave the range of float32
    got = standardize(jnp.asarray(x * units))
    np.testing.assert_allclose(got, standardize(jnp.asarray(x)), atol=helpers.tolerance(50))


def test_constant_columns_become_zero():
    noise = np.nextafter(np.float32(0.1), np.float32(1), dtype=np.float32)
    columns = [np.full(9, 0.1), np.full(9, -1e30), np.zeros(9), [0.1] * 8 + [noise]]
    x = np.stack([*columns, np.arange(9)], axis=1).astype(np.float32)
    got = standardize(jnp.asarray(x))
    np.testing.assert_array_equal(got[:, :4], 0)
    np.testing.assert_allclose(np.var(got[:, 4]), 1, rtol=helpers.tolerance(9))
    gradient = jax.grad(lambda x: jnp.sum(standardize(x) ** 3))(jnp.asarray(x))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:, :4], 0)


@pytest.mark.parametrize("function", [center, standardize])
def test_rows_function_under_every_transform(function):
    x = sample(37, 3, 10)
    padded = np.concatenate([x, np.full((3, 3), np.nan, np.float32)])
    mask = np.arange(40) < 37
    want = np.concatenate([function(jnp.asarray(x)), np.zeros((3, 3), np.float32)])

    def gathered(x, mask, axis_name):
        y = function(x, mask, axis_name)
        if axis_name is None:
            return y
        # Places each shard's rows in a zero array, so that the sum is replicated.
        whole = jnp.zeros((40, 3)).at[jax.lax.axis_index(axis_name) * 5 + jnp.arange(5)].set(y)
        return jax.lax.psum(whole, axis_name)

    for call in helpers.transforms().values():
        np.testing.assert_allclose(call(gathered, (padded, mask)), want, atol=helpers.tolerance(40))


def test_standardize_gradient_matches_finite_differences():
    x = sample(6, 2).astype(np.float64)
    with jax.enable_x64(True):
        loss = lambda x: jnp.sum(jnp.sin(standardize(x)))  # noqa: E731
        check_grads(loss, (jnp.asarray(x),), order=1, modes=["fwd", "rev"])


def test_vmap_is_the_loop():
    x = np.stack([sample(20, 3, seed=seed) for seed in range(4)])
    want = np.stack([standardize(jnp.asarray(one)) for one in x])
    np.testing.assert_allclose(jax.vmap(standardize)(x), want, atol=helpers.tolerance(20))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: center(jnp.ones(3)), "x must be"),
        (lambda: standardize(jnp.ones((3, 2), jnp.int32)), "floating-point"),
        (lambda: center(jnp.ones((3, 2)), jnp.ones(2, bool)), "mask must be"),
        (lambda: center(jnp.ones((3, 2)), jnp.ones(3)), "mask must be"),
        (lambda: StreamingMoments.init(2).update(jnp.ones((3, 4))), "batch must have 2"),
        (
            lambda: StreamingMoments.init(2).merge(StreamingMoments.init(3)),
            "of 2 and 3 features do not merge",
        ),
        (
            lambda: StreamingMoments.init(2).merge(StreamingMoments.init(2, diagonal=True)),
            "variances only: give",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "state",
    [StreamingMoments.init(3), StreamingCka.init([3]), StreamingPca.init(3, 1)],
    ids=lambda state: type(state).__name__,
)
def test_a_state_that_is_donated_gives_what_one_that_is_kept_gives(state):
    rows = jnp.eye(4, 3)
    given = [rows] if isinstance(state, StreamingCka) else rows
    kept = jax.jit(type(state).update)(state, given)
    donated = jax.jit(type(state).update, donate_argnums=0)(state, given)
    for ours, theirs in zip(jax.tree.leaves(donated), jax.tree.leaves(kept), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_cka_of_a_stream_is_added_to_in_place():
    state = StreamingCka.init([512] * 4)
    rows = [jnp.ones((4, 512))] * 4
    update = jax.jit(StreamingCka.update, donate_argnums=0).lower(state, rows).compile()
    held = update.memory_analysis().temp_size_in_bytes
    assert held < sum(product.nbytes for product in state.products) / 2
