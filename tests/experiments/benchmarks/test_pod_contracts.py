"""What would break a pod: programs that gather rows, hold more than they say, or do not compile.

What a program gathers is read from its jaxpr, for all programs: inside a map over devices XLA adds
no collectives. What it holds is what XLA's compiler for TPUs says, at sizes that compile in
seconds; the sizes of docs/scaling.md fit if that promise is kept there.
"""

import dataclasses
import math
import re
from pathlib import Path

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.pods import chips
from experiments.benchmarks.pods.compiling import compile_for, mesh_of
from experiments.benchmarks.pods.programs import PROGRAMS, Setting, forward, on_blocks, resampled
from experiments.benchmarks.pods.reading import products
from substrate_jax import kernels
from substrate_jax.encoders import encoder_spec, list_encoders
from substrate_jax.mesh import DATA_AXIS, ROWS, make_mesh, over_rows
from tests.experiments.benchmarks.test_pods import needs_libtpu
from tests.helpers import long

ROOT = Path(__file__).parents[3]
BY_SUMS = ("training", "extraction")  # of which the compiler places the collectives: see test_pods
MAPPED = [name for name, program in PROGRAMS.items() if program.group not in BY_SUMS]
MESH = make_mesh()
TALL = Setting(MESH, 4096, (24, 40), 16, "bfloat16", components=4)
WIDE = dataclasses.replace(TALL, rows=128, widths=(160, 320))


SUMS = ("psum", "reduce_scatter")  # rows can be gathered by a sum too, of 0 elsewhere
GATHERS = ("all_gather", "all_to_all", "pbroadcast")


def received(jaxpr, kinds):
    """Shapes of the arrays of floats that collectives leave on a device, but for the ring's."""
    for equation in jaxpr.eqns:
        if equation.primitive.name.startswith(kinds):
            for result in equation.outvars:
                if jnp.issubdtype(result.aval.dtype, jnp.floating):
                    yield result.aval.shape
        for part in jax.extend.core.jaxprs_in_params(equation.params):
            yield from received(part, kinds)


def gathered(name, setting, kinds):
    """Shapes of what is as large as the rows of one encoder."""
    function, arguments = PROGRAMS[name].make(setting)
    one_encoder = setting.rows * min(setting.widths)
    found = received(function.trace(*arguments).jaxpr.jaxpr, kinds)
    return {shape for shape in found if math.prod(shape) >= one_encoder}


def documented():
    """Programs that docs/scaling.md says gather all rows."""
    text = (ROOT / "docs" / "scaling.md").read_text()
    section = text.split("### What every chip holds in full\n")[1].split("\n#")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_programs_that_gather_rows_are_those_of_the_documentation():
    """One that begins to gather fails here, and one that stops: the table would be stale."""
    found = {name for name in MAPPED if gathered(name, TALL, GATHERS + SUMS)}
    assert found == {name for name in MAPPED if PROGRAMS[name].gathers}
    assert found == documented()
    of_measures = {name for name, one in kernels.MEASURES.items() if not one.sharded}
    assert of_measures <= found


@pytest.mark.parametrize("name", [name for name in MAPPED if not PROGRAMS[name].gathers])
def test_fewer_rows_than_features_are_gathered_one_encoder_at_a_time(name):
    """Which is less than d^2 values. The substrate is that of one block of all features."""
    widest = sum(WIDE.widths) if name == "substrate" else max(WIDE.widths)
    for shape in gathered(name, WIDE, GATHERS):
        assert math.prod(shape) <= WIDE.rows * widest, shape


@pytest.mark.parametrize(
    "name", ["mini_vit_base", "mini_resnet50", "mini_efficientnet_b0", long("mini_swin_tiny")]
)
def test_every_product_of_a_network_is_of_the_type_that_is_asked_for(name):
    for dtype in ("bfloat16", "float32"):
        setting = dataclasses.replace(TALL, dtype=dtype)
        function, arguments = forward(encoder_spec(name), setting)
        found = list(products(function.trace(*arguments).jaxpr.jaxpr))
        assert {one.dtype for one in found} == {dtype}


# Floats of working memory that each feature of each row takes on its device, at most.
HELD = {
    "cka": 4,  # docs/scaling.md: 3 to 4 n D with the features themselves
    "svcca": 6,  # features scaled and stacked, Q, U and what the turn of Q leaves
    "eigenspace_overlap": 6,
    "gulp": 6,  # scaled, of unit norm, stacked, and their bases
    "procrustes": 4,
    "substrate": 4,  # as CKA
    "pcka": 4,
}
SQUARES = 4  # arrays of the products of all features
WIDTHS, LOCAL = (128, 256), 512  # whole tiles of a TPU's memory; rows of a chip
DOCUMENTED = {"images": 10**6, "chips": 256}  # docs/scaling.md, "What a run costs"


@pytest.fixture(scope="module")
def pod():
    chips.check_libtpu()
    return chips.describe("v5e:2x2")


BY_SVD = ["procrustes", "svcca", long("pwcca"), long("eigenspace_overlap")]


@needs_libtpu
@pytest.mark.parametrize("name", BY_SVD)
def test_an_svd_of_other_rows_on_each_device_compiles(name, pod):
    """jax's own for TPUs does not pass jax's check of what differs between devices."""
    program = dataclasses.replace(PROGRAMS["gulp_resampled"], make=on_blocks(resampled(name)))
    mesh = mesh_of(pod, None)
    row = compile_for(pod, program, dataclasses.replace(TALL, mesh=mesh, rows=256))
    assert row.error is None, row.error


@pytest.mark.parametrize("name", BY_SVD)
def test_without_the_check_that_a_pod_goes_without_numbers_are_the_same(name, monkeypatch):
    blocks = [jnp.asarray(x) for x in np.random.default_rng(0).normal(size=(2, 40, 6))]
    mask = jnp.ones(40, bool)
    shard_map, given = jax.shard_map, []

    def run():
        program = over_rows(
            lambda blocks, mask: resampled(name)(blocks, mask=mask, axis_name=DATA_AXIS),
            MESH,
            ROWS,
        )
        return program(blocks, mask)

    def unchecked(*arguments, check_vma, **options):
        given.append(check_vma)
        return shard_map(*arguments, check_vma=False, **options)

    checked = run()
    monkeypatch.setattr(jax, "shard_map", unchecked)
    jax.tree.map(np.testing.assert_array_equal, checked, run())
    assert given == [True]


@needs_libtpu
@pytest.mark.parametrize(
    "name",
    ["cka", "svcca", "gulp", "pcka", *map(long, ["eigenspace_overlap", "procrustes", "substrate"])],
)
def test_memory_is_what_is_promised_and_the_documented_sizes_fit(name, pod):
    mesh, total = mesh_of(pod, None), sum(WIDTHS)
    setting = Setting(mesh, LOCAL * len(pod.devices), WIDTHS, 64, "bfloat16", components=4)
    row = compile_for(pod, PROGRAMS[name], setting)
    assert row.error is None, row.error
    assert set(row.dtypes) == {"float32"}
    assert row.unit_flops == 6 * row.flops  # at full precision
    sets = setting.domains if name == "pcka" else 1  # of rows

    def promised(local, features):
        return 4 * (HELD[name] * local * features * sets + SQUARES * features**2)

    assert row.temporary_bytes <= promised(LOCAL, total)
    panel = sum(encoder_spec(one).config.width for one in list_encoders("paper"))
    local = DOCUMENTED["images"] / DOCUMENTED["chips"]
    held = 4 * local * panel * sets + promised(local, panel)
    assert held < pod.per_device("memory")
