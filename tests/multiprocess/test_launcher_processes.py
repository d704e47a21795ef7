"""Launchers in two processes: the numbers of one; a kill of either of the main job is repaired."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from absl import flags

from tests.helpers import long, tolerance
from tests.multiprocess import launcher_worker, processes
from tests.robustness.runs import PATIENCE

ROWS, CHUNK = 45, 8
# 45 rows do not divide over 4 devices, and the shares of two processes are unequal.
COMMAND = (
    *("-m", "experiments.cka", "--encoders=mini_mae_base,mini_clip_base"),
    *("--domains=texture,writing", f"--n={ROWS}", "--k=5", "--components=4"),
    *("--batch_size=8", f"--chunk_rows={CHUNK}", "--quiet"),
)


def chunks(out):
    """Name -> bytes of every chunk in a run's store."""
    store = out / "features"
    return {str(p.relative_to(store)): p.read_bytes() for p in store.glob("*/*.npy")}


def run_processes(out):
    workers = processes.start(*COMMAND, f"--out={out}")
    output = processes.finish(workers)
    assert [worker.returncode for worker in workers] == [0, 0], "\n\n".join(output)
    return output


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Folder of an undisturbed run of two processes, and what they printed."""
    out = tmp_path_factory.mktemp("together")
    return out, run_processes(out)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folder of one process with four devices."""
    out = tmp_path_factory.mktemp("alone")
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"}
    subprocess.run(
        [sys.executable, *COMMAND, f"--out={out}"],
        cwd=processes.ROOT,
        env=environment,
        timeout=600,
        check=True,
        capture_output=True,
    )
    return out


def numbers(value, path=""):
    """Path -> number of everything numeric in a JSON value."""
    if isinstance(value, dict):
        return {k: v for key in value for k, v in numbers(value[key], f"{path}/{key}").items()}
    if isinstance(value, list):
        return {k: v for i, x in enumerate(value) for k, v in numbers(x, f"{path}/{i}").items()}
    return {path: value} if isinstance(value, int | float) else {}


def test_features_are_the_same_bits(together, alone):
    assert chunks(together[0]) == chunks(alone)
    assert len(chunks(alone)) == 2 * 2 * -(-ROWS // CHUNK)


def test_numbers_are_the_same(together, alone):
    results = [json.loads((out / "result.json").read_text()) for out in (together[0], alone)]
    assert [result["devices"]["processes"] for result in results] == [2, 1]
    flags = {"k": ["5"], "n": ROWS, "seed": 0, "mesh": None}  # its own, and those it shares
    assert all(flags.items() <= result["arguments"].items() for result in results)
    got, want = ({k: r[k] for k in ("domains", "pcka", "encoders")} for r in results)
    got, want = numbers(got), numbers(want)
    assert got.keys() == want.keys()
    assert len(want) > 50
    # The same sums, added over processes in place of devices.
    for path, value in want.items():
        assert got[path] == pytest.approx(value, abs=4 * tolerance(ROWS), nan_ok=True), path


def test_only_the_first_process_reports(together):
    out, (first, second) = together
    assert "report:" in first
    assert "report:" not in second
    assert (out / "report.html").is_file()


@pytest.mark.parametrize("rank", [long(0), long(1)])
def test_a_kill_of_either_process_is_repaired_by_running_again(tmp_path, together, rank):
    workers = processes.start(*COMMAND, f"--out={tmp_path}")
    deadline = time.monotonic() + 150
    try:
        while not chunks(tmp_path):
            assert time.monotonic() < deadline, "no chunk was written"
            time.sleep(0.01)
        workers[rank].send_signal(signal.SIGKILL)
        workers[rank].wait()
    finally:
        for worker in workers:  # the other waits for the dead one: whoever started it ends it
            worker.kill()
            worker.communicate()
    assert not (tmp_path / "result.json").exists()
    before = chunks(tmp_path)
    run_processes(tmp_path)
    whole = chunks(together[0])
    assert chunks(tmp_path) == whole
    assert before.items() <= whole.items()
    assert 0 < len(before) < len(whole)
    results = [json.loads((p / "result.json").read_text()) for p in (tmp_path, together[0])]
    np.testing.assert_array_equal(*(r["pcka"]["matrix"] for r in results))


@pytest.mark.long
def test_sigterm_at_a_random_moment_ends_both_soon_and_the_same_command_goes_on(tmp_path, together):
    """To either process, anywhere between the first file of a run and the end of its stages."""
    chance = random.Random(time.time_ns())
    undisturbed = json.loads((together[0] / "result.json").read_text())
    while True:
        share, rank = chance.random(), chance.randrange(2)
        out = tmp_path / f"{share:.3f}_{rank}"
        workers = processes.start(*COMMAND, f"--out={out}")
        while not out.is_dir() or not any(out.iterdir()):
            assert workers[rank].poll() is None, workers[rank].communicate()[0]
            time.sleep(0.01)
        time.sleep(share * sum(undisturbed["seconds"].values()))
        workers[rank].send_signal(signal.SIGTERM)
        start = time.monotonic()
        output = processes.finish(workers)
        seconds = time.monotonic() - start
        codes = [worker.returncode for worker in workers]
        print(f"{share:.3f} of the way, to {rank}: ended in {seconds:.1f} s with {codes}")
        if codes != [0, 0]:  # or this run was faster, and had ended
            break
    assert codes == [143, 143], output
    assert seconds < 10 * PATIENCE
    before = chunks(out)
    run_processes(out)
    whole = chunks(together[0])
    assert before.items() <= whole.items()
    assert chunks(out) == whole
    got, want = (
        {path: value for path, value in numbers(result).items() if counts(path)}
        for result in (json.loads((out / "result.json").read_text()), undisturbed)
    )
    assert got == pytest.approx(want, rel=0, abs=0, nan_ok=True)


@pytest.fixture(scope="module")
def launchers_together(tmp_path_factory, request):
    """Folder with the features that launchers were given, and what two processes made of them."""
    folder = tmp_path_factory.mktemp("launchers")
    launcher_worker.write_features(folder)
    chosen = {item.callspec.params.get("name") for item in of_module(request)}
    only = [f"--only={name}" for name in launcher_worker.RUNS if name in chosen]
    processes.run("tests.multiprocess.launcher_worker", folder, *only, timeout=3600)
    return folder


def of_module(request):
    """The tests of this module that run, of those with parameters."""
    items = request.session.items
    return [item for item in items if item.module is request.module and hasattr(item, "callspec")]


@pytest.fixture(scope="module")
def store_of_one(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in launcher_worker.FEW else pytest.mark.long)
        for name in launcher_worker.RUNS
    ],
)
def test_every_launcher_gives_the_numbers_of_one_process(
    name, launchers_together, store_of_one, tmp_path
):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    options = {"mesh": "data=4", "store": str(store_of_one)}
    launcher_worker.run(name, launchers_together, tmp_path, **options)
    results = [
        json.loads((out / "result.json").read_text())
        for out in (launchers_together / name, tmp_path)
    ]
    assert [result["devices"]["processes"] for result in results] == [2, 1]
    got, want = (
        {path: value for path, value in numbers(result).items() if counts(path)}
        for result in results
    )
    assert got.keys() == want.keys()
    assert len(want) > 20
    # Alignment, PCKA and layers are sums over the devices of all processes; the rest is computed in
    # one process, from features of the same bits.
    exact = name.startswith(("detector", "probe"))
    limit = 0 if exact else 4 * tolerance(launcher_worker.ROWS)
    if name in launcher_worker.TRAININGS:  # one of 445 images may fall on the other side
        limit = 100 / 445
    for path, value in want.items():
        assert got[path] == pytest.approx(value, rel=0, abs=limit, nan_ok=True), path


def counts(path):
    """Whether a number of result.json is one that a run must find again."""
    changing = {"devices", "arguments", "seconds", "fingerprint", "images_per_second"}
    return not changing & set(path.split("/"))
