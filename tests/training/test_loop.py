"""The training loop on a small network: records, checkpoints, devices, several runs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from substrate_jax.encoders.networks.layers import BatchNorm, Linear
from substrate_jax.mesh import make_mesh
from substrate_jax.training import program
from substrate_jax.training.loop import fit
from substrate_jax.training.program import Run
from substrate_jax.training.rows import epoch_rows
from tests.encoders.networks.modules import filled, leaves
from tests.helpers import relative_error, tolerance

ROWS, IMAGES = 16, 48


class Regression(nnx.Module):
    """A linear map and a batch norm: parameters and running statistics."""

    def __init__(self, rngs):
        self.linear = Linear(4, 3, bias=False, rngs=rngs)  # the norm would cancel a bias
        self.norm = BatchNorm(3)

    def __call__(self, x):
        return self.norm(self.linear(x)[:, None, None])[:, 0, 0]


def loss(module, batch, key):
    target = batch["y"] + 0.01 * jax.random.normal(key, batch["y"].shape, batch["y"].dtype)
    error = jnp.square(module(batch["x"]) - target).mean()
    return batch["weight"] * error.astype(jnp.float32), {"doubled": 2 * error}


def make_data():
    x = np.random.default_rng(0).normal(size=(IMAGES, 4)).astype(np.float32)
    return {"x": x, "y": np.stack([x[:, 0], x[:, 1] - x[:, 2], -x[:, 3]], 1)}


DATA = make_data()


def rows_at(run, step):
    return epoch_rows(np.arange(IMAGES), run.seed, step, ROWS)


def regression():
    return filled(lambda: Regression(nnx.Rngs(0)))


def one(seed=0, **options):
    return Run(regression(), seed, settings={"weight": 1.0}, **options)


# Momentum, so that the optimizer has a state to resume.
OPTIMIZER = optax.sgd(0.05, momentum=0.9)


def train(runs=None, steps=6, *, rows=rows_at, data=None, **options):
    return fit(
        runs or [one()],
        loss,
        OPTIMIZER,
        DATA if data is None else data,
        rows,
        steps=steps,
        save_every=2,
        **options,
    )


@pytest.fixture(scope="module")
def trained():
    """A run of six steps without checkpoints, on all devices."""
    return train()[0]


def assert_same(module, want):
    for path, value in leaves(module).items():
        np.testing.assert_array_equal(value, leaves(want)[path], err_msg=str(path))


def differ(module, other):
    return any(np.any(value != leaves(other)[path]) for path, value in leaves(module).items())


def assert_near(module, want, steps=3):
    # Sums over 16 rows in another order; each step feeds its rounding to the next.
    for path, value in leaves(want).items():
        assert relative_error(leaves(module)[path], value) <= tolerance(ROWS, condition=steps), path


def test_the_loss_falls_and_the_given_module_stays():
    given = one()
    before = leaves(given.module)
    (fitted,) = fit([given], loss, OPTIMIZER, DATA, rows_at, steps=30, save_every=10)
    records = fitted.records
    assert [record["step"] for record in records] == [10, 20, 30]
    assert records[-1]["loss"] < records[0]["loss"] / 2
    for record in records:
        np.testing.assert_allclose(record["doubled"], 2 * record["loss"], rtol=1e-6)
    for path, value in leaves(given.module).items():
        np.testing.assert_array_equal(value, before[path])
    assert all(np.any(value != before[path]) for path, value in leaves(fitted.module).items())
    assert fitted.module.norm.use_running_average


def test_the_last_record_covers_the_steps_left_over():
    assert [record["step"] for record in train(steps=5)[0].records] == [2, 4, 5]


@pytest.mark.parametrize("stop", [1, 5])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, trained, stop):
    def interrupted(run, step):
        if step == stop:
            raise KeyboardInterrupt
        return rows_at(run, step)

    with pytest.raises(KeyboardInterrupt):
        train(rows=interrupted, checkpoints=tmp_path)
    first = {1: 0, 5: 4}[stop]

    def resumed(run, step):
        assert step >= first
        return rows_at(run, step)

    (fitted,) = train(rows=resumed, checkpoints=tmp_path)
    assert_same(fitted.module, trained.module)
    assert fitted.records == [record for record in trained.records if record["step"] > first]


def test_a_finished_run_is_only_read_back(tmp_path, trained):
    train(checkpoints=tmp_path)

    def none_left(run, step):
        raise AssertionError(step)

    (fitted,) = train(rows=none_left, checkpoints=tmp_path)
    assert fitted.records == []
    assert_same(fitted.module, trained.module)


def test_what_another_training_left_is_refused(tmp_path):
    train(checkpoints=tmp_path)
    with pytest.raises(ValueError, match="holds a checkpoint of another training; give another"):
        fit([one()], loss, optax.adam(0.1), DATA, rows_at, steps=8, checkpoints=tmp_path)


def test_a_run_with_a_name_has_its_own_folder(tmp_path):
    train(checkpoints=tmp_path)
    (fitted,) = train([one(name="a")], checkpoints=tmp_path)
    assert len(fitted.records) == 3  # not read back
    assert (tmp_path / "a").is_dir()


def test_of_several_runs_those_that_are_done_are_read_back(tmp_path, trained):
    runs = [one(), one(seed=1), one(seed=2)]

    def interrupted(run, step):
        if run.seed == 1 and step == 3:
            raise KeyboardInterrupt
        return rows_at(run, step)

    with pytest.raises(KeyboardInterrupt):
        train(runs, rows=interrupted, checkpoints=tmp_path)

    def resumed(run, step):
        assert run.seed > 0
        assert run.seed == 2 or step >= 2
        return rows_at(run, step)

    fitted = train(runs, rows=resumed, checkpoints=tmp_path)
    assert_same(fitted[0].module, trained.module)
    assert_same(fitted[2].module, train([one(seed=2)])[0].module)


@pytest.mark.parametrize("mesh", ["data=1", "runs=3,data=2"])
def test_together_runs_become_what_they_become_apart(tmp_path, mesh):
    y = DATA["y"]
    runs = [
        Run(regression(), 0, 1.0, {"weight": 1.0}, {"y": y}),
        Run(regression(), 1, 0.5, {"weight": 2.0}, {"y": -y}),
        Run(regression(), 0, 2.0, {"weight": 0.0}, {"y": y}),
    ]
    data = {"x": DATA["x"]}
    apart = train(runs, 3, data=data, mesh=make_mesh("data=1"))
    options = {"mesh": make_mesh(mesh), "checkpoints": tmp_path, "data": data}
    together = train(runs, 3, together=True, **options)
    again = train(runs, 3, together=True, **options)  # read back
    for a, b, c in zip(apart, together, again, strict=True):
        assert_near(b.module, a.module)
        assert_same(c.module, b.module)
        assert [record["step"] for record in b.records] == [2, 3]
        np.testing.assert_allclose(
            [record["loss"] for record in b.records],
            [record["loss"] for record in a.records],
            rtol=tolerance(ROWS, condition=3),
        )
    # A loss of weight 0 moves no parameter; seeds, rates and targets of the others differ.
    assert_same(apart[2].module.linear, regression().linear)
    assert differ(apart[0].module.linear, apart[1].module.linear)


def test_data_that_stay_on_the_host_give_the_same(monkeypatch, trained):
    monkeypatch.setattr(program, "RESIDENT", 0)
    assert_same(train()[0].module, trained.module)
    runs = [one(data={"y": DATA["y"]}), one(seed=1, data={"y": DATA["y"]})]
    found = train(runs, together=True, data={"x": DATA["x"]})
    assert_near(found[0].module, trained.module, 6)


def test_the_rate_scales_the_updates():
    half = fit([one(learning_rate=0.5)], loss, OPTIMIZER, DATA, rows_at, steps=3)[0]
    optimizer = optax.sgd(0.025, momentum=0.9)
    assert_same(half.module, fit([one()], loss, optimizer, DATA, rows_at, steps=3)[0].module)


def test_what_watches_sees_modules_of_the_steps_it_asked_for(tmp_path, trained):
    seen = {}

    def watch(run, step, module):
        assert module.norm.use_running_average
        seen[run, step] = leaves(module)

    runs = [one(), one(seed=1)]
    train(runs, watch=watch, watch_at=[0, 1, 4, 6], checkpoints=tmp_path)
    assert sorted(seen) == [(run, step) for run in (0, 1) for step in (0, 1, 4, 6)]
    for path, value in leaves(regression()).items():
        np.testing.assert_array_equal(seen[0, 0][path], value)
    for path, value in leaves(trained.module).items():
        np.testing.assert_array_equal(seen[0, 6][path], value)
    short = leaves(train([one(seed=1)], 4)[0].module)
    for path, value in short.items():
        np.testing.assert_array_equal(seen[1, 4][path], value)


def test_seeds_matter(trained):
    assert differ(train([one(seed=1)])[0].module, trained.module)


def test_one_device_gives_what_eight_give():
    def on(devices):
        mesh = make_mesh(devices=jax.devices()[:devices])
        given = one()
        (fitted,) = fit([given], loss, OPTIMIZER, DATA, rows_at, steps=3, mesh=mesh)
        for path, value in leaves(given.module).items():  # its buffers were not donated
            np.testing.assert_array_equal(value, leaves(regression())[path])
        return fitted.module

    assert_near(on(8), on(1))


def test_in_bfloat16_parameters_stay_float32(trained):
    def cast(module, batch, key):
        return loss(
            module, batch | {name: batch[name].astype(jnp.bfloat16) for name in ("x", "y")}, key
        )

    (fitted,) = fit([one()], cast, OPTIMIZER, DATA, rows_at, steps=6, dtype=jnp.bfloat16)
    for path, value in leaves(fitted.module).items():
        assert value.dtype == np.float32
        # bfloat16 has 8 bits: 2^-9 a rounding, three of them a step.
        assert relative_error(value, leaves(trained.module)[path]) < 18 * 2**-9
    assert differ(fitted.module, trained.module)


def test_bad_runs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="steps=0: train for at least one step"):
        train(steps=0)
    with pytest.raises(ValueError, match="runs: give at least one"):
        fit([], loss, OPTIMIZER, DATA, rows_at, steps=1)
    with pytest.raises(ValueError, match="runs differ in the shapes"):
        train([one(), Run(regression())])
    with pytest.raises(ValueError, match=r"data have \[47, 48\] rows"):
        train(data={"x": DATA["x"], "y": DATA["y"][1:]})
    with pytest.raises(ValueError, match="mesh has an axis 'runs': train the runs together"):
        train(mesh=make_mesh("runs=2,data=4"))
    with pytest.raises(ValueError, match=r"batches of 16 take 0 MiB .* above 0 MiB; parameters"):
        train(memory=10)

    def diverged(module, batch, key):
        value, metrics = loss(module, batch, key)
        return value / jnp.where(
            batch["x"][0, 0] == DATA["x"][rows_at(one(), 4)[0], 0], 0, 1.0
        ), metrics

    with pytest.raises(ValueError) as failed:
        fit(
            [one()],
            diverged,
            optax.sgd(0.1),
            DATA,
            rows_at,
            steps=8,
            save_every=3,
            checkpoints=tmp_path,
        )
    assert str(failed.value).startswith("the loss is inf by step 5 (seed 0, weight 1); ")
    assert f"{str(tmp_path)!r} holds step 3; lower the learning rate" in str(failed.value)
