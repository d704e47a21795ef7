"""The training loop on a network of a few parameters: records, checkpoints, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from substrate_jax.encoders.networks.layers import BatchNorm, Linear
from substrate_jax.mesh import make_mesh
from substrate_jax.training.loop import fit
from tests.encoders.networks.modules import filled, leaves
from tests.helpers import relative_error, tolerance

ROWS = 16


class Regression(nnx.Module):
    """A linear map and a batch norm: parameters and running statistics."""

    def __init__(self, rngs):
        self.linear = Linear(4, 3, bias=False, rngs=rngs)  # the norm would cancel a bias
        self.norm = BatchNorm(3)

    def __call__(self, x):
        return self.norm(self.linear(x)[:, None, None])[:, 0, 0]


def loss(module, batch, key):
    target = batch["y"] + 0.01 * jax.random.normal(key, batch["y"].shape)
    error = jnp.square(module(batch["x"]) - target).mean()
    return error, {"doubled": 2 * error}


def batch_at(step):
    rng = np.random.default_rng(step)
    x = rng.normal(size=(ROWS, 4)).astype(np.float32)
    return {"x": x, "y": np.stack([x[:, 0], x[:, 1] - x[:, 2], -x[:, 3]], 1)}


def regression():
    return filled(lambda: Regression(nnx.Rngs(0)))


# Momentum, so that the optimizer has a state to resume.
OPTIMIZER = optax.sgd(0.05, momentum=0.9)


def run(steps=6, *, batches=batch_at, **options):
    return fit(regression(), loss, OPTIMIZER, batches, steps=steps, save_every=2, **options)


@pytest.fixture(scope="module")
def trained():
    """A run of six steps without checkpoints, on all devices."""
    return run()


def test_the_loss_falls_and_the_given_module_stays():
    given = regression()
    before = leaves(given)
    module, records = fit(given, loss, OPTIMIZER, batch_at, steps=30, save_every=10)
    assert [record["step"] for record in records] == [10, 20, 30]
    assert records[-1]["loss"] < records[0]["loss"] / 2
    for record in records:
        np.testing.assert_allclose(record["doubled"], 2 * record["loss"], rtol=1e-6)
    for path, value in leaves(given).items():
        np.testing.assert_array_equal(value, before[path])
    assert all(np.any(value != before[path]) for path, value in leaves(module).items())
    assert module.norm.use_running_average


def test_the_last_record_covers_the_steps_left_over():
    _, records = run(5)
    assert [record["step"] for record in records] == [2, 4, 5]


@pytest.mark.parametrize("stop", [1, 5])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, trained, stop):
    def interrupted(step):
        if step == stop:
            raise KeyboardInterrupt
        return batch_at(step)

    with pytest.raises(KeyboardInterrupt):
        run(batches=interrupted, checkpoints=tmp_path)
    first = {1: 0, 5: 4}[stop]

    def resumed(step):
        assert step >= first
        return batch_at(step)

    module, records = run(batches=resumed, checkpoints=tmp_path)
    want, want_records = trained
    for path, value in leaves(module).items():
        np.testing.assert_array_equal(value, leaves(want)[path], err_msg=str(path))
    assert records == [record for record in want_records if record["step"] > first]


def test_a_finished_run_is_only_read_back(tmp_path, trained):
    run(checkpoints=tmp_path)

    def none_left(step):
        raise AssertionError(step)

    module, records = run(batches=none_left, checkpoints=tmp_path)
    assert records == []
    for path, value in leaves(module).items():
        np.testing.assert_array_equal(value, leaves(trained[0])[path])


def test_seeds_matter(trained):
    other, _ = run(seed=1)
    assert any(np.any(value != leaves(trained[0])[path]) for path, value in leaves(other).items())


def test_one_device_gives_what_eight_give():
    def on(devices):
        mesh = make_mesh(devices=jax.devices()[:devices])
        given = regression()
        module, _ = fit(given, loss, OPTIMIZER, batch_at, steps=3, mesh=mesh)
        for path, value in leaves(given).items():  # its buffers were not donated
            np.testing.assert_array_equal(value, leaves(regression())[path])
        return module

    one, eight = leaves(on(1)), leaves(on(8))
    # Sums over 16 rows in another order; each step feeds its rounding to the next.
    for path, value in one.items():
        assert relative_error(eight[path], value) <= tolerance(ROWS, condition=3), path


def test_bad_runs_are_refused():
    with pytest.raises(ValueError, match="steps=0: train for at least one step"):
        run(0)

    def diverged(module, batch, key):
        value, metrics = loss(module, batch, key)
        return value / 0.0, metrics

    with pytest.raises(ValueError, match="the loss is inf by step 1; lower the learning rate"):
        fit(regression(), diverged, optax.sgd(0.1), batch_at, steps=1)
