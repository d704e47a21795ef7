"""The table and the report of programs compiled for pods, of made-up results."""

import json

import pytest

from experiments.benchmarks.pods import tables
from experiments.benchmarks.pods.page import pods_page
from experiments.benchmarks.pods.reading import Collective
from experiments.benchmarks.pods.results import CompiledProgram, PodFacts, PodsResult
from experiments.benchmarks.pods.unfinished import Unfinished
from substrate_jax.report.files import write_report
from substrate_jax.report.run import Run

MIB = 2**20


@pytest.fixture
def result():
    pod = PodFacts("TPU v5e", 16, 16, "data=16", 197e12, 16e9, 819e9, 400e9, "https://docs")
    ring = Collective("collective-permute", "f32[1024,768]", 16, 3.0 * MIB)
    fits = CompiledProgram(
        topology="v5e:4x4",
        program="mutual_knn",
        group="measures",
        gathers=False,
        lower_seconds=1.25,
        compile_seconds=30.0,
        argument_bytes=100 * MIB,
        temporary_bytes=300 * MIB,
        output_bytes=0,
        memory_share=400 * MIB / 16e9,
        flops=1e12,
        dtypes={"float32": 1e12},
        unit_flops=6e12,
        accessed_bytes=1e9,
        collectives=[ring],
        collective_bytes=48.0 * MIB,
        compute_seconds=6e12 / 197e12,
        memory_seconds=1e-4,
        link_seconds=2.5e-4,
    )
    refused = CompiledProgram(
        topology="v5e:4x4",
        program="rsa",
        group="measures",
        gathers=True,
        lower_seconds=0.5,
        error="takes 25.3G of 15.75G of HBM",
        flops=1e12,
        dtypes={"float32": 1e12},
        unit_flops=6e12,
        compute_seconds=0.03,
    )
    run = Run("pods", "python -m experiments.pods", {}, {}, {"total": 1.0}, {}, [], [])
    return PodsResult(
        run=run,
        libtpu="0.0.42",
        rows=16_384,
        widths={"a": 768, "b": 2048},
        batch={"v5e:4x4": 64},
        dtype="bfloat16",
        pods={"v5e:4x4": pod},
        programs=[fits, refused],
    )


def test_what_bounds_a_program_is_the_slowest(result):
    fits, refused = result.programs
    assert fits.least_seconds == fits.compute_seconds
    assert tables.bound(fits) == "arithmetic"
    assert tables.bound(refused) == refused.error


def test_the_table_has_a_line_for_each(result):
    lines = tables.text(result).splitlines()
    assert len(lines) == 4
    assert lines[2].split()[:2] == ["mutual_knn", "v5e:4x4"]
    assert "400.0 MiB" in lines[2]
    assert "30.5 ms" in lines[2]
    assert lines[3].endswith("takes 25.3G of 15.75G of HBM")
    said = "30.0 s to compile, 300.0 MiB of temporaries, at least 30.5 ms a call"
    assert tables.line(result.programs[0]) == f"mutual_knn on v5e:4x4: {said}"


def test_an_unfinished_run_goes_on_after_what_it_compiled(result, tmp_path):
    path = tmp_path / "unfinished.jsonl"
    first, second = result.programs
    begun = Unfinished(path)
    assert begun.known == {}
    begun.keep(first)
    begun.keep(second)
    with path.open("a") as file:
        file.write('{"topology": "v5')  # killed as it wrote
    again = Unfinished(path)
    assert list(again.known) == [("v5e:4x4", "mutual_knn"), ("v5e:4x4", "rsa")]
    assert list(again.known.values()) == [first, second]
    assert not again.finish([first])  # a run of fewer programs leaves the rest for that of all
    assert Unfinished(path).known == again.known
    assert again.finish([first, second])
    assert not path.exists()


def test_the_report_says_what_fits_and_what_does_not(result, tmp_path):
    text = write_report(result, pods_page(result), tmp_path).read_text("utf-8")
    assert "1 of 2 programs compiled" in text
    assert "rsa on v5e:4x4 takes 25.3G of 15.75G of HBM" in text
    assert "f32[1024,768]" in text
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["programs"][0]["collectives"][0]["count"] == 16
    assert "compile_seconds" not in found["programs"][1]
    assert found["pods"]["v5e:4x4"]["source"] == "https://docs"
