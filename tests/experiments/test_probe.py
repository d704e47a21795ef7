"""The launcher of low-shot probes: files of features, images, and one-line errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import probe as launcher

NAMES = ("one", "two", "three")
WORDS = np.array(["cat", "dog", "eel"])
SHORT = {"components": 4, "labels": ["2", "6", "500"], "heads": ["ridge_tuned", "paper"]}


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


def run(out: Path, **changes) -> dict:
    with flagsaver.flagsaver(**{"out": str(out), "quiet": True, "episodes": 3} | changes):
        launcher.run()
    return json.loads((out / "result.json").read_text())


def write(folder: Path, domain: str, labels=None, rows: int = 60, **options) -> list[str]:
    """Features of three encoders in files; items of --features."""
    rng = np.random.default_rng(len(domain))
    codes = np.arange(rows) % 3
    labels = WORDS[codes] if labels is None else labels
    ids = np.array([f"{domain}/{row}" for row in range(rows)])
    items = []
    for strength, name in enumerate(NAMES):
        x = rng.normal(size=(rows, 8)) + 1.5 * strength * np.eye(3, 8)[codes]
        arrays = {"features": x.astype(np.float32), "ids": ids, "labels": labels}
        arrays |= options.get(name, {})
        path = folder / f"{domain}_{name}.npz"
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
        items.append(f"{domain}:{name}={path}")
    return items


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    return write(folder, "sky") + write(folder, "sea")


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    out = tmp_path_factory.mktemp("probe")
    return out, run(out, features=files, **SHORT)


def test_labeled_domains_and_the_domain_itself_are_targets(finished):
    _, result = finished
    assert list(result["targets"]) == ["sky", "sea", "which domain"]
    sky, which = result["targets"]["sky"], result["targets"]["which domain"]
    assert sky["classes"] == ["cat", "dog", "eel"]
    assert (sky["pool"], sky["held_out"], sky["left_out"]) == (30, 30, [500])
    assert which["by_domain"]
    assert which["classes"] == ["sea", "sky"]
    assert sky["comparison"]["shots"] == [2, 6]
    # substrates, three encoders in three ways, all, and a mean of probabilities of one head
    assert np.shape(sky["comparison"]["accuracy"]) == (12 * 2 + 1, 2, 3)


def test_answers_are_differences_of_the_accuracies(finished):
    _, result = finished
    target = result["targets"]["sky"]
    names = [(one["input"], one["head"]) for one in target["comparison"]["methods"]]
    accuracy = np.array(target["comparison"]["accuracy"])
    assert [one["rival"] for one in target["answers"]] == ["best", "widest"] * 3
    for one in target["answers"]:
        assert one["shots"] == 6
        ours = accuracy[names.index(("substrate 4", one["head"])), 1]
        theirs = accuracy[names.index((one["encoder"], one["rival_head"])), 1]
        np.testing.assert_allclose(one["difference"], ours - theirs, atol=1e-12)
    encoders = [accuracy[names.index((name, "paper")), 1].mean() for name in NAMES]
    best = next(one for one in target["answers"] if one["rival_head"] == "paper")
    assert best["encoder"] == NAMES[int(np.argmax(encoders))]
    assert {one["targets"] for one in result["overall"]} == {2}


def test_the_page_begins_with_the_answer(finished):
    out, result = finished
    page = (out / "report.html").read_text("utf-8")
    assert "4 substrate scores are" in page
    assert "interval over targets" in page
    assert "Its smallest class cannot supply 500 labels." in page
    assert "result.json" not in page
    assert result["experiment"] == "probe"


def test_one_and_eight_devices_give_the_same(finished, files, tmp_path):
    _, first = finished
    second = run(tmp_path, features=files, mesh="data=1", **SHORT)
    assert second["devices"]["mesh"] == "data=1"
    assert first["devices"]["mesh"] == "data=8"
    assert second["targets"] == first["targets"]
    assert second["overall"] == first["overall"]


def test_images_have_pixels_and_only_the_domain_where_labels_are_of_one_class(tmp_path):
    domains = "texture=sample:texture:48,depth=sample:depth:48"
    flags_ = {"encoders": ["mini_vit_base"], "domains": domains, "components": 4, "labels": ["3"]}
    result = run(tmp_path, heads=["nearest_mean"], **flags_)
    assert "depth is no target of its own: its images are of one class." in result["notes"]
    assert list(result["targets"]) == ["texture", "which domain"]
    inputs = [one["input"] for one in result["targets"]["texture"]["comparison"]["methods"]]
    assert "PCA-4 of pixels" in inputs
    assert "mean over encoders" not in inputs


def test_plans_write_nothing(files, tmp_path, capsys):
    with flagsaver.flagsaver(dry_run=True, out=str(tmp_path / "out"), features=files, **SHORT):
        launcher.run()
    said = capsys.readouterr().out
    assert "labels per class: 2, 6, 500" in said
    assert "heads: ridge, tuned; paper" in said
    assert not (tmp_path / "out").exists()


FLAT = {"features": np.ones((60, 8), np.float32)}
OTHER = {"ids": np.array([f"other/{row}" for row in range(60)])}
BAD = {
    "unknown head": ({}, {"heads": ["svm"]}, "heads: 'svm' is none; give all, or some of paper"),
    "no heads": ({}, {"heads": []}, "heads: none given"),
    "labels that are words": ({}, {"labels": ["few"]}, "labels='few': give all, or different"),
    "labels twice": ({}, {"labels": ["2", "2"]}, "labels='2,2'"),
    "no labels": ({}, {"labels": ["0"]}, "labels='0'"),
    "tuning on one": ({}, {"labels": ["1"], "heads": ["ridge_tuned"]}, "labels=1: a tuned head"),
    "too many labels": (
        {},
        {"labels": ["40"]},
        "target 'sky': class cat has 20 rows, 10 of them to draw from, and 40 labels",
    ),
    "too many components": ({}, {"components": 25}, "components=25: the encoders have 24 features"),
    "no components": ({}, {"components": 0}, "components=0"),
    "few rows": ({"rows": 9}, {}, "9 images are too few for 4 components"),
    "more classes than rows": ({"labels": np.arange(60)}, {}, "target 'sky': class 0 has 1 rows"),
    "one class": ({"labels": np.zeros(60, int)}, {}, "nothing to tell apart: sky is no target"),
    "no label anywhere": ({name: {"labels": None} for name in NAMES}, {}, "have no labels"),
    "other ids": ({"two": OTHER}, {}, "other/0"),
    "alpha": ({}, {"alpha": 1.0}, "alpha=1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_one_line(case, tmp_path):
    options, changes, words = BAD[case]
    items = write(tmp_path, "sky", **options)
    with pytest.raises(ValueError, match=words) as caught:
        run(tmp_path / "out", features=items, **SHORT | changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "result.json").exists()


def test_constant_encoders_and_repeated_rows_are_named(tmp_path):
    rng = np.random.default_rng(0)
    same = {"features": np.tile(rng.normal(size=(3, 8)), (20, 1)).astype(np.float32)}
    items = write(tmp_path, "sky", one=FLAT, two=same, three=same)
    result = run(tmp_path / "out", features=items, **SHORT)
    target = result["targets"]["sky"]
    assert target["repeated"] == 30
    assert any(note.startswith("one gives every image of sky") for note in result["notes"])
    assert "30 of 30 held-out images are also in the pool" in (
        tmp_path / "out" / "report.html"
    ).read_text("utf-8")
    accuracy = dict(
        zip(
            [(one["input"], one["head"]) for one in target["comparison"]["methods"]],
            np.array(target["comparison"]["accuracy"])[:, -1].mean(axis=1),
            strict=True,
        )
    )
    # Features that say nothing give one class: a third of the classes is right.
    assert accuracy["one", "paper"] == pytest.approx(100 / 3)
    assert accuracy["two", "paper"] == 100
