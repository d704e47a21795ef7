"""The launcher of the detector: images, files, saved detectors, and one-line errors."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

import substrate_jax as sj
from experiments import detector as launcher
from substrate_jax.data.domains import open_source
from tests.report.document import Document, read_csv

WIDTHS = {"one": 10, "two": 6}
ENCODERS = ["mini_vit_base", "mini_mae_base"]
IMAGES = {
    "encoders": ENCODERS,
    "domains": "texture,writing,depth",
    "n": 40,
    "components": 4,
    "alpha": 0.1,
    "batch_size": 40,
}
HOSTILE = "<script>alert(1)</script>"


def run(out: Path, **changes) -> dict:
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    with flagsaver.flagsaver(**{"out": str(out), "quiet": True} | changes):
        launcher.run()
    return json.loads((out / "result.json").read_text())


def rows(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def feature_items(folder: Path, names, n: int = 80, constant: str = "", copies: int = 0):
    """Files of two encoders for each domain, an npz each; `copies` rows of the first are in all."""
    items, shared = [], {}
    for seed, domain in enumerate(names):
        rng = np.random.default_rng(seed)
        for name, width in WIDTHS.items():
            x = rng.normal(size=(n, width)) + 4 * seed * (np.arange(width) % 2)
            if name == constant:
                x[:] = 1
            x[:copies] = shared.setdefault(name, x[:copies].copy())
            path = folder / f"{seed}_{name}.npz"
            ids = np.array([f"{domain}/{row}" for row in range(n)])
            np.savez(path, features=x.astype(np.float32), ids=ids)
            items.append(f"{domain}:{name}={path}")
    return items


@pytest.fixture(scope="module")
def of_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    items = feature_items(folder, ("sky", "sea", "land", "lake", HOSTILE))
    out = folder / "out"
    result = run(out, features=items, components=4, near=["lake"], predict=HOSTILE)
    return items, out, result


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of images to answer: crops of a known domain and black squares."""
    folder = tmp_path_factory.mktemp("pictures") / "new"
    folder.mkdir()
    source = open_source("sample:writing:44")
    for row in range(40, 44):
        Image.fromarray(source[row].image).save(folder / f"{row}.png")
    for row in range(3):
        Image.new("RGB", (40 + row, 40)).save(folder / f"=black & <b>{row}.png")
    return folder


@pytest.fixture(scope="module")
def of_images(tmp_path_factory, pictures):
    out = tmp_path_factory.mktemp("detector")
    return out, run(out, **IMAGES, predict=f"dir:{pictures}", debug=True)


# Features in files.


def test_files_of_features(of_files):
    _, out, result = of_files
    found = result["evaluation"]
    assert list(found["domains"]) == ["sky", "sea", "land"]
    assert found["width"] == 16
    assert np.sum(found["confusion"]) == 3 * 20
    assert found["accuracy"]["low"] < found["accuracy"]["value"] <= found["accuracy"]["high"]
    assert [(one["name"], one["kind"]) for one in found["unknowns"]] == [
        ("sky", "left out"), ("sea", "left out"), ("land", "left out"), ("lake", "near"),
    ]  # fmt: skip
    assert [one["kind"] for one in found["controls"]] == ["encoder", "encoder", "everything"]
    page = (out / "report.html").read_text("utf-8")
    assert "no control of pixels, sizes and colors" in page
    assert not [line for line in Document(page).all("section") if "abstained from" in str(line)]


def test_a_name_in_the_page_is_text(of_files):
    _, out, result = of_files
    document = Document((out / "report.html").read_text("utf-8"))
    assert len(document.all("script")) == 1
    assert document.unbalanced == []
    assert result["predictions"]["rows"] == 80


def test_predictions_are_a_line_for_each_row(of_files):
    items, out, result = of_files
    lines = rows(out / "predictions.csv")
    assert [line["id"] for line in lines] == [f"{HOSTILE}/{row}" for row in range(80)]
    assert list(lines[0]) == ["id", "domain", "probability", "p_value", "abstained"]
    assert sum(line["abstained"] == "True" for line in lines) == result["predictions"]["abstained"]
    features = {
        name: sj.Features.read(item.partition("=")[2])["features"]
        for item in items[-2:]
        for name in WIDTHS
        if f":{name}=" in item
    }
    found = sj.DomainDetector.load(out)(features)
    assert found.names == [line["domain"] for line in lines]
    np.testing.assert_allclose(found.p_values, [float(line["p_value"]) for line in lines])


def test_tables_of_the_page_are_those_of_the_result(of_files):
    _, out, result = of_files
    document = Document((out / "report.html").read_text("utf-8"))
    found = result["evaluation"]
    inputs = read_csv(document, "inputs.csv")
    assert float(inputs[0]["accuracy"]) == found["accuracy"]["value"]
    assert [line["input"] for line in inputs[1:]] == [one["name"] for one in found["controls"]]
    separation = read_csv(document, "separation.csv")
    assert len(separation) == 7 * len(found["unknowns"])
    for line in separation:
        (one,) = [
            one for one in found["unknowns"]
            if (one["name"], one["kind"]) == (line["unknown"], line["kind"])
        ]  # fmt: skip
        values = [score["auroc"]["value"] for score in one["scores"].values()]
        assert float(line["auroc"]) in values
    assert len(read_csv(document, "domains.csv")) == 3


def test_a_saved_detector_answers_files(of_files, tmp_path):
    items, out, _ = of_files
    own = [item.partition(":")[2] for item in items if item.startswith("sea:")]
    again = run(tmp_path / "again", detector=str(out), features=own)
    assert again["predictions"]["rows"] == 80
    assert again["predictions"]["counts"]["sea"] > 60
    assert "evaluation" not in again
    assert not (tmp_path / "again" / "detector.json").exists()


# Images.


@pytest.mark.long
def test_images_and_their_controls(of_images):
    out, result = of_images
    found = result["evaluation"]
    names = [one["name"] for one in found["controls"]]
    assert names == [
        *("size and color", "8 × 8 thumbnail", "PCA-4 of pixels"),
        *("PCA-4 of mini_vit_base", "PCA-4 of mini_mae_base", "all features"),
    ]
    far = [one for one in found["unknowns"] if one["kind"] == "far"]
    assert [one["name"] for one in far] == ["noise", "single colors"]
    assert all(one["rows"] == 128 for one in far)
    lines = rows(out / "predictions.csv")
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)
    assert sum(line["id"].startswith("=black") for line in lines) == 3
    assert all(line["abstained"] == "True" for line in lines if line["id"].startswith("=black"))
    page = (out / "report.html").read_text("utf-8")
    assert "asked: abstained" in page
    assert "predictions.csv" in page


@pytest.mark.long
def test_one_device_and_eight_give_one_result(of_images, tmp_path):
    _, first = of_images
    second = run(tmp_path, **IMAGES, mesh="data=1")
    one, eight = second["evaluation"], first["evaluation"]
    assert one["confusion"] == eight["confusion"]
    for a, b in zip(one["unknowns"], eight["unknowns"], strict=True):
        assert a["abstained"] == b["abstained"]
        for name, score in a["scores"].items():
            # Features differ by rounding, which may turn a pair that nearly ties.
            near = pytest.approx(b["scores"][name]["auroc"]["value"], abs=5e-3)
            assert score["auroc"]["value"] == near
    assert one["calibration"]["ece"] == pytest.approx(eight["calibration"]["ece"], abs=1e-4)


def test_a_saved_detector_answers_images_with_its_own_encoders(of_images, pictures, tmp_path):
    out, _ = of_images
    result = run(
        tmp_path, detector=str(out), predict=f"dir:{pictures}", batch_size=40,
        store=str(out / "features"),
    )  # fmt: skip
    assert [encoder["name"] for encoder in result["encoders"]] == ENCODERS
    assert not [note for note in result["notes"] if "fewer than" in note]
    assert (tmp_path / "predictions.csv").read_text() == (out / "predictions.csv").read_text()


SAVED = {
    "another panel": (
        {"encoders": ["mini_vit_base"]},
        "encoders=mini_vit_base: detector=.* was fitted on mini_vit_base, mini_mae_base",
    ),
    "another normalization": ({"normalization": "own"}, "normalization='own': detector="),
    "nothing to answer": ({"predict": None}, "give --predict=dir:FOLDER"),
    "domains beside it": ({"domains": "texture"}, "domains='texture' beside detector="),
    "a score beside it": ({"score": "energy"}, "score='energy' beside detector="),
    "no detector": ({"detector": "nowhere"}, "detector='nowhere': there is no nowhere.json"),
    "an empty folder": ({"predict": "dir:EMPTY"}, "no images in"),
    "no folder": ({"predict": "dir:absent"}, "no such folder"),
}


@pytest.mark.parametrize("case", SAVED)
def test_a_saved_detector_is_used_as_it_was_fitted(case, of_images, pictures, tmp_path):
    changes, message = SAVED[case]
    (tmp_path / "empty").mkdir()
    given = {"detector": str(of_images[0]), "predict": f"dir:{pictures}"} | changes
    if given["predict"] == "dir:EMPTY":
        given["predict"] = f"dir:{tmp_path / 'empty'}"
    with flagsaver.flagsaver():
        for name in changes:  # as if typed, which tells them from defaults
            flags.FLAGS[name].using_default_value = False
        with pytest.raises(ValueError, match=message) as caught:
            run(tmp_path / "out", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "result.json").exists()


def test_other_weights_are_refused(of_images, pictures, tmp_path):
    saved = tmp_path / "saved"
    sj.DomainDetector.load(of_images[0]).save(saved / "detector")
    path = saved / "detector.json"
    text = json.loads(path.read_text())
    text["encoders"]["mini_vit_base"] = "0" * 64
    path.write_text(json.dumps(text))
    with pytest.raises(ValueError, match=r"mini_vit_base has weights .* fitted with 0{12}"):
        run(tmp_path / "out", detector=str(saved), predict=f"dir:{pictures}")


BAD = {
    "few images": ({"n": 30}, "30 images are too few for 16 components, 5 folds and abstaining"),
    "one domain": ({"domains": "texture"}, "domains='texture' leaves 1 domain to know"),
    "all but one are near": (
        {"domains": "texture,writing", "near": ["writing"]}, "leaves 1 domain to know"
    ),
    "near that is none": ({"near": ["sky"]}, "near='sky' is none of this run's"),
    "near and far": ({"near": ["depth"], "far": ["depth"]}, "'depth' is given twice"),
    "alpha": ({"alpha": 1e-9}, "alpha=1e-09: no domain has so many images"),
    "no components": ({"components": 0}, "components=0: give 1 or more"),
    "no source": ({"predict": "dir:"}, "source 'dir:' names none: give dir:PATH"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_flags_end_in_one_line(case, tmp_path):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path / "out", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "result.json").exists()


FILES = {
    "few rows": ({"n": 40}, "domain 'sky': 40 images are too few"),
    "a constant encoder": ({"constant": "two"}, "two gives every image of every domain the same"),
    "rows in two domains": ({"copies": 7}, "7 rows of domain 'sea' are in domain 'sky' too"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_features_end_in_one_line(case, tmp_path):
    options, message = FILES[case]
    items = feature_items(tmp_path, ("sky", "sea"), **options)
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path / "out", features=items, components=4)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "result.json").exists()


def test_two_domains_have_nothing_to_leave_out(tmp_path):
    items = feature_items(tmp_path, ("sky", "sea"))
    result = run(tmp_path / "out", features=items, components=4)
    assert result["evaluation"]["unknowns"] == []
    assert any("No domain is left out" in note for note in result["notes"])
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "There is no set of images from elsewhere" in page


def test_a_plan_reads_no_image(tmp_path, capsys, of_images):
    for changes in (IMAGES, {"detector": str(of_images[0]), "predict": "sample:writing:9"}):
        with flagsaver.flagsaver(dry_run=True, out=str(tmp_path / "out"), **changes):
            launcher.run()
    said = capsys.readouterr().out
    assert "40 of 512 images" in said
    assert "9 of 9 images" in said
    assert not (tmp_path / "out").exists()
