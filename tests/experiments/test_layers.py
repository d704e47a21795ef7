"""The launcher of layers: what it writes, its report, and one-line errors."""

import dataclasses
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import layers as launcher
from experiments.common import launch
from substrate_jax.analyses.layers.matches import best_matches, match_table
from substrate_jax.analyses.layers.page import layers_page
from substrate_jax.analyses.layers.results import LayersResult
from substrate_jax.report.files import write_report
from tests.golden import result_keys

SMALL = {
    "encoders": ["mini_mae_base", "mini_clip_base"],
    "domain": "texture",
    "layers": [r"blocks\..*"],
    "n": 48,
    "batch_size": 24,
    "permutations": 20,
    "quiet": True,
}


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


def run(out: Path, **changes) -> LayersResult:
    """The result that a run of the launcher publishes."""
    publish = mock.Mock(wraps=launch.publish)
    with (
        flagsaver.flagsaver(**SMALL | {"out": str(out)} | changes),
        mock.patch.object(launch, "publish", publish),
    ):
        launcher.run()
    return publish.call_args.args[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    out = tmp_path_factory.mktemp("layers")
    return out, run(out)


def test_result_says_what_was_run(finished):
    out, _ = finished
    result = json.loads((out / "result.json").read_text())
    compared = result["comparison"]
    assert [compared[side]["encoder"] for side in ("rows", "columns")] == SMALL["encoders"]
    assert compared["rows"]["layers"]["blocks.0"] == [65, 96]
    assert np.shape(compared["cka"]) == np.shape(compared["cka_debiased"]) == (4, 4)
    assert compared["n"] == 48
    assert [len(encoder["sha256"]) for encoder in result["encoders"]] == [64, 64]
    assert result["domain"]["source"] == "sample:texture"
    assert set(result["seconds"]) == {"load", "extract", "analyse", "report", "total"}
    assert result["arguments"]["pool"] == "mean" if result["arguments"] else True
    assert (out / "features").is_dir()
    got, want = result_keys.key_tree(result), result_keys.recorded("layers")
    assert result_keys.differences(got, want) == []


def test_report_names_every_layer_and_the_best_matches(finished):
    out, result = finished
    compared = result.comparison
    text = (out / "report.html").read_text(encoding="utf-8")
    for name in [*SMALL["encoders"], *compared.rows.layers, "texture"]:
        assert name in text
    assert {path.stem for path in (out / "figures").iterdir()} == {
        "layers-cka",
        "layers-cka-debiased",
        "layers-score",
    }
    for side, values in (("rows", compared.cka), ("columns", compared.cka.T)):
        matches = best_matches(compared, side)
        assert [m["match"] for m in matches] == [f"blocks.{j}" for j in values.argmax(axis=1)]
        assert [m["value"] for m in matches] == values.max(axis=1).tolist()
    assert max(map(len, match_table(result).splitlines())) < 100


def test_missing_numbers_are_a_page_still(finished, tmp_path):
    _, result = finished
    blank = np.full((4, 4), np.nan)

    def changed(**comparison) -> LayersResult:
        compared = dataclasses.replace(result.comparison, **comparison)
        return dataclasses.replace(result, comparison=compared)

    calibrated = dataclasses.replace(
        result.comparison.calibrated, score=blank, tau=blank, p_value=blank, q_value=blank
    )
    options = {"cka_debiased": blank, "calibrated": calibrated, "maximum": None}
    empty = changed(cka=blank, **options)
    text = write_report(empty, layers_page(empty, {}), tmp_path).read_text("utf-8")
    assert "<td>–</td>" in text
    assert ">nan<" not in text
    assert "–" in match_table(empty)
    with pytest.raises(ValueError, match=r"cka has shape \(2, 2\); give 4 x 4"):
        layers_page(changed(**options | dict.fromkeys(("cka", "cka_debiased"), blank[:2, :2])), {})


def test_one_encoder_flattened_and_debiased(tmp_path, capsys):
    changes = {"encoders": ["mini_clip_base"], "pool": "flatten", "debiased": True}
    compared = run(tmp_path, **changes).comparison
    np.testing.assert_allclose(np.diag(compared.cka_debiased), 1, atol=1e-4)
    for i, match in enumerate(best_matches(compared, "rows")):
        assert match["match"] != match["layer"]
        others = np.delete(compared.cka_debiased[i], i)
        assert match["value"] == others.max()
    assert not (tmp_path / "features").exists()
    assert "debiased linear CKA" in (tmp_path / "report.html").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert "images/s" in printed
    assert f"report: {tmp_path / 'report.html'}" in printed


def test_dry_run_lists_layers_and_writes_nothing(tmp_path, capsys):
    with flagsaver.flagsaver(**SMALL | {"out": str(tmp_path / "never"), "dry_run": True}):
        launcher.run()
    printed = capsys.readouterr().out
    assert "blocks.3" in printed
    assert "gram space" in printed
    assert "to download: 0 MiB" in printed
    assert not (tmp_path / "never").exists()


def test_a_corrupt_image_can_be_skipped(tmp_path):
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{i:02d}.png")
    (folder / "07.png").write_bytes((folder / "07.png").read_bytes()[:60])
    changes = {"domain": f"mine=dir:{folder}", "encoders": ["mini_clip_base"], "n": 12}
    with pytest.raises(ValueError, match=r"07\.png"):
        run(tmp_path / "out", **changes)
    result = run(tmp_path / "out", skip_bad=True, **changes)
    assert result.comparison.n == 11
    assert "mine: 1 of 12 images could not be read." in result.run.notes


BAD = {
    "unknown encoder": ({"encoders": ["resnet51"]}, "unknown encoder 'resnet51'.*resnet50"),
    "three encoders": ({"encoders": ["all"]}, "encoders='mini_.*give one.*or two"),
    "unknown layer": ({"layers": ["blocks.0", "block"]}, "'block' matches no layer.*blocks.0"),
    "too few images": ({"n": 3}, "3 images are too few for layers; give 4"),
    "too many images": ({"n": 5000}, "5000.*512"),
    "two domains": ({"domain": "texture,writing"}, "domain='texture,writing'.*give one"),
    "unknown domain": ({"domain": "textures"}, "textures.*texture"),
    "memory": ({"memory": 1e-6}, "GiB, above memory=.*fewer images"),
    "alpha": ({"alpha": 0.0}, "alpha=0.0"),
    "permutations": ({"permutations": -1}, "permutations=-1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_flags_end_in_one_line(case, tmp_path):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path / "out", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
