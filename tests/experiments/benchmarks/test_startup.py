"""What one waits for at first: a launcher in processes of its own, and first calls of kernels."""

import dataclasses

import pytest

from experiments.benchmarks import page, page_tables, startup, startup_worker, tables
from experiments.benchmarks.results import FirstCall, LauncherStart, SkippedStep
from substrate_jax.kernels import MEASURES

SMALL = ("--domains=texture", "--encoders=mini_vit_base", "--n=32", "--k=5", "--components=4")


@pytest.mark.long
def test_a_launcher_is_started_from_nothing_and_again():
    cold, again = startup.measure_launchers(("cka",), lambda: 1.0, SMALL)
    assert (cold.launcher, cold.again, again.again) == ("cka", False, True)
    for start in (cold, again):
        parts = (start.importing, start.tracing, start.lowering, start.compiling, start.drawing)
        assert min(parts) > 0
        assert start.importing + start.drawing < start.seconds
        assert start.running >= 0
        assert start.peak_memory_bytes > 2**27
    assert again.compiling < cold.compiling  # what took long was kept
    assert again.programs < cold.programs  # nothing is extracted again
    assert "cold" in tables.start_line(cold)


def test_what_the_budget_has_no_room_for_is_left_out():
    (found,) = startup.measure_launchers(("cka",), lambda: 0.0)
    assert found == SkippedStep("cka", "startup", 0.0)


def test_a_launcher_that_fails_is_named():
    with pytest.raises(ValueError, match=r"cka ended with 2: error: n=4 ") as caught:
        list(startup.measure_launchers(("cka",), lambda: 1.0, ("--n=4",)))
    assert "\n" not in str(caught.value)


def test_every_default_run_of_the_table_is_a_launcher():
    root = startup.ROOT / "experiments"
    assert all((root / f"{name}.py").is_file() for name in startup.LAUNCHERS)


@pytest.mark.long
def test_a_second_call_of_a_kernel_compiles_nothing():
    calls = startup.measure_kernels()
    assert {row.kernel for row in calls} == {*MEASURES, "calibrate_cka"}
    assert {row.programs_again for row in calls} == {0}
    assert all(row.programs >= 1 for row in calls)
    assert "again" in tables.call_line(calls[0])


def test_the_tables_have_a_row_for_each():
    start = LauncherStart(
        launcher="cka",
        again=False,
        seconds=30.0,
        importing=2.0,
        tracing=3.0,
        lowering=4.0,
        compiling=5.0,
        programs=6,
        drawing=1.0,
        peak_memory_bytes=2**30,
    )
    assert start.running == 15
    again = dataclasses.replace(start, again=True, seconds=8.0)
    call = FirstCall("cka", 1.5, 0.0005, 1, 0)
    result = type("Result", (), {"rows": [], "starts": [start, again], "first_calls": [call]})
    row, _ = page_tables.start_table(result).rows
    assert (row["run"], row["running"], row["gib"]) == ("cold", 15, 1)
    table = page_tables.call_table(result)
    assert str(startup_worker.ROWS) in table.caption
    assert table.rows[0]["milliseconds_again"] == 0.5
    assert "takes longest: 30 s from nothing, 8 s again. Compiling is 5 s" in page.finding(result)
