"""The CKA loss against its formula, its gradient against differences, on one device and eight."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import substrate_jax as sj
from substrate_jax import losses
from substrate_jax.kernels.reference import measures
from substrate_jax.mesh import DATA_AXIS, make_mesh
from tests.helpers import tolerance

ROWS = 40


def pair(n=ROWS, d=6, k=3, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(n, k))
    return target @ rng.normal(size=(k, d)) + rng.normal(size=(n, d)), target


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("d", [6, 60])
def test_it_is_one_less_cka(debiased, d):
    x, y = pair(d=d)
    want = 1 - measures.cka(x, y, debiased=debiased)
    found = sj.losses.cka_loss(x.astype(np.float32), y.astype(np.float32), debiased=debiased)
    assert found.dtype == jnp.float32
    # Squares of inner products over rows and columns, as for the kernel.
    assert abs(float(found) - want) <= tolerance(4 * ROWS * d)


@pytest.mark.parametrize("debiased", [True, False])
def test_its_gradient_is_that_of_differences_and_none_flows_into_the_target(debiased):
    with jax.enable_x64(True):
        x, y = pair()
        value = jax.jit(lambda x, y: losses.cka_loss(x, y, debiased=debiased))
        found, into_target = jax.grad(value, argnums=(0, 1))(x, y)
        step = 1e-6 * np.random.default_rng(1).normal(size=x.shape)
        change = float(value(x + step, y) - value(x - step, y)) / 2
        np.testing.assert_allclose(np.sum(found * step), change, rtol=1e-5)
        assert (np.asarray(into_target) == 0).all()


@pytest.mark.parametrize(
    "point",
    {
        "constant": lambda y: np.ones((ROWS, 5)),
        "zero": lambda y: np.zeros((ROWS, 5)),
        "rank one": lambda y: np.outer(np.arange(ROWS), np.arange(5)),
        "copies of one row but one": lambda y: np.eye(ROWS, 5) * (np.arange(ROWS)[:, None] == 0),
        "the target": lambda y: y,
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.parametrize("debiased", [True, False])
def test_gradients_at_degenerate_points_are_finite(point, debiased):
    _, y = pair()
    name, features = point
    x = features(y).astype(np.float32)
    value, gradient = jax.value_and_grad(losses.cka_loss)(
        x, y.astype(np.float32), debiased=debiased
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if name in ("constant", "zero") or (debiased and name.startswith("copies")):
        assert value == 1
        assert (np.asarray(gradient) == 0).all()


def test_what_is_not_finite_makes_no_finite_loss():
    """So that a training that diverged is seen."""
    x, y = (part.astype(np.float32) for part in pair())
    for bad in (np.nan, np.inf):
        x[3, 2] = bad
        assert np.isnan(losses.cka_loss(x, y))


def test_rows_over_devices_give_the_value_and_the_gradient_of_one_batch():
    x, y = (part.astype(np.float32) for part in pair(n=64))
    mask = np.arange(64) < 59
    want, slope = jax.value_and_grad(losses.cka_loss)(x, y, mask=mask)
    rows = PartitionSpec(DATA_AXIS)

    def over_devices(x, y, mask):
        def local(x, y, mask):
            return losses.cka_loss(x, y, mask=mask, axis_name=DATA_AXIS)

        mesh = make_mesh("data=8")
        return jax.shard_map(
            local, mesh=mesh, in_specs=(rows, rows, rows), out_specs=PartitionSpec()
        )(x, y, mask)

    found, gradient = jax.jit(jax.value_and_grad(over_devices))(x, y, mask)
    assert abs(float(found) - float(want)) <= tolerance(4 * 64 * 6)
    size = np.abs(slope).max()
    np.testing.assert_allclose(gradient, slope, atol=tolerance(4 * 64 * 6) * size)


def test_bfloat16_features_are_compared_in_float32():
    x, y = pair()
    half = jnp.asarray(x, jnp.bfloat16)
    found, gradient = jax.value_and_grad(losses.cka_loss)(half, y.astype(np.float32))
    assert found == losses.cka_loss(half.astype(jnp.float32), y.astype(np.float32))
    assert gradient.dtype == jnp.bfloat16


def test_descent_ends_where_features_and_target_agree():
    """A linear map can reach the target exactly, where the loss is 0."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(48, 8)).astype(np.float32)
    target = (images[:, :3] * [3, 2, 1]).astype(np.float32)
    optimizer = optax.sgd(2.0, momentum=0.9)

    @jax.jit
    def step(weight, state):
        value, slope = jax.value_and_grad(lambda w: losses.cka_loss(images @ w, target))(weight)
        change, state = optimizer.update(slope, state)
        return weight + change, state, value

    weight = rng.normal(size=(8, 4)).astype(np.float32)
    state, values = optimizer.init(weight), []
    for _ in range(300):
        weight, state, value = step(weight, state)
        values.append(float(value))
    assert values[0] > 0.3
    assert values[-1] < 1e-3


def test_independent_features_lose_nothing_on_average():
    """The table of the docstring, at 32 rows: 1 debiased, .44 biased, by the errors of 60 draws."""
    draws = [pair_of_noise(seed) for seed in range(60)]
    for debiased, mean, deviation in ((True, 1.0, 0.056), (False, 0.44, 0.03)):
        found = [float(losses.cka_loss(x, y, debiased=debiased)) for x, y in draws]
        assert abs(np.mean(found) - mean) <= 5 * deviation / np.sqrt(len(found))


def pair_of_noise(seed):
    rng = np.random.default_rng([7, seed])
    return rng.standard_normal((32, 512), np.float32), rng.standard_normal((32, 16), np.float32)


def test_few_rows_are_refused_or_warned_of_once():
    x, y = (part.astype(np.float32) for part in pair())
    with pytest.raises(ValueError, match="at least 4 rows, got 3"):
        losses.cka_loss(x[:3], y[:3])
    losses._warn_of_few_rows.cache_clear()
    with pytest.warns(RuntimeWarning, match="fewer than 32 rows"):
        losses.cka_loss(x[:31], y[:31])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses.cka_loss(x[:31], y[:31])
        losses.cka_loss(x[:32], y[:32])
