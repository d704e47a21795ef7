"""--measure and --bootstrap of the main launcher: numbers, report, and one-line errors."""

import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import cka as launcher
from substrate_jax.analyses.cka.measure_blocks import measure_blocks
from substrate_jax.analyses.cka.measured import measure_encoders
from substrate_jax.analyses.cka.results import MeasuredPairs
from substrate_jax.kernels import MEASURES
from substrate_jax.kernels.reference import measures as reference_measures
from substrate_jax.report.page import Figures, Table
from substrate_jax.report.tags import paradigm_tag
from substrate_jax.report.values import plain
from tests.golden import result_keys

ENCODERS = ["mini_vit_base", "mini_mae_base"]
SMALL = {
    "encoders": ENCODERS,
    "domains": "texture",
    "n": 32,
    "k": ["5"],
    "components": 4,
    "batch_size": 32,
    "quiet": True,
}


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


def run(out, **changes) -> dict:
    with flagsaver.flagsaver(**SMALL | {"out": str(out)} | changes):
        launcher.run()
    return json.loads((out / "result.json").read_text())


def test_measures_reach_the_result_and_the_report(tmp_path):
    three = [*ENCODERS, "mini_resnet50"]
    options = {"bootstrap": 4, "measure_permutations": 19, "ceiling_splits": 2}
    options["ceiling_seeds"] = [f"{three[2]}={three[0]}"]  # not true, and the numbers are so
    names = ["procrustes", "procrustes"]
    result = run(tmp_path, encoders=three, measure=names, **options)
    got = result_keys.key_tree(result)
    assert result_keys.differences(got | {"pcka": None}, result_keys.recorded("cka")) == []
    domain = result["domains"]["texture"]
    assert list(domain["measures"]) == ["procrustes"]
    for name, found in domain["measures"].items():
        assert found["resampling"] == MEASURES[name].resampling
        assert found["draws"] == 4
        low, value, high = (np.array(found[part]) for part in ("low", "matrix", "high"))
        off = ~np.eye(3, dtype=bool)
        assert (low[off] < high[off]).all()
        assert value.shape == (3, 3)
        p_value, q_value = (
            np.array(found["calibrated"][part], float) for part in ("p_value", "q_value")
        )
        assert (p_value[off] <= q_value[off]).all()
        assert (p_value[off] >= 1 / 20).all()
        assert np.isnan(p_value[~off]).all()
        ranked = np.where(off, value, -np.inf).argsort(axis=1)[:, ::-1]
        assert [of["encoder"] for of in found["closest"]] == three
        assert [of["closest"] for of in found["closest"]] == [three[i] for i in ranked[:, 0]]
        assert [of["next"] for of in found["closest"]] == [three[i] for i in ranked[:, 1]]
        assert all(of["difference"] >= 0 for of in found["closest"])
        assert len(found["ceiling"]) == 3
        again = (value[0, 2] + value[2, 0]) / 2
        np.testing.assert_allclose(np.array(found["seed_ceiling"], float), [again, np.nan, again])
        assert f"texture-measure-{name}.png" in {p.name for p in (tmp_path / "figures").iterdir()}
    page = (tmp_path / "report.html").read_text()
    assert MEASURES["procrustes"].meaning_of_one in page
    assert "95%" in page
    assert "Closest encoder of each" in page
    for words in ("ceiling of a pair", "Other seed", "Chance is what unrelated"):
        assert words in page


def test_the_numbers_are_those_of_the_oracle():
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(30, 4)).astype(np.float32) for name in ENCODERS}
    found = measure_encoders(features, ["procrustes"])["procrustes"]
    assert plain(found).keys() == {"matrix"}
    want = reference_measures.procrustes(*features.values())
    np.testing.assert_allclose(found.matrix[0, 1], want, atol=1e-5)


def test_the_page_shows_both_ways_of_a_measure_that_has_two():
    matrix = np.array([[0.9, 0.3], [0.6, 0.9]])
    measures = {name: MeasuredPairs(matrix) for name in MEASURES}
    tags = dict.fromkeys(ENCODERS, paradigm_tag("supervised"))
    figures, table = measure_blocks(measures, "d", ENCODERS, tags, None)
    assert isinstance(figures, Figures)
    assert [p.title for p in figures.pictures] == [m.title for m in MEASURES.values()]
    assert isinstance(table, Table)
    (row,) = table.rows
    for name, entry in MEASURES.items():
        if entry.symmetric:
            assert row[name] == 0.3
        else:
            assert (row[f"{name}_ab"], row[f"{name}_ba"]) == (0.3, 0.6)
    assert list(measure_blocks({}, "d", ENCODERS, tags, None)) == []


def test_all_means_the_table():
    assert launcher.chosen_measures(["all"], 0, 100) == tuple(MEASURES)
    assert launcher.chosen_measures([], 0, 4) == ()


BAD = {
    "unknown": ({"measure": ["rsb"]}, "unknown measure 'rsb'.*rsa"),
    "negative": ({"measure": ["rsa"], "bootstrap": -1}, "bootstrap=-1"),
    "one draw": ({"measure": ["rsa"], "bootstrap": 1}, "bootstrap=1"),
    "nothing to resample": ({"bootstrap": 9}, "bootstrap=9.*--measure"),
    "no measure": ({"ceiling_splits": 2}, "ceiling_splits=2 has no measure.*--measure"),
    "negative splits": ({"measure": ["rsa"], "ceiling_splits": -1}, "ceiling_splits=-1"),
    "seeds without a measure": ({"ceiling_seeds": ["a=b"]}, "ceiling_seeds='a=b' has no measure"),
    "one seed": (
        {"measure": ["rsa"], "ceiling_seeds": ["mini_vit_base"]},
        "ceiling_seeds='mini_vit_base': write NAME=OTHER",
    ),
    "unknown seed": (
        {"measure": ["rsa"], "ceiling_seeds": ["mini_vit_base=b"]},
        "ceiling_seeds='mini_vit_base=b': other seed 'b' is none of the panel: mini_vit_base",
    ),
    "a seed twice": (
        {"measure": ["rsa"], "ceiling_seeds": ["mini_vit_base=mini_vit_base"]},
        "other seed 'mini_vit_base' stands twice",
    ),
    "few permutations": (
        {"measure": ["rsa"], "measure_permutations": 7},
        "measure_permutations=7 are too few for alpha=0.05; give 19 or more",
    ),
    "few images": ({"measure": ["cknna"], "n": 13, "bootstrap": 9}, "n=13 .*cknna.*--n=14"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_flags_end_in_one_line(case, tmp_path):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path / "out", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
