"""Absurd values of every flag of every command: a plan, or one line and exit code 2.

The flags are those of absl's registry, so that a new one is held to the same. What comes after the
plan does not run: a run that would begin ends once it holds its output folder.
"""

import contextlib
import importlib
import re
import shutil
import sys
from pathlib import Path

import jax
import pytest
from absl import flags
from absl.testing import flagsaver
from hypothesis import strategies as st

from experiments.benchmarks import measure
from experiments.common import devices, launch
from tests.data import fuzz
from tests.helpers import long

ROOT = Path(__file__).parents[3]
COMMANDS = sorted(p.stem for p in (ROOT / "experiments").glob("*.py") if p.stem != "__init__")
# What makes a command plan little; others must be content with their defaults.
SMALL = {
    "cka": ("--encoders=mini_vit_base", "--domains=texture"),
    "crossmodal": ("--encoders=mini_vit_base", "--domains=a=digits,b=tones:digits", "--pair=class"),
    "detector": ("--encoders=mini_vit_base", "--domains=texture,writing"),
    "domains": ("--encoders=mini_vit_base", "--domains=texture,writing"),
    "layers": ("--encoders=mini_vit_base",),
    "pretrain": ("--encoder=mini_vit_base", "--data=sample:texture", "--test_data=sample:texture"),
    "probe": ("--encoders=mini_vit_base", "--domains=texture"),
}
MODULES = {name: importlib.import_module(f"experiments.{name}") for name in COMMANDS}
FLAGS = [
    (command, flag.name)
    for command, module in MODULES.items()
    for flag in sorted(flags.FLAGS.get_key_flags_for_module(module), key=lambda flag: flag.name)
]
NUMBERS = (
    "0|-1|1|2|3.5|-0.0|1e-300|1e300|1e400|nan|-inf|1_0|0x10|１|٣|999999999999|"
    "99999999999999999999999999|true|False|None|yes"
)
TEXTS = '| |,|,,a|a,b|a\nb|\n|\t|"|"a,b|\'|=|--n|é|*|[|(|\\|%s|{}|\u202e|\x1b[2J|\udcff'
PATHS = "~/a|~nobody at all/a|/dev/null/a|/proc/a|a\nb/c|gs://|s3://a"
SOURCES = (
    "dir:|dir:absent|dir:.|npz:absent|tfds:a|sample:|sample:texture:0|sample:texture:-1|"
    "sample:texture:x|a=|=a|a=b=c|a=sample:texture,a=dir:."
)
WORDS = (
    "all|auto|none|card|mim|data|data=0|data=-1|data=1,data=1|data=9999999999999999999|a:1|:|a:b|"
    "localhost:99999999|hf:|hf:a/b|hf:.|hf:a/b@"
)
LONG = ["9" * 5000, "a" * 300, "a" * 100_000, "a," * 5000, "a/" * 3000]
LETTERS = fuzz.LETTERS.map(lambda text: text.translate({ord(letter): None for letter in "/~"}))
KINDS = [LONG, *(words.split("|") for words in (NUMBERS, TEXTS, PATHS, SOURCES, WORDS))]
VALUES = st.one_of(*map(st.sampled_from, KINDS), LETTERS)


TYPES = ("int", "float")


class PlannedError(BaseException):
    """A run would begin now; nothing that answers errors takes it for one."""


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A folder to be in, a home, and a launch that ends once the plan is made."""
    claim, home = launch.claim, tmp_path / "home"
    home.mkdir()

    @contextlib.contextmanager
    def claim_and_stop(folder):
        with claim(folder):
            raise PlannedError
        yield

    def stop(*_, **__):
        raise PlannedError

    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(launch, "claim", claim_and_stop)
    monkeypatch.setattr(launch.signals, "ending_on_signals", contextlib.nullcontext)
    monkeypatch.setattr(launch, "_configure_jax", lambda: None)  # a cache on disk, for all tests
    monkeypatch.setattr(launch.app, "run", lambda main, flags_parser: main(flags_parser(sys.argv)))
    monkeypatch.setattr(jax.distributed, "initialize", stop)
    monkeypatch.setattr(jax.profiler, "trace", stop)
    monkeypatch.setattr(measure, "ceilings", stop)
    return tmp_path


# A flag that several commands share is read by one function; each has it with --long.
FIRST = dict((name, command) for command, name in reversed(FLAGS))
SHARED = {(command, name) for command, name in FLAGS if FIRST[name] != command}


@pytest.mark.parametrize(
    ("command", "name"), [long(*flag) if flag in SHARED else flag for flag in FLAGS]
)
def test_absurd_values(command, name, stage, monkeypatch, capsys):
    # Few of a flag with few values; those of the others lead to more places.
    few = isinstance(flags.FLAGS[name], (flags.BooleanFlag, flags.EnumFlag))

    @fuzz.tried(2 if few else 4, VALUES)
    def check(value):
        small = [word for word in SMALL.get(command, ()) if not word.startswith(f"--{name}=")]
        monkeypatch.setattr(sys, "argv", [command, *small, f"--{name}={value}"])
        with place(stage) as left:
            code = run(MODULES[command])
            assert code == "planned" or not left()
        said = capsys.readouterr().err
        if code in (None, "planned"):
            fuzz.SEEN.read += 1
        else:
            fuzz.SEEN.refused += 1
            assert code == 2
            assert said.startswith("error: ")
            assert said.endswith("\n")
            assert said[:-1].isprintable()
            assert len(said) < 3_000
            pieces = [piece.strip()[:20] for piece in re.split("[,=]", value) if piece.strip()]
            words = [name, repr(value), *pieces, *(repr(piece)[1:-1] for piece in pieces)]
            assert any(word in said for word in words)

    check()


NUMERIC = [(command, name) for command, name in FLAGS if flags.FLAGS[name].flag_type() in TYPES]


@pytest.mark.parametrize(
    ("command", "name"), [long(*flag) if flag in SHARED else flag for flag in NUMERIC]
)
def test_numbers_beyond_use_are_refused(command, name, stage, monkeypatch, capsys):
    for value in ("-1", "nan", "9" * 12 if flags.FLAGS[name].flag_type() == "int" else "-inf"):
        small = SMALL.get(command, ())
        monkeypatch.setattr(sys, "argv", [command, *small, f"--{name}={value}"])
        with place(stage) as left:
            assert run(MODULES[command]) == 2
            assert not left()
        assert name in capsys.readouterr().err


@contextlib.contextmanager
def place(stage):
    """Be in an empty folder; gives what tells the files that are in it, or in the user's home."""
    folder = stage / "out of" / "the way"
    folder.mkdir(parents=True)
    try:
        with contextlib.chdir(folder):
            yield lambda: [
                *(path for path in folder.parent.rglob("*") if path != folder),
                *(stage / "home").glob("a"),
            ]
    finally:
        shutil.rmtree(folder.parent)
        shutil.rmtree(stage / "home" / "a", ignore_errors=True)


def run(module):
    """Exit code of a command, None if it just ended, "planned" if its work would begin."""
    join = devices.join_processes if "coordinator" in keys(module) else None
    with flagsaver.flagsaver():
        try:
            launch.start(module.run, join)
        except SystemExit as ended:
            return ended.code
        except PlannedError:
            return "planned"


def keys(module) -> set[str]:
    return {flag.name for flag in flags.FLAGS.get_key_flags_for_module(module)}
