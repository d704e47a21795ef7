"""A program's work is counted in its jaxpr, and seconds follow from rates."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.costs import machine, stages
from experiments.benchmarks.costs.tally import Tally, tally
from experiments.benchmarks.pods.chips import CHIPS
from substrate_jax.analyses.cka import compare
from substrate_jax.mesh import DATA_AXIS, ROWS, make_mesh, over_rows

ROWS_HERE, WIDTH, DEVICES, STEPS = 16, 32, 4, 3


def test_work_is_counted_on_each_device_with_its_loops():
    def function(x):
        def step(carry, _):
            visited = jax.lax.ppermute(carry, DATA_AXIS, [(i, (i + 1) % DEVICES) for i in range(4)])
            return jnp.exp(visited * 2 + 1), None

        x = jax.lax.scan(step, x, None, length=STEPS)[0]
        x = x[jnp.arange(ROWS_HERE)[::-1]]
        largest = jax.lax.top_k(jnp.matmul(x, x.T, precision="highest"), 4)[0]
        return jax.lax.psum(largest.sum(), DATA_AXIS)

    program = over_rows(function, make_mesh(f"data={DEVICES}"), ROWS)
    x = jax.ShapeDtypeStruct((DEVICES * ROWS_HERE, WIDTH), jnp.float32)
    found = tally(program, x, devices=DEVICES, platform="cpu")
    assert found.flops == {"float32": 2 * ROWS_HERE**2 * WIDTH}
    assert found.unit_flops == 6 * 2 * ROWS_HERE**2 * WIDTH
    assert found.functions == STEPS * ROWS_HERE * WIDTH
    assert found.ordered == {16: ROWS_HERE**2}
    assert found.places == ROWS_HERE
    assert found.received == {
        "permute": 4 * STEPS * ROWS_HERE * WIDTH,
        "sum": 4 * 2 * (DEVICES - 1) / DEVICES,
    }
    # Written and read: the visitor and its exp at each step (the sum and product are fused), x
    # transposed and the products, and what is left of a row, values and places.
    block, square = 4 * ROWS_HERE * WIDTH, 4 * ROWS_HERE**2
    least = 2 * (2 * STEPS * block + square)
    assert least <= sum(found.bytes.values()) <= least + 2 * (3 * block + 4 * square)


def test_seconds_follow_from_rates():
    work = Tally({"float32": 4.0}, 24.0, {64: 10.0, 256: 8.0}, 6.0, 2.0, {16: 8.0}, {"sum": 3.0})
    one = machine.Machine(
        "m",
        "cpu",
        2,
        {"float32": 2.0},
        False,
        {4: 4.0},
        {16: 5.0, 1024: 2.0},
        3.0,
        4.0,
        {"sum": 1.0},
    )
    assert one.seconds(work) == {
        "products": 2.0,
        "memory": 2.0,
        "ordering": 10 / 5 + 8 / 2,
        "functions": 2.0,
        "places": 0.5,
        "links": 3.0,
    }
    chip = CHIPS["v5e"]
    of_chip = machine.published(chip, 256).seconds(work)
    assert of_chip == {
        "products": pytest.approx(24 / chip.flops),
        "memory": pytest.approx(8 / chip.memory_rate),
        "links": pytest.approx(3 / (chip.link_rate / 2)),
    }


def test_batches_of_chunks_are_counted(monkeypatch):
    """40 images in chunks of 16, 6 at once over 4 devices: 2 on each, so 2 batches a chunk."""
    mesh = make_mesh(f"data={DEVICES}")

    def forward(spec, setting):
        function = over_rows(lambda x: x @ x.T, mesh, ROWS, ROWS)
        return function, (setting.array((setting.batch * DEVICES, WIDTH)),)

    monkeypatch.setattr(stages, "forward", forward)
    run = stages.Run(rows={"sky": 40}, widths=(8,), batch=6, chunk=16, components=4)
    rates = machine.Machine(
        "m", "cpu", DEVICES, {"float32": 1.0}, False, {4: 1e9}, {4: 1.0}, 1.0, 1.0, {}
    )
    spec = type("Spec", (), {"name": "one"})
    (term,) = stages.extraction(rates, mesh, run, [spec])
    assert term.seconds["products"] == 3 * 2 * (2 * 2 * 2 * WIDTH)
    said = stages.text([term], rates)
    assert said.splitlines()[1].split()[:3] == ["extract", f"{term.total:.1f}", "s"]


@pytest.mark.parametrize(("rows", "width"), [(128, 512), (512, 128)])
def test_the_comparison_that_is_counted_is_the_one_that_runs(monkeypatch, rows, width):
    """Exact skewness, where Gram space makes it the default, is most of what small panels take."""

    class Asked(Exception):
        pass

    def program(mesh, ks, method, permutations, alpha, cubic):
        raise Asked(ks, method, alpha, cubic)

    monkeypatch.setattr(compare, "comparison_program", program)
    mesh = make_mesh(f"data={DEVICES}")
    features = {name: np.eye(rows, width, dtype=np.float32) for name in "ab"}
    with pytest.raises(Asked) as runs:
        compare.compare_encoders(features, mesh=mesh)
    rates = machine.Machine(
        "m", "cpu", DEVICES, {"float32": 1.0}, False, {4: 1.0}, {}, 1.0, 1.0, {}
    )
    run = stages.Run(rows={"sky": rows}, widths=(width, width), batch=16, chunk=16)
    with pytest.raises(Asked) as counted:
        stages.analysis(rates, mesh, run)
    assert counted.value.args == runs.value.args
    assert runs.value.args[-1] == (rows < width)


def test_rates_are_measured():
    found = machine.measured(make_mesh("data=2"), shrink=1 << 8)
    assert found.devices == 2
    rates = [
        found.flops["float32"],
        *found.bytes.values(),
        *found.ordered.values(),
        found.functions,
        found.places,
    ]
    assert all(rate > 0 for rate in [*rates, *found.received.values()])
    assert set(found.received) == {"sum", "permute", "gather"}


def test_small_products_and_convolutions_have_rates_of_their_own():
    def function(x, kernel):
        small = jnp.matmul(x, x)  # 3 of side 16
        found = jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME")
        return small.sum() + found.sum()

    x, kernel = jnp.ones((3, 16, 16)), jnp.ones((5, 3, 3, 3))
    work = tally(jax.jit(function), x, kernel, devices=1, platform="cpu")
    assert work.products == {
        ("float32", 16): 3 * 2 * 16**3,
        ("float32", 0): 2 * 5 * 16 * 16 * 3 * 9,
    }
    assert sum(work.products.values()) == work.flops["float32"]
    rates = machine.Machine("m", "cpu", 1, {"float32": 8.0}, False, {1: 1e9}, {}, None, None, {})
    at_once = rates.seconds(work)["products"]
    assert at_once == work.flops["float32"] / 8
    by_side = {("float32", 1024): 8.0, ("float32", 16): 4.0, ("float32", 0): 8.0}
    of_each = dataclasses.replace(rates, by_side=by_side).seconds(work)["products"]
    assert of_each == at_once + 3 * 2 * 16**3 / 8


def test_what_is_sorted_is_not_what_is_searched_for_the_largest():
    work = tally(jax.jit(lambda x: jax.lax.sort(x)), jnp.ones((4, 8)), devices=1, platform="cpu")
    assert (work.sorted, work.ordered) == (32, {})
    rates = machine.Machine("m", "cpu", 1, {}, False, {1: 1e9}, 5.0, None, None, {}, sorted=4.0)
    assert rates.seconds(work)["sorting"] == 8
    assert "ordering" not in rates.seconds(work)
