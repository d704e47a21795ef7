"""What launchers share: flags that --help and result.json show, paths, and errors in one line."""

import contextlib
import errno
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.common import launch
from substrate_jax.encoders import list_encoders
from substrate_jax.encoders.table import COLUMNS

ROOT = Path(__file__).parents[3]
SHARED = {"out", "quiet", "dry_run", "debug", "seed", "compilation_cache", "profile"}
DEVICES = {"mesh", "coordinator", "num_processes", "process_id"}
NETWORKS = {"encoders", "dtype", "batch_size"}
PANEL = {"panel", "list_encoders", "weights_dir", "n", "normalization", "workers", "store", "alpha"}
# Launcher -> the shared flags that it takes; it must know no other of them.
LAUNCHERS = {
    "cka": SHARED | DEVICES | NETWORKS | PANEL | {"permutations", "domains", "components"},
    "detector": SHARED | DEVICES | NETWORKS | PANEL | {"domains", "components"},
    "domains": SHARED | DEVICES | NETWORKS | PANEL | {"domains", "components"},
    "layers": SHARED | DEVICES | NETWORKS | PANEL | {"permutations"},
    "probe": SHARED | DEVICES | NETWORKS | PANEL | {"domains", "components"},
    "transferability": SHARED | DEVICES | NETWORKS | PANEL | {"domains", "components"},
    "bench": SHARED | NETWORKS,
    "pods": SHARED | NETWORKS | {"mesh"},
    "pretrain": SHARED,
}


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


@pytest.mark.parametrize("name", LAUNCHERS)
def test_help_and_arguments_hold_the_flags_that_a_launcher_takes(name):
    module = importlib.import_module(f"experiments.{name}")
    keys = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(module)}
    shared = set().union(*LAUNCHERS.values())
    assert keys & shared == LAUNCHERS[name]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_flags_that_a_launcher_would_ignore_are_unknown_to_it(name):
    ignored = sorted(set().union(*LAUNCHERS.values()) - LAUNCHERS[name])
    code = (
        f"import experiments.{name}, sys\n"
        "from absl import flags\n"
        f"sys.exit(', '.join(name for name in {ignored!r} if name in flags.FLAGS))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("name", ["out", "store", "weights_dir", "profile"])
def test_a_leading_tilde_is_the_home_folder(name):
    with flagsaver.flagsaver():
        for given, want in (("~/a", str(Path.home() / "a")), ("gs://b/~a", "gs://b/~a")):
            flags.FLAGS[name].parse(given)
            assert flags.FLAGS[name].value == want


@pytest.mark.parametrize("out", ["gs://bucket/runs", "s3://bucket"])
def test_results_are_not_written_to_a_bucket(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = f"out={out!r} is a URL: .*--store=gs://.* local --out"
    with pytest.raises(ValueError, match=message), launch.claim(Path(out)):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cka", "layers"])
def test_the_registered_encoders_are_listed(name, capsys):
    with flagsaver.flagsaver(list_encoders=True):
        importlib.import_module(f"experiments.{name}").run()
    first, *lines = capsys.readouterr().out.splitlines()
    assert tuple(first.split()) == COLUMNS
    assert [line.split()[0] for line in lines] == list_encoders()


@pytest.mark.parametrize(
    ("profile", "reason"), [("/dev/null/a", "Not a directory"), ("gs://a/b", "a URL: .* local")]
)
def test_a_trace_goes_where_it_can_be_written(profile, reason, tmp_path):
    with (
        flagsaver.flagsaver(profile=profile),
        pytest.raises(ValueError, match=rf"profile={profile!r} cannot be written \({reason}"),
        launch.claim(tmp_path / "out"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_run_that_holds_its_folder_is_traced(tmp_path, monkeypatch):
    traced = []

    @contextlib.contextmanager
    def trace(folder):
        traced.append(folder)
        yield

    monkeypatch.setattr("jax.profiler.trace", trace)
    with flagsaver.flagsaver(profile=str(tmp_path / "trace")), launch.claim(tmp_path / "out"):
        assert traced == [str(tmp_path / "trace")]
        with pytest.raises(ValueError, match="another run"), launch.claim(tmp_path / "out"):
            pass
    assert len(traced) == 1


def fill_the_disk(out):
    with open("/dev/full", "w") as file:
        file.write("x")


def read_nothing(out):
    (out / "absent").read_text()


def break_off(out):
    raise ValueError("bad\n  input")


ENDS = {
    fill_the_disk: "error: {out}: No space left on device; make room or fix the path, and run",
    read_nothing: "error: {out}/absent: No such file or directory; make room",
    break_off: "error: bad input\n",
}


def fail(work, folder, monkeypatch):
    def run():
        with launch.claim(folder) as out:
            work(out)

    monkeypatch.setattr(launch.app, "run", lambda main, **_: main(["program"]))
    monkeypatch.setattr(launch, "_configure_jax", lambda: None)  # a cache on disk, for all tests
    with pytest.raises(SystemExit) as caught:
        launch.start(run)
    assert caught.value.code == 2


@pytest.mark.parametrize("work", ENDS)
def test_a_run_that_fails_ends_in_one_line(work, tmp_path, monkeypatch, capsys):
    fail(work, tmp_path / "out", monkeypatch)
    printed = capsys.readouterr()
    assert printed.err.startswith(ENDS[work].format(out=tmp_path / "out"))
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize("work", ENDS)
def test_where_a_run_failed_is_shown_on_request(work, tmp_path, monkeypatch, capsys):
    with flagsaver.flagsaver(debug=True):
        fail(work, tmp_path / "out", monkeypatch)
    *trace, blank, line = capsys.readouterr().err.splitlines()
    assert any(step.startswith("Traceback") for step in trace)
    assert any(f"in {work.__name__}" in step for step in trace)
    assert not blank
    assert line.startswith(ENDS[work].format(out=tmp_path / "out").rstrip())


def read_with_a_secret(out):
    raise ValueError("https://user:hunter2@example.org/a.npz is not there")


def test_the_place_of_an_error_holds_no_secrets(tmp_path, monkeypatch, capsys):
    with flagsaver.flagsaver(debug=True):
        fail(read_with_a_secret, tmp_path / "out", monkeypatch)
    printed = capsys.readouterr().err
    assert "example.org" in printed
    # The line of our source that the traceback quotes is this test's, not a user's.
    assert "ValueError: https://***@example.org" in printed


@pytest.mark.parametrize("flush", [True, False])
def test_what_is_printed_onto_a_full_disk_ends_in_one_line_too(flush, tmp_path):
    code = f"""
from experiments.common import launch

def run():
    with launch.claim(launch.Path({str(tmp_path)!r})):
        print("found", flush={flush})
        if not {flush}:
            raise ValueError("bad input")

launch.start(run)
"""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, "--nocompilation_cache"],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    said = f"{tmp_path}: No space left on device; make room" if flush else "bad input"
    assert done.stderr.startswith(f"error: {said}")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 2


def test_what_the_first_process_makes_is_had_by_all():
    """Of a run of one that is itself; tests/multiprocess has two."""
    assert launch.from_first_process(lambda: [["a", 1.5]]) == [["a", 1.5]]
    with pytest.raises(ValueError, match="no luck"):
        launch.from_first_process(lambda: int("no luck"))


def test_an_out_is_cleared_of_what_a_killed_run_left(tmp_path):
    (tmp_path / ".result.json.1.unfinished").touch()
    (tmp_path / "result.json").touch()
    with launch.claim(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "result.json"}


def test_what_is_no_want_of_room_keeps_its_words(tmp_path):
    with pytest.raises(OSError) as caught, launch.claim(tmp_path / "out"):
        raise OSError(errno.ECONNREFUSED, "refused")
    assert caught.value.filename is None
