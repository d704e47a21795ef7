"""The CKA loss against its formula, its gradient against differences, on one device and eight."""

import functools
import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from substrate_jax import losses
from substrate_jax.kernels.reference import measures
from substrate_jax.mesh import DATA_AXIS, make_mesh
from tests.helpers import matrix_products, tolerance

ROWS = 40
cka_loss = jax.jit(losses.cka_loss, static_argnames="debiased")
slopes = jax.jit(jax.value_and_grad(losses.cka_loss), static_argnames="debiased")


def pair(n=ROWS, d=6, k=3, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(n, k))
    return target @ rng.normal(size=(k, d)) + rng.normal(size=(n, d)), target


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("d", [6, 60])
def test_it_is_one_less_cka(debiased, d):
    x, y = pair(d=d)
    want = 1 - measures.cka(x, y, debiased=debiased)
    found = cka_loss(x.astype(np.float32), y.astype(np.float32), debiased=debiased)
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
        "every row twice": lambda y: np.repeat(y[: ROWS // 2], 2, axis=0),
        "the target": lambda y: y,
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.parametrize("debiased", [True, False])
def test_gradients_at_degenerate_points_are_finite(point, debiased):
    _, y = pair()
    name, features = point
    x = features(y).astype(np.float32)
    x = np.pad(x, ((0, 0), (0, 5 - x.shape[1])))
    value, gradient = slopes(x, y.astype(np.float32), debiased=debiased)
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
        assert np.isnan(cka_loss(x, y))
        assert np.isnan(cka_loss(y, x))
    assert np.isnan(cka_loss(y, y, mask=np.arange(ROWS) < 3))


def test_rows_over_devices_give_the_value_and_the_gradient_of_one_batch():
    x, y = (part.astype(np.float32) for part in pair(n=64))
    mask = np.arange(64) < 59
    want, slope = slopes(x, y, mask=mask)
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
    found, gradient = slopes(half, y.astype(np.float32))
    assert found == slopes(half.astype(jnp.float32), y.astype(np.float32))[0]
    assert gradient.dtype == jnp.bfloat16


def test_products_are_in_float32_at_the_highest_precision_and_few():
    """As the module says: four times those of both Gram matrices, with the gradient."""
    x, y = jnp.zeros((32, 100), jnp.bfloat16), jnp.zeros((32, 8), jnp.bfloat16)
    program = jax.make_jaxpr(jax.value_and_grad(losses.cka_loss))(x, y)
    products = list(matrix_products(program.jaxpr))
    assert {precision for _, precision in products} == {(jax.lax.Precision.HIGHEST,) * 2}
    assert sum(flops for flops, _ in products) <= 1.05 * 4 * 2 * 32**2 * 108


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
        found = [float(cka_loss(x, y, debiased=debiased)) for x, y in draws]
        assert abs(np.mean(found) - mean) <= 5 * deviation / np.sqrt(len(found))


def pair_of_noise(seed):
    rng = np.random.default_rng([7, seed])
    return rng.standard_normal((32, 512), np.float32), rng.standard_normal((32, 16), np.float32)


def test_few_rows_are_refused_or_warned_of_once():
    x, y = (part.astype(np.float32) for part in pair())
    with pytest.raises(ValueError, match="at least 4 rows, got 3"):
        losses.cka_loss(x[:3], y[:3])
    warn = inspect.getmodule(losses.cka_loss)._warn_of_few_rows
    warn.cache_clear()
    with pytest.warns(RuntimeWarning, match="fewer than 32 rows"):
        losses.cka_loss(x[:31], y[:31])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses.cka_loss(x[:31], y[:31])
        losses.cka_loss(x[:32], y[:32])


def test_a_target_that_tells_nothing_in_a_batch_moves_nothing():
    """One-hot labels with no class twice, all images of one class, all but one of one."""
    x, _ = pair(d=5)
    for target in (np.eye(ROWS), np.eye(ROWS)[[3] * ROWS], np.eye(ROWS)[[3] * (ROWS - 1) + [2]]):
        value, gradient = slopes(x.astype(np.float32), target.astype(np.float32))
        assert value == 1
        assert (np.asarray(gradient) == 0).all()


def test_one_feature_is_compared_as_any_number_is():
    x, y = pair(d=1, k=1)
    for target in (y, x):
        value, gradient = slopes(x.astype(np.float32), target.astype(np.float32))
        want = 1 - measures.cka(x, target, debiased=True)
        assert abs(float(value) - want) <= tolerance(4 * ROWS)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("averaged", [False, True])
def test_a_step_within_a_map_has_the_gradient_of_one_device(averaged):
    """Derivatives of shared weights are summed over devices by the map itself."""
    rng = np.random.default_rng(3)
    images = rng.normal(size=(64, 7)).astype(np.float32)
    weight, target = rng.normal(size=(7, 5)).astype(np.float32), images[:, :3] ** 2

    def loss(weight, images, target, axis_name=None):
        return losses.cka_loss(images @ weight, target, axis_name=axis_name)

    def within(weight, images, target):
        if averaged:  # as where every device holds weights of its own
            weight = jax.lax.pcast(weight, DATA_AXIS, to="varying")
        found = jax.grad(functools.partial(loss, axis_name=DATA_AXIS))(weight, images, target)
        return jax.lax.psum(found, DATA_AXIS) if averaged else found

    rows, same = PartitionSpec(DATA_AXIS), PartitionSpec()
    mapped = jax.shard_map(
        within, mesh=make_mesh("data=8"), in_specs=(same, rows, rows), out_specs=same
    )
    want = jax.jit(jax.grad(loss))(weight, images, target)
    found = jax.jit(mapped)(weight, images, target)
    np.testing.assert_allclose(found, want, atol=tolerance(4 * 64 * 6) * np.abs(want).max())


def test_rows_sharded_by_the_compiler_give_the_same():
    x, y = (part.astype(np.float32) for part in pair(n=64))
    rows = jax.sharding.NamedSharding(make_mesh("data=8"), PartitionSpec(DATA_AXIS))
    found, gradient = slopes(*(jax.device_put(part, rows) for part in (x, y)))
    want, slope = slopes(x, y)
    assert abs(float(found) - float(want)) <= tolerance(4 * 64 * 6)
    np.testing.assert_allclose(gradient, slope, atol=tolerance(4 * 64 * 6) * np.abs(slope).max())


def test_wrong_input_is_refused_by_the_name_of_the_argument():
    x, y = (part.astype(np.float32) for part in pair())
    for call, message in (
        (lambda: losses.cka_loss(x[:, 0], y), r"features must be \[rows, features\]"),
        (lambda: losses.cka_loss(x, y.astype(int)), "target must be real floating-point"),
        (lambda: losses.cka_loss(x, y[:-1]), r"features \[40, 6\] and target \[39, 3\]"),
        (lambda: losses.cka_loss(x, y, axis_name="data"), "'data' is not a mapped axis"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
