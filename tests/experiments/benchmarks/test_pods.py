"""Programs compile for a TPU pod on this host, and hold, gather and multiply as promised."""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks.pods import chips
from experiments.benchmarks.pods.compiling import refusal
from experiments.benchmarks.pods.programs import PROGRAMS, chosen
from experiments.benchmarks.pods.reading import collectives, products
from substrate_jax.kernels.blocks import BLOCK_ENTRIES
from substrate_jax.mesh import DATA_AXIS, ROWS, make_mesh, over_rows
from tests.helpers import long

ROOT = Path(__file__).parents[3]
N = 512
ENCODERS = ("mini_vit_base",)
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed (extra tpu)"
)


def launch(*flags):
    return subprocess.run(
        [sys.executable, "-m", "experiments.pods", *flags],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def test_products_and_collectives_are_counted_with_their_loops():
    def function(x, y):
        def step(carry, _):
            total = carry @ jax.lax.psum(x.T @ y, DATA_AXIS)
            return carry + total, None

        state = jax.lax.scan(step, y, None, length=5)[0]
        state += jax.lax.ppermute(state, DATA_AXIS, [(i, (i + 1) % 8) for i in range(8)])
        wide = jnp.matmul(x, x.T, precision="highest")
        return state + wide.sum() + jax.lax.all_gather(y, DATA_AXIS).sum()

    x = y = jax.ShapeDtypeStruct((64, 16), jnp.float32)
    program = over_rows(function, make_mesh(), ROWS, ROWS)
    traced = program.trace(x, y)
    found = list(products(traced.jaxpr.jaxpr, 1 / 8))
    whole = sum(one.flops * one.passes for one in found)
    assert whole == 5 * (2 * 8 * 16 * 16) * 2 + 6 * (2 * 8 * 8 * 16)
    received = {
        one.kind: one.count * one.bytes
        for one in collectives(traced.lower().compile().as_text())
        if math.prod(map(int, one.shape[4:-1].split(","))) > 1
    }
    assert received["collective-permute"] == 4 * 8 * 16
    assert received["all-gather"] == 4 * 64 * 16 * 7 / 8
    # The sum over devices does not change from step to step: XLA takes it out of the loop.
    assert received["all-reduce"] in (2 * 4 * 16 * 16 * 7 / 8, 5 * 2 * 4 * 16 * 16 * 7 / 8)


def test_collectives_of_compiled_text():
    """As XLA writes them for TPUs: of scalars, of tuples, started and done, in a loop."""
    text = """HloModule m, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}

%body (state: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %start = (f32[8,128]{1,0:T(8,128)}, f32[8,128]{1,0:T(8,128)}, u32[]{:S(2)}, u32[]{:S(2)}) \
collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}
  ROOT %done = f32[8,128]{1,0:T(8,128)} collective-permute-done(%start)
}

%cond (state: (s32[], f32[8,128])) -> pred[] {
  %bound = s32[]{:T(128)} constant(4), metadata={op_name="x"}
  %at = s32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %lt = pred[]{:T(512)} compare(%at, %bound), direction=LT, metadata={op_name="y"}
}

%other (state: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  ROOT %sum = f32[8,8] all-reduce(%x), replica_groups={{0,1}}, to_apply=%add
}

ENTRY %main (x: f32[8,128]) -> f32[] {
  %counted = (s32[], f32[8,128]{1,0}) while(%t), condition=%cond, body=%other
  %loop = (s32[], f32[8,128]{1,0}) while(%t), condition=%cond, body=%body, \
backend_config={"known_trip_count":{"n":"16"}}
  %gather = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%y), replica_groups=[1,4]<=[4]
  %both = (f32[], s32[4]{0}) all-reduce(%p, %q), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %total = f32[]{:T(128)} all-reduce(%p), replica_groups={{0,1}}, to_apply=%add
}
"""
    found = {(one.kind, one.shape): (one.count, one.bytes) for one in collectives(text)}
    assert found == {
        ("collective-permute", "f32[8,128]"): (16, 4 * 8 * 128),
        ("all-reduce", "f32[8,8]"): (4, 2 * 4 * 64 / 2),
        ("all-gather", "bf16[16,8]"): (1, 2 * 16 * 8 * 3 / 4),
        ("all-reduce", "s32[4]"): (1, 2 * (4 + 16) * 3 / 4),
        ("all-reduce", "f32[]"): (1, 2 * 4 / 2),
    }


def test_what_the_compiler_splits_is_shared_by_the_devices():
    split = jax.sharding.NamedSharding(make_mesh(), ROWS)
    program = jax.jit(lambda x, y: x @ y, in_shardings=(split, None))
    traced = program.trace(jnp.ones((64, 16), jnp.bfloat16), jnp.ones((16, 4), jnp.bfloat16))
    (found,) = products(traced.jaxpr.jaxpr, 1 / 8)
    assert (found.flops, found.dtype, found.passes) == (2 * 64 * 16 * 4 / 8, "bfloat16", 1)


def test_a_branch_that_is_not_taken_costs_nothing():
    def function(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x, x)

    (found,) = products(jax.make_jaxpr(function)(jnp.ones((8, 8))).jaxpr)
    assert found.flops == 2 * 8**3


def test_a_refusal_is_one_line():
    said = "RESOURCE_EXHAUSTED: Ran out of memory.\nUsed 25.3G of 15.75G hbm. Exceeded"
    assert refusal(said) == "takes 25.3G of 15.75G of HBM"
    assert refusal("INTERNAL: a\n b") == "INTERNAL: a b"


def test_programs_are_chosen_by_name_and_group():
    assert len(chosen(["all"], ["resnet18"])) == len(PROGRAMS) + 1
    assert [one.name for one in chosen(["pcka", "extraction"], ["resnet18"])] == [
        "resnet18",
        "pcka",
    ]
    with pytest.raises(ValueError, match="programs='cake': give all, groups of extraction"):
        chosen(["cake"], [])


def test_without_libtpu_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(chips.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed: pip install 'substrate-jax\[tpu\]'$"):
        chips.describe("v5e:4x4")


def test_another_libtpu_than_jax_wants_is_refused(monkeypatch):
    assert chips.libtpu_wanted() != "*"
    version = chips.importlib.metadata.version
    monkeypatch.setattr(chips.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(
        chips.importlib.metadata, "version", lambda name: "0.0.1" if name == "libtpu" else "9"
    )
    with pytest.raises(
        ValueError, match=r"libtpu 0.0.1 is installed and jax 9 wants 0\."
    ) as caught:
        chips.check_libtpu()
    assert "\n" not in str(caught.value)
    assert version("jax") == jax.__version__


@needs_libtpu
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--topologies=v9:2x2"], "topologies='v9:2x2': give some of v4:2x2x1"),
        long(["--topologies=v5e:3x5"], "topologies='v5e:3x5': .*; give some of v4:2x2x1"),
        (["--topologies=v5e:2x2", "--mesh=data=8"], "v5e:2x2: mesh='data=8' needs 8 devices"),
    ],
)
def test_bad_input_ends_in_one_line(flags, said):
    done = launch("--dry_run", *flags)
    assert done.returncode == 2
    assert_one_line(done.stderr, said)


def assert_one_line(text, said):
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert re.search(said, lines[0])


@needs_libtpu
def test_every_topology_of_the_table_is_known_to_libtpu():
    names = [f"{family}:{shape}" for family, chip in chips.CHIPS.items() for shape in chip.shapes]
    done = launch("--dry_run", f"--topologies={','.join(names)}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name, line in zip(names, lines[: len(names)], strict=True):
        family, shape = name.split(":")
        count = math.prod(map(int, shape.split("x")))
        devices = count * chips.CHIPS[family].devices
        assert line == (
            f"{name}: {count} chips of {chips.CHIPS[family].title}, mesh {{'data': {devices}}}, "
            "64 images on each device at once"
        )


# Small networks and few rows: how programs are split does not depend on them. The compiler takes
# half a minute for the neighbors of each encoder, and minutes for a larger student's step.
PROMISED = ["cka", "mutual_knn", "mini_vit_base"]
LONG = ["substrate", "distill_mini_vit_tiny", "streaming_pca"]  # besides, where --long asks


@pytest.fixture(scope="module")
def compiled(request, tmp_path_factory):
    """The programs of a run of the command, by name, and its result."""
    out = tmp_path_factory.mktemp("pods")
    promised = PROMISED + (LONG if request.config.getoption("--long") else [])
    done = launch(
        f"--out={out}",
        "--topologies=v5e:2x2",
        f"--images={N}",
        f"--encoders={','.join(ENCODERS)}",
        "--batch_size=128",
        f"--programs={','.join(promised)}",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((out / "result.json").read_text())
    assert "Does it fit a pod?" in (out / "report.html").read_text()
    return {row["program"]: row for row in result["programs"]}, result


@needs_libtpu
def test_all_compile_and_fit(compiled):
    programs, result = compiled
    assert set(PROMISED) <= set(programs)
    for row in programs.values():
        assert "error" not in row, row
        assert row["memory_share"] < 1
    assert result["pods"]["v5e:2x2"]["chips"] == 4


@needs_libtpu
def test_rows_stay_on_their_devices(compiled):
    """No collective but the ring's brings a device features of the rows of others."""
    programs, result = compiled
    for row in programs.values():
        for one in row["collectives"]:
            floats = one["shape"].startswith(("f32", "bf16"))
            # XLA may gather by a sum of parts that are 0 elsewhere.
            assert not (floats and f"[{N}," in one["shape"]), (row["program"], one)
    rings = [one for one in programs["mutual_knn"]["collectives"] if "permute" in one["kind"]]
    shares = {f"f32[{N // 4},{width}]" for width in result["widths"].values()}
    assert shares <= {one["shape"] for one in rings}
    assert all(one["count"] == 4 for one in rings if one["shape"] in shares)


@needs_libtpu
def test_neighbors_hold_what_they_promise(compiled):
    """Shares of the widest encoder, lists, and a few arrays of a block, whatever the rows."""
    programs, result = compiled
    widest = max(result["widths"].values())
    share, lists = 4 * (N // 4) * widest, 4 * len(ENCODERS) * N * 100
    assert programs["mutual_knn"]["temporary_bytes"] < 6 * share + 4 * lists + 4 * 4 * BLOCK_ENTRIES


@needs_libtpu
def test_networks_multiply_in_bfloat16_where_asked(compiled):
    programs, _ = compiled
    assert set(programs["mini_vit_base"]["dtypes"]) == {"bfloat16"}
    assert set(programs["cka"]["dtypes"]) == {"float32"}
    assert programs["cka"]["unit_flops"] == 6 * programs["cka"]["flops"]
