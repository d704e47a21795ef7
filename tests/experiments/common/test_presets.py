"""Presets: each plans its run offline, is named by --flagfile, and gives way to later flags."""

import importlib

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.common import presets
from substrate_jax.data import domains

FLAGS = flags.FLAGS
ALL = [
    (command.name, name)
    for command in sorted(presets.FOLDER.iterdir())
    for name in presets.presets(command.name)
]
# Instead of images that are opened to plan: none has been prepared here.
AT_HAND = {
    "distill": ("--data=digits", "--test_data="),
    "emergence": ("--data=digits", "--test_data="),
    "unlabeled": ("--data=digits",),
}


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No image set is at hand, and KAIST, to be placed by hand, could be downloaded."""
    monkeypatch.setenv("SUBSTRATE_JAX_DATA", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    size = domains.bytes_to_download
    monkeypatch.setattr(domains, "bytes_to_download", lambda spec: max(size(spec), 1))


@pytest.mark.parametrize(("command", "name"), ALL)
def test_a_preset_plans_its_run(command, name, offline, capsys):
    module = importlib.import_module(f"experiments.{command}")
    path = presets.presets(command)[name]
    given = presets.with_presets(command, [f"--flagfile={name}"])
    assert given == [f"--flagfile={path}"]
    keys = {flag.name for flag in FLAGS.get_key_flags_for_module(module)}
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert {line.removeprefix("--").partition("=")[0] for line in lines} <= keys
    with flagsaver.flagsaver():
        FLAGS(["program", *given, "--dry_run", *AT_HAND.get(command, ())])
        module.run()
    assert capsys.readouterr().out.count("\n") >= 2
    assert presets.summary(path).endswith((".", "?"))


def test_every_command_of_the_papers_has_one():
    assert {command for command, _ in ALL} >= {"cka", "domains", "detector", "probe", "distill"}


def test_what_names_a_file_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paper").write_text("--n=5\n")
    preset = str(presets.presets("domains")["paper4"])
    for given, want in {
        ("--flagfile=paper", "--n=3"): ["--flagfile=paper", "--n=3"],
        ("--flagfile=a/paper4",): ["--flagfile=a/paper4"],
        ("--flagfile", "paper4", "--n=3"): [f"--flagfile={preset}", "--n=3"],
        ("-flagfile=paper4",): [f"--flagfile={preset}"],
        ("--n=3", "--", "--flagfile=paper4"): ["--n=3", "--", "--flagfile=paper4"],
    }.items():
        assert presets.with_presets("domains", given) == want


@pytest.mark.parametrize(
    ("command", "given", "hint"),
    [
        ("cka", "papr", "did you mean paper?"),
        ("domains", "all", "presets: paper4, paper8"),
        ("layers", "paper", "presets: none"),
    ],
)
def test_a_preset_that_is_none_is_one_line(command, given, hint):
    with pytest.raises(ValueError, match="is no file here and no preset") as caught:
        presets.with_presets(command, [f"--flagfile={given}"])
    assert str(caught.value).startswith(f"flagfile={given!r} ")
    assert str(caught.value).endswith(hint)
