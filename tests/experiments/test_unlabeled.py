"""The launcher of pretraining without labels: a run, what is kept of it, and one-line errors."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import unlabeled as launcher
from substrate_jax.analyses.unlabeled import train
from substrate_jax.encoders.weights import read_safetensors
from tests.training.tiny import TINY, tiny_student

SHORT = {
    "encoders": ["mini_mae_base", "mini_dinov2_base"],
    "student": TINY,
    "n": 80,
    "epochs": 1,
    "label_counts": ["4"],
    "tune_steps": 2,
    "train_batch": 32,
    "components": 4,
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


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory):
    out = tmp_path_factory.mktemp("unlabeled")
    return out, run(out)


@pytest.mark.long
def test_every_way_to_pretrain_is_measured(finished):
    out, result = finished
    ways = ["scratch", "substrate", "simclr"]
    assert [(one["pretraining"], one["seed"]) for one in result["pretrained"]] == [
        (name, seed) for name in ways for seed in (0, 1)
    ]
    assert result["steps"] == 2
    assert result["sets"]["data"] | {"images": None} == {
        "images": None,
        "train": 80,
        "validation": 0,
        "test": 445,
        "seen": 0,
        "classes": 10,
    }
    scratch, substrate, simclr = result["outcomes"]
    assert [one["condition"]["pretraining"] for one in result["outcomes"]] == ways
    for one in (substrate, simclr):
        gain = np.array(one["accuracy"]) - scratch["accuracy"]
        np.testing.assert_allclose(one["gain"]["differences"], gain)
    lead = np.array(substrate["accuracy"]) - simclr["accuracy"]
    np.testing.assert_allclose(simclr["ahead"]["differences"], lead)
    for one in result["outcomes"]:
        hits = np.array(one["accuracy"]) * 4.45  # percent of 445 images
        np.testing.assert_allclose(hits, hits.round(), atol=1e-9)
    assert "Pretraining without labels" in (out / "report.html").read_text()
    assert not any((out / "checkpoints").iterdir())


def test_ways_of_a_seed_begin_with_the_same_weights_and_end_apart(finished):
    out, _ = finished
    weights = {
        (name, seed): read_safetensors(out / "pretrained" / f"{name}_{seed}.safetensors")
        for name in ("scratch", "substrate", "simclr")
        for seed in (0, 1)
    }
    assert len({tuple(one) for one in weights.values()}) == 1
    # Neither loss reaches the classifier: what is left is decay, the same for both.
    head = "head.weight"
    heads = {key: one[head] for key, one in weights.items()}
    np.testing.assert_array_equal(heads["substrate", 0], heads["simclr", 0])
    np.testing.assert_allclose(heads["substrate", 0], heads["scratch", 0], rtol=1e-3)
    assert np.any(heads["scratch", 0] != heads["scratch", 1])
    other = next(key for key in weights["scratch", 0] if key.endswith("mlp.fc1.weight"))
    for name in ("substrate", "simclr"):
        assert np.any(weights[name, 0][other] != weights["scratch", 0][other])


def test_what_is_trained_is_not_trained_again(finished, monkeypatch):
    out, result = finished

    def none(*arguments, **options):
        raise AssertionError(arguments)

    monkeypatch.setattr(train, "fit", none)
    again = run(out)
    assert again["outcomes"] == result["outcomes"]
    assert again["pretrained"] == result["pretrained"]


@pytest.mark.long
def test_an_interrupted_run_goes_on_and_ends_the_same(finished, tmp_path, monkeypatch):
    out, result = finished
    fit = train.fit

    def interrupted(runs, *arguments, finished, **options):
        def stop(i, fitted):
            finished(i, fitted)
            raise KeyboardInterrupt

        return fit(runs, *arguments, finished=stop, **options)

    ways = {"pretrain_on": ["substrate"]}
    monkeypatch.setattr(train, "fit", interrupted)
    for pretrained, tuned in ((3, 0), (4, 0), (4, 1)):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, **ways)
        assert len(rows(tmp_path / "pretrained.csv")) == pretrained
        assert (tmp_path / "tuned.csv").exists() == bool(tuned)
    monkeypatch.setattr(train, "fit", fit)
    again = run(tmp_path, **ways)
    for one, other in zip(again["outcomes"], result["outcomes"], strict=False):
        assert one["accuracy"] == other["accuracy"]
    for seed in (0, 1):
        name = Path("pretrained") / f"substrate_{seed}.safetensors"
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrain_on": ["moco"]}, "pretrain_on: 'moco' is none of scratch, substrate, "),
        ({"pretrain_on": ["encoder:mini_clip_base"]}, "mini_clip_base is none of the panel"),
        ({"label_counts": ["few"]}, "label_counts='few': give whole numbers, or all"),
        ({"label_counts": ["0"]}, "label_counts: 0: give 1 or more, or all"),
        ({"label_counts": ["9"]}, "label_counts: data: 9 images of each class: class 0 has 8"),
        ({"pretraining_rate": 0.0}, "pretraining_rate: 0: give numbers above 0"),
        ({"epochs": 0}, "epochs: 0: give 1 or more"),
        ({"epochs": 10**12}, "epochs=1000000000000: these are more than 2.31 steps; give fewer"),
        ({"seed": 2**32}, "seeds up to 4294967297: give them from 0, below 2.32"),
        ({"seeds": 1}, "seeds=1: give 2 or more"),
        ({"student": "resnet19"}, "student='resnet19': choose one of resnet18, "),
        ({"tune_test": "a=digits"}, "tune_test='a=digits': it goes with --tune"),
        ({"tune": "a=digits", "tune_test": "b=digits"}, "tune_test: 'b' is no set of --tune: a"),
        ({"tune": "a=digits", "test_data": "digits"}, "test_data='digits': --data is not tested"),
        ({"tune": "digts"}, "domain 'digts' is unknown; .* or write NAME=SPEC"),
    ],
)
def test_bad_flags_end_in_one_line(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **changes)


def test_labels_that_are_not_there_are_not_pretrained_on(tmp_path):
    path = tmp_path / "x.npz"
    # Several labels an image are none.
    np.savez(path, train_images=np.zeros((40, 8, 8, 3), np.uint8), train_labels=np.zeros((40, 2)))
    with pytest.raises(ValueError, match=r"pretrain_on=supervised: .* has no labels; leave it out"):
        run(tmp_path, data=f"npz:{path}", tune="a=digits", pretrain_on=["supervised"])


def test_a_run_does_not_go_on_with_other_flags(finished):
    out, _ = finished
    with pytest.raises(ValueError, match=r"tune_steps=3: the run that .* was begun with 2; give"):
        run(out, tune_steps=3)


def test_a_dry_run_says_what_would_be_trained(tmp_path, capsys):
    changes = {"out": str(tmp_path / "none"), "dry_run": True, "tune": "one=digits,two=digits"}
    with flagsaver.flagsaver(**SHORT | changes | {"label_counts": ["4", "all"]}):
        launcher.run()
    said = capsys.readouterr().out
    assert "fine-tuning: 2 steps, 1 learning rates, 4 labels per class, all labels" in said
    # Two seeds of 2 steps of 32, thrice as SimCLR sees two views; 24 fine-tunings of 2 steps.
    assert "trainings: 4 and 24, 1,920 images forward and backward" in said
    assert not (tmp_path / "none").exists()
