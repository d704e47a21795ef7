"""The launcher of two modalities: files, sounds and pictures, and one-line errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import crossmodal as launcher
from tests.helpers import tolerance
from tests.report.document import Document

FEW = {
    "quiet": True,
    "components": 3,
    "sweep": ["2", "3", "5", "99"],
    "neighbors": 4,
    "permutations": 99,
    "bootstrap": 20,
    "planted": 8,
}
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(autouse=True, scope="module")
def parsed():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


def run(out: Path, **changes) -> dict:
    with flagsaver.flagsaver(**FEW | {"out": str(out)} | changes):
        launcher.run()
    return json.loads((out / "result.json").read_text())


def write(path: Path, seed: int, ids, classes=None, width: int = 6, shared=None) -> Path:
    """A file of features that tell classes apart, `shared` added to their first columns."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(len(ids), width))
    if classes is not None:
        x += 1.5 * rng.normal(size=(max(classes) + 1, width))[classes]
    if shared is not None:
        x[:, : shared.shape[1]] += shared
    order = rng.permutation(len(ids))
    arrays = {"x": x[order].astype(np.float32), "ids": np.array(ids)[order]}
    if classes is not None:
        arrays["labels"] = np.array(classes)[order]
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def by_id(tmp_path_factory):
    """Two encoders of each side on the same things, which both sides say something about."""
    folder = tmp_path_factory.mktemp("by_id")
    ids, classes = [f"thing{i}" for i in range(48)], np.arange(48) % 4
    shared = np.random.default_rng(9).normal(size=(48, 3)) * 2
    items = [
        f"{side}:{name}={write(folder / f'{side}_{name}.npz', seed, ids, classes, 6, shared)}"
        for seed, (side, name) in enumerate(
            [("picture", "a"), ("picture", "b"), ("sound", "c"), ("sound", HOSTILE[1:7])]
        )
    ]
    out = folder / "out"
    return out, run(out, features=items), items


def main_of(result: dict) -> dict:
    found = [one for one in result["comparison"]["agreements"] if one["kind"] == "substrate"]
    return next(one["measures"] for one in found if one["k"] == 3)


@pytest.mark.long
def test_things_seen_by_both_sides_agree(by_id):
    _, result, _ = by_id
    found = result["comparison"]
    assert (found["rows"], found["per_class"], found["arbitrary"]) == (48, [12] * 4, False)
    cka = main_of(result)["cka"]
    assert {kind: null["p_value"] <= 0.05 for kind, null in cka["nulls"].items()} == {
        "rows": True, "within": True, "classes": True,
    }  # fmt: skip
    assert cka["low"] < cka["value"] < cka["high"]
    kinds = [(one["kind"], one["k"]) for one in found["agreements"]]
    assert (
        kinds
        == [("substrate", k) for k in (2, 3, 5)]
        + [("components", 3)] * 4
        + [("encoders", None)] * 4
    )
    assert [one["name"] for one in found["controls"]] == [
        "picture: two encoders",
        "sound: two encoders",
        "picture: itself, other rows of the class",
        "sound: itself, other rows of the class",
        "the two sides, shuffled",
    ]
    assert [one["measure"] for one in found["planted"]] == ["cka", "mutual_knn"]


@pytest.mark.long
def test_the_page_says_what_was_found(by_id):
    out, _, _ = by_id
    page = (out / "report.html").read_text("utf-8")
    document = Document(page)
    assert document.unbalanced == []
    assert len(document.all("script")) == 1
    assert "At K = 3 picture and sound agree beyond chance" in page
    assert "They agree within classes too" in page
    assert {path.stem for path in (out / "figures").iterdir()} == {
        "sweep-cka", "sweep-mutual-knn", "controls", "planted-cka", "planted-mutual-knn",
    }  # fmt: skip


@pytest.mark.long
def test_the_same_on_one_device_and_eight(by_id, tmp_path):
    _, result, items = by_id
    alone = run(tmp_path, features=items, mesh="data=1")
    kept = [dict(one["comparison"]) for one in (alone, result)]
    for one, other in zip(*(of.pop("planted") for of in kept), strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():  # programs of one draw and of several round apart
            if key == "measure":
                assert value == other[key]
            elif value is not None:
                np.testing.assert_allclose(value, other[key], atol=4 * tolerance(48))
    assert kept[0] == kept[1]


@pytest.mark.long
def test_rows_of_a_class_paired_at_will(tmp_path):
    ids = [[f"{letter}{i}" for i in range(52)] for letter in "ab"]
    items = [
        f"{side}:net={write(tmp_path / f'{side}.npz', seed, of, np.arange(52) % 4)}"
        for seed, (side, of) in enumerate(zip(("text", "brain"), ids, strict=True))
    ]
    result = run(tmp_path / "out", features=items, pair="class", planted=0, per_class=12)
    found = result["comparison"]
    assert (found["rows"], found["per_class"], found["arbitrary"]) == (48, [12] * 4, True)
    assert found["planted"] == []
    assert not [one for one in found["agreements"] if one["kind"] == "components"]
    assert main_of(result)["cka"]["nulls"]["within"]["p_value"] > 0.05
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "pairs were made at will" in page


def test_digits_against_tones(tmp_path):
    sides = "picture=digits,sound=tones:digits"
    small = {"domains": sides, "pair": "class", "encoders": ["mini_vit_base"], "n": 120}
    result = run(tmp_path, **small, planted=0, bootstrap=0)
    assert result["right"]["encoders"] == ["log_mel", "mini_vit_base on pictures"]
    assert result["right"]["groups"] == 5
    assert [encoder["name"] for encoder in result["encoders"]] == ["mini_vit_base", "log_mel"]
    names = [one["name"] for one in result["comparison"]["controls"]]
    assert "sound: a sound and its picture" in names
    assert "sound: itself, other rows of the class and group" in names


def test_a_plan_says_what_would_run(tmp_path, capsys):
    with flagsaver.flagsaver(**FEW | {"domains": launcher.EMBEDDED, "dry_run": True}):
        launcher.run()
    said = capsys.readouterr().out
    assert "side sound: 500 sounds" in said
    assert "pairs by class" in said


@pytest.mark.parametrize(
    ("ids", "classes", "flags_", "message"),
    [
        (("abcdef", "uvwxyz"), (None, None), {}, "share 0 of 6 and 6 ids"),
        (("abc", "abc"), (None, None), {}, "share 3 of 3 and 3 ids"),
        (("abcdef", "uvwxyz"), ([0] * 6, [0] * 6), {"pair": "class"}, "1 in common"),
        (("abcdef", "uvwxyz"), ([0] * 6, [1] * 6), {"pair": "class"}, "0 in common"),
        (("abcdef", "uvwxyz"), (None, None), {"pair": "class"}, "has no classes"),
        (("abcdef", "abcdef"), (None, None), {"components": 9}, "components=9: 6 pairs"),
        (("abcdef", "abcdef"), (None, None), {"neighbors": 6}, "neighbors=6: 6 pairs"),
        (("abcdef", "abcdef"), (None, None), {"power": 0.01}, "power=0.01"),
        (("abcdef", "abcdef"), (None, None), {"permutations": 3}, "permutations=3"),
        (("abcdef", "abcdef"), (None, None), {"bootstrap": 1}, "bootstrap=1"),
        (("abcdef", "abcdef"), (None, None), {"group_of": "x"}, "group_of='x'"),
        (("abcdef", "abcdef"), (None, None), {"sweep": ["x"]}, "sweep='x'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, ids, classes, flags_, message):
    items = [
        f"{side}:net={write(tmp_path / f'{side}.npz', seed, of, labels)}"
        for seed, (side, of, labels) in enumerate(zip("ab", map(list, ids), classes, strict=True))
    ]
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path / "out", features=items, **flags_)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize(
    ("flags_", "message"),
    [
        ({"features": ["a=x.npy"]}, "names no side"),
        ({"domains": "texture,writing,depth"}, "3 sides"),
        ({"domains": "sound=tones:digits"}, "1 sides"),
        ({"domains": "a=texture,b=tones:words"}, "there is tones:digits"),
        ({"domains": "a=texture,b=writing", "encoders": ["clap"]}, "takes images"),
        (
            {"domains": "a=digits,b=tones:digits", "pair": "class", "per_class": 1}
            | {"components": 12},
            "per_class=1: components=12: 10 pairs of rows",
        ),
        ({"random_weights": [""]}, "random_weights='': unknown encoder"),
    ],
)
def test_sides_that_are_none_are_one_line(tmp_path, flags_, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **flags_)
