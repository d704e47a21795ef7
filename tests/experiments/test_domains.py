"""The launcher of domains and controls: numbers, resuming, and one-line errors."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import domains as launcher
from substrate_jax.data.domains import open_source
from substrate_jax.data.sources import take
from substrate_jax.encoders import load_encoder
from substrate_jax.features import extract
from substrate_jax.kernels.reference import statistics as reference
from tests import helpers
from tests.golden import result_keys

ENCODERS = ["mini_vit_base", "mini_regnety_032", "mini_mae_base"]
DOMAINS = ["texture", "writing", "depth"]
SMALL = {
    "encoders": ENCODERS,
    "domains": ",".join(DOMAINS),
    "n": 40,
    "components": 4,
    "sweep": ["2", "4", "32"],
    "resamples": 3,
    "splits": 2,
    "random_bases": 2,
    "panel_resamples": 3,
    "extremes": 2,
    "batch_size": 40,
    "quiet": True,
}


def run(out: Path, **changes) -> dict:
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    with flagsaver.flagsaver(**SMALL | {"out": str(out)} | changes):
        launcher.run()
    return json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Without the controls, which their own tests have, and the panel test, unless --long asks."""
    out = tmp_path_factory.mktemp("domains")
    return out, run(out, controls=helpers.ALL, panel_test=helpers.ALL)


def test_pcka_is_that_of_separate_substrates(finished):
    _, result = finished
    encoders = [load_encoder(name) for name in ENCODERS]
    parts = []
    for name in DOMAINS:
        features = extract(encoders, take(open_source(name), 40, 0), batch_size=40)
        x = np.concatenate([features[encoder] for encoder in ENCODERS], axis=1).astype(np.float64)
        x = (x - x.mean(0)) / np.where(np.ptp(x, 0) > 1e-6, x.std(0), np.inf)
        parts.append((x, np.linalg.svd(x, full_matrices=False)[2][:4].T))
    want = [[reference.pcka(*a, *b) for b in parts] for a in parts]
    # A direction is known to float32's eps over its relative gap, above 0.01 here.
    np.testing.assert_allclose(result["pcka"]["matrix"], want, atol=1e-3)
    assert result["sweep"]["ks"] == [2, 4]
    assert any("32 components" in note for note in result["notes"])


@pytest.mark.long
def test_every_part_of_the_analysis_is_in_the_result(finished):
    out, result = finished
    assert list(result["domains"]) == DOMAINS
    assert all(domain["n"] == 40 for domain in result["domains"].values())
    families = {entry["left_out"] for entry in result["leave_one_out"]["families"]}
    assert families == {"vit", "regnet"}
    assert set(result["split_half"]["ceiling"]) == set(DOMAINS)
    readings = {(c, r) for c, found in result["controls"].items() for r in found}
    assert {(c, "own") for c in ("pixels", "handcrafted")} <= readings
    assert {("random", "both"), ("shuffled", "panel"), ("untrained", "panel")} <= readings
    assert np.shape(result["components"]["depth"]["correlation"]) == (4, 60)
    tests = result["panel_test"]["domains"]
    assert set(tests) == {*DOMAINS, "pooled"}
    assert tests["pooled"]["n"] == 120
    page = (out / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_second_run_repeats_the_numbers(finished):
    out, first = finished
    second = run(out, controls=helpers.ALL, panel_test=helpers.ALL)
    varying = ("seconds", "command")
    assert {k: v for k, v in second.items() if k not in varying} == {
        k: v for k, v in first.items() if k not in varying
    }


@pytest.mark.long
def test_parts_can_be_left_out(finished, tmp_path):
    out, first = finished
    store = str(out / "features")
    few = {"controls": False, "panel_test": False, "resamples": 0, "splits": 0, "store": store}
    result = run(tmp_path, **few)
    assert "controls" not in result
    assert result["panel_test"] is None
    assert result["pcka"]["low"] is None
    assert result["pcka"]["matrix"] == first["pcka"]["matrix"]


BAD = {
    "one domain": ({"domains": "texture"}, "texture.*two or more"),
    "few images": ({"n": 4}, "'texture': 4 images are too few for 4 components.*5 or more"),
    "sweep": ({"sweep": ["4", "x"]}, "sweep='4,x'"),
    "sweep of none": ({"sweep": ["0"]}, "sweep='0'"),
    "one resample": ({"resamples": 1}, "resamples=1"),
    "extremes": ({"extremes": 0}, "extremes=0"),
    "unknown domain": ({"domains": "texture,write"}, "write.*writing"),
    "clash": ({"domains": "texture,texture=dir:x"}, "'texture' is given twice"),
}


def test_flags_of_other_launchers_are_refused(tmp_path):
    command = [sys.executable, "-m", "experiments.domains", "--dry_run", f"--out={tmp_path}"]
    done = subprocess.run(
        [*command, "--permutations=5"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: Unknown command line flag 'permutations'")
    assert done.stderr.count("\n") == 1


@pytest.mark.long
def test_the_keys_of_a_result_are_those_of_before(finished):
    got = result_keys.key_tree(finished[1])
    assert result_keys.differences(got, result_keys.recorded("domains")) == []


@pytest.mark.parametrize("case", BAD)
def test_bad_flags_end_in_one_line(case, tmp_path):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path / "out", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
