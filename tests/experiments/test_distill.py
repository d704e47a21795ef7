"""The launcher of distillation: a run, what is kept of it, and one-line errors."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import distill as launcher
from substrate_jax.analyses.distill import train
from tests.training.tiny import TINY, tiny_student

SHORT = {
    "encoders": ["mini_mae_base", "mini_dinov2_base"],
    "teacher": "mini_mae_base",
    "student": TINY,
    "n": 80,
    "fractions": ["0.5"],
    "epochs": 2,
    "teacher_epochs": 1,
    "train_batch": 32,
    "components": 4,
    "targets": ["substrate", "shuffled"],
    "mesh": "data=1",
    "quiet": True,
}


@pytest.fixture(autouse=True, scope="module")
def prepared():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    with pytest.MonkeyPatch.context() as patch:
        tiny_student(patch)
        yield


def run(out: Path, **changes) -> dict:
    with flagsaver.flagsaver(**{"out": str(out)} | SHORT | changes):
        launcher.run()
    return json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory):
    out = tmp_path_factory.mktemp("distill")
    return out, run(out)


def test_every_way_to_learn_is_measured(finished):
    out, result = finished
    assert [
        (one["condition"]["method"], one["condition"]["target"]) for one in result["outcomes"]
    ] == [
        ("ce", ""),
        ("debiased_cka", "substrate"),
        ("debiased_cka", "shuffled"),
        ("kd", "mini_mae_base"),
    ]
    assert result["counts"] == {"train": 80, "validation": 0, "test": 445}
    assert result["labeled"] == {"0.5": 40}
    assert result["teacher"]["encoder"] == "mini_mae_base"
    alone = np.array(result["outcomes"][0]["accuracy"])
    for one in result["outcomes"][1:]:
        gain = np.array(one["accuracy"]) - alone
        np.testing.assert_allclose(one["gain"]["differences"], gain)
    # Percent of 445 images.
    for one in result["outcomes"]:
        hits = np.array(one["accuracy"]) * 4.45
        np.testing.assert_allclose(hits, hits.round(), atol=1e-9)
    assert (out / "targets" / "substrate.safetensors").is_file()
    assert not any((out / "checkpoints").iterdir())
    assert "Learning from labels and a substrate" in (out / "report.html").read_text()


def test_what_is_trained_is_not_trained_again(finished, monkeypatch):
    out, result = finished

    def none(*arguments, **options):
        raise AssertionError(arguments)

    monkeypatch.setattr(train, "fit", none)
    assert run(out)["outcomes"] == result["outcomes"]


def test_an_interrupted_run_goes_on_and_ends_the_same(finished, tmp_path, monkeypatch):
    _, result = finished
    fit = train.fit

    def interrupted(runs, *arguments, finished, **options):
        def stop(i, fitted):
            finished(i, fitted)
            raise KeyboardInterrupt

        return fit(runs, *arguments, finished=stop, **options)

    methods = {"methods": ["ce"]}
    for _ in range(2):
        monkeypatch.setattr(train, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, **methods)
    with (tmp_path / "trainings.csv").open(newline="") as file:
        kept = list(csv.DictReader(file))
    assert [row["seed"] for row in kept] == ["0", "1"]
    monkeypatch.setattr(train, "fit", fit)
    again = run(tmp_path, **methods)
    for one, other in zip(again["outcomes"], result["outcomes"], strict=False):
        assert one["accuracy"] == other["accuracy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["crd"]}, "methods: 'crd' is none of ce, "),
        ({"fractions": ["half"]}, "fractions='half': give numbers"),
        ({"fraction_epochs": ["1.5"]}, "fraction_epochs='1.5': give whole numbers"),
        ({"fractions": ["0.01"]}, r"fraction=0.01 leaves class 0 without images, as it has 8; "),
        ({"student": "resnet19"}, "student='resnet19': choose one of resnet18, "),
        ({"teacher": "vit_base"}, "teacher='vit_base' takes images of 224 pixels, the student of"),
        ({"targets": ["encoder:mini_clip_base"]}, "encoder:mini_clip_base is none of the panel"),
        ({"seeds": 1}, "seeds=1: give 2 or more"),
        (
            {"device_memory": 0.001, "methods": ["ce"]},
            r"batches of 32 take \d+ MiB and \d+ MiB to compute with, above",
        ),
    ],
)
def test_bad_flags_end_in_one_line(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **changes)


def test_a_run_does_not_go_on_with_other_flags(finished):
    out, _ = finished
    with pytest.raises(ValueError, match=r"components=5: the run that .* was begun with 4; give"):
        run(out, components=5)


def test_a_dry_run_says_what_would_be_trained(tmp_path, capsys):
    with flagsaver.flagsaver(**SHORT | {"out": str(tmp_path / "none"), "dry_run": True}):
        launcher.run()
    said = capsys.readouterr().out
    assert "trainings: 8, about 640 images forward and backward" in said
    assert not (tmp_path / "none").exists()
