"""substrate-jax: its commands, lists and completion, and --help of each launcher in groups."""

import importlib
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from experiments.cli import completion, listing, main
from experiments.common import flag_help, program
from substrate_jax.data.domains import list_domains
from substrate_jax.encoders import list_encoders
from substrate_jax.kernels import MEASURES
from substrate_jax.version import __version__

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(main.commands())
SCRIPT = f"""#!{sys.executable}
from substrate_jax.experiments.cli.main import main
main()
"""


def printed(monkeypatch, capsys, *words) -> str:
    monkeypatch.setattr(sys, "argv", ["substrate-jax", *words])
    main.main()
    return capsys.readouterr().out


def test_the_overview_names_every_launcher(monkeypatch, capsys):
    told = printed(monkeypatch, capsys)
    assert {"cka", "detector", "distill", "domains", "emergence", "layers", "probe"} <= {*COMMANDS}
    for name in COMMANDS:
        assert f"\n  {name}  " in told
    assert printed(monkeypatch, capsys, "--help") == told
    assert printed(monkeypatch, capsys, "--version") == f"substrate-jax {__version__}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["ckaa", "--n=5"], "'ckaa' is no command of substrate-jax; did you mean cka?"),
        (["\n#"], "give one of bench, "),
        (["list"], "give one of encoders, domains, measures, presets"),
        (["list", "x"], "list 'x': give one of encoders"),
        (["diff", "a"], "diff 'a': give the --out folders of two runs"),
        (["diff", "a", "b"], "a: no result.json there; give the --out folder of a run"),
        (["diff", "a", "b", "c.txt"], "page 'c.txt': give a name that ends in .html"),
        (["completion", "tcsh"], "completion 'tcsh': give one of bash, zsh, fish"),
    ],
)
def test_what_is_no_command_is_one_line(words, hint, monkeypatch, capsys):
    with pytest.raises(SystemExit) as caught:
        printed(monkeypatch, capsys, *words)
    said = capsys.readouterr()
    assert caught.value.code == 2
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert hint in said.err
    assert said.out == ""


def test_two_results_are_compared(monkeypatch, capsys, tmp_path):
    for name, n in (("a", 512), ("b", 64)):
        (tmp_path / name).mkdir()
        result = f'{{"experiment": "cka", "arguments": {{"n": {n}}}, "tau": 0.5}}'
        (tmp_path / name / "result.json").write_text(result)
    monkeypatch.chdir(tmp_path)
    told = printed(monkeypatch, capsys, "diff", "a", "b")
    assert told == "Flags: 1 differs\n  n  512 -> 64  (-87.5%)\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert printed(monkeypatch, capsys, "diff", "a", "b/result.json", "new/page.html") == told
    assert "What differs between two runs" in (tmp_path / "new" / "page.html").read_text()
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        printed(monkeypatch, capsys, "diff", "a", "b", "file/page.html")
    assert capsys.readouterr().err == (
        "error: page 'file/page.html': File exists; give another place\n"
    )


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("encoders", list_encoders()),
        ("domains", [domain.name for domain in list_domains()]),
        ("measures", list(MEASURES)),
        ("presets", ["cka", "detector", "distill", "domains", "domains", "emergence", "probe"]),
    ],
)
def test_lists_have_a_line_for_each(what, names, monkeypatch, capsys):
    _, *lines = printed(monkeypatch, capsys, "list", what).splitlines()
    got = [line.split()[0] for line in lines]
    assert got[: len(names)] == names
    assert len(got) == len(names) or what == "presets"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_flag_in_a_group(command):
    module = importlib.import_module(f"experiments.{command}")
    keys = flags.FLAGS.get_key_flags_for_module(module)
    told = flag_help.command_help(command, module.__doc__ or "", keys)
    assert max(map(len, told.splitlines())) <= 100
    shown = re.findall(r"^  --(\w+)", told, re.MULTILINE)
    # flags.FLAGS has --help and --version in a command's own process alone.
    assert set(shown) - {"help", "version"} == {flag.name for flag in keys} | {"flagfile"}
    assert len(shown) == len(set(shown))
    headings = re.findall(r"^([A-Z][a-z ]+):$", told, re.MULTILINE)
    assert headings == [group for group in flag_help.GROUPS if group in headings]
    assert {"Analysis", "Every command"} <= set(headings)
    groups = {flag.name: flag_help.group_of(flag) for flag in keys}
    for name, group in {
        "out": "Every command",
        "mesh": "Several machines",
        "encoders": "Encoders",
        "weights_dir": "Encoders",
        "domains": "Images",
        "n": "Images",
        "alpha": "Analysis",
    }.items():
        assert groups.get(name, group) == group


def in_a_process(*words: str) -> tuple[str, float]:
    """Standard output of substrate-jax, and the seconds of CPU time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done.stdout, seconds


def test_help_answers_within_a_second():
    told, seconds = in_a_process("cka", "--seed=1", "--help")
    assert told.startswith("usage: substrate-jax cka [--flag=value ...]\n\nCompare a panel of enco")
    assert "    substrate-jax cka --encoders=all\n" in told
    assert "python -m experiments" not in told
    assert "\n  --version " in told
    assert "\n  --seed=INTEGER          Seed of subsampling and permutations. [0]\n" in told
    assert "Or of a preset: paper." in told
    assert seconds < 1


def test_a_command_is_written_as_it_is_typed(monkeypatch):
    installed = importlib.import_module("substrate_jax.experiments.common.program")
    monkeypatch.setattr(sys, "argv", ["/somewhere/experiments/cka.py", "--domains=a=dir:b c"])
    assert program.command_line() == "python -m experiments.cka '--domains=a=dir:b c'"
    assert installed.command_line() == "substrate-jax cka '--domains=a=dir:b c'"


COMPLETED = {
    ("c",): ["cka", "completion"],
    ("list", ""): list(listing.LISTS),
    ("completion", "f"): ["fish"],
    ("cka", "--enc"): ["--encoders="],
    ("cka", "-"): ["--alpha=", "--version"],
    ("cka", "--n=5", "--compilation"): ["--compilation_cache"],
    ("cka", "--nocompilation"): ["--nocompilation_cache"],
    ("cka", "--panel="): ["--panel=mini", "--panel=paper"],
    ("cka", "--encoders=all,swin_t"): ["--encoders=all,swin_tiny"],
    ("cka", "--domains=paper"): ["--domains=paper4", "--domains=paper8"],
    ("domains", "--flagfile="): ["--flagfile=paper4", "--flagfile=paper8"],
    ("cka", "--out="): [],
    ("cka", "--resamples="): [],
    ("cka", "file"): [],
    ("nothing", "--"): [],
    ("list", "domains", ""): [],
}


@pytest.mark.parametrize("words", COMPLETED)
def test_words_are_completed_from_the_flags(words):
    got = completion.candidates(list(words), COMMANDS, "experiments")
    want = COMPLETED[words]
    assert [each for each in got if each in want] == want
    assert bool(got) == bool(want)
    assert all(each.startswith(words[-1]) for each in got)


def test_completion_knows_every_encoder():
    offered = completion.candidates(["cka", "--encoders="], COMMANDS, "experiments")
    names = [each.removeprefix("--encoders=") for each in offered]
    assert sorted(names) == sorted(["all", *list_encoders()])


def test_the_script_for_bash_completes(tmp_path):
    command = tmp_path / "substrate-jax"
    command.write_text(SCRIPT)
    command.chmod(0o755)
    lines = [
        "substrate-jax cka --quiet --panel=",
        "substrate-jax list mea",
        "substrate-jax cka --pan",
    ]
    trial = (
        completion.script("bash")
        + """
for COMP_LINE in "$@"; do
    COMP_POINT=${#COMP_LINE}
    _substrate_jax 2>/dev/null  # compopt works within a completion alone
    echo "${COMPREPLY[*]}"
done
"""
    )
    bash = shutil.which("bash") or "bash"
    done = subprocess.run(
        [bash, "-uc", trial, "bash", *lines],
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == ["mini paper", "measures", "--panel="]


def test_every_flag_that_is_named_in_a_table_exists():
    for command in COMMANDS:
        importlib.import_module(f"experiments.{command}")
    tables = [*completion._NAMES, *flag_help._GROUP_OF_FLAG, *flag_help._FIRST]
    assert {*tables} - {"help", "version"} <= {*flags.FLAGS}
    modules = {path.stem for path in (ROOT / "experiments" / "common").glob("*.py")}
    assert flag_help._GROUP_OF_MODULE.keys() <= modules
