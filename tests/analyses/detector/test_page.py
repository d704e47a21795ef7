"""What the page and the terminal say, by who tells the domains apart."""

import dataclasses

import numpy as np
import pytest

from substrate_jax.analyses.detector.controls import IMAGES, ImageNumbers
from substrate_jax.analyses.detector.measure import measure
from substrate_jax.analyses.detector.metrics import Estimate, paired_difference, wilson
from substrate_jax.analyses.detector.page import detector_page
from substrate_jax.analyses.detector.results import DetectorResult, SheetLine
from substrate_jax.analyses.detector.words import detector_summary, finding
from substrate_jax.features import Features
from substrate_jax.report import drawing
from substrate_jax.report.html import render
from substrate_jax.report.run import ImageSet
from tests.analyses.cka.synthetic import PANEL, run_of
from tests.analyses.cka.synthetic import panel as encoders
from tests.report.document import Document, read_csv
from tests.report.tiny import PIXEL

N = 80
HOSTILE = '<img src="x">& co'


@pytest.fixture(scope="module")
def evaluation():
    """Two domains that colors tell apart and features do not."""
    rng = np.random.default_rng(0)
    names = list(PANEL)[:2]
    features, images = {}, {}
    for domain in ("sky", HOSTILE):
        arrays = {name: rng.normal(size=(N, 8)).astype(np.float32) for name in names}
        features[domain] = Features(tuple(f"{domain}{row}" for row in range(N)), None, arrays)
        images[domain] = ImageSet(f"dir:{domain}", "0" * 64, "", None)
    bright = np.repeat([0.2, 0.7], N)[:, None]
    numbers = ImageNumbers(
        rng.uniform(0, 0.2, (2 * N, 3072)) + bright, rng.uniform(0, 0.2, (2 * N, 12)) + bright
    )
    return measure(features, images, numbers, k=4).evaluation


def test_a_shortcut_comes_first(evaluation):
    assert finding(evaluation).startswith("No network is needed to tell these domains apart: ")
    plain = [one for one in evaluation.controls if one.kind == IMAGES]
    assert max(one.accuracy.value for one in plain) == 1
    assert evaluation.accuracy.value < 0.8
    assert "100.0%" in finding(evaluation)


def test_a_lead_must_be_sure_to_come_first(evaluation):
    """The words turn where the interval of the lead leaves 0, not where the lead does."""
    for gained, sure in ((3, False), (12, True)):
        right, other = np.ones(200, bool), np.arange(200) >= gained
        lead = paired_difference(right, other)
        assert (lead.low > 0) == sure
        controls = [
            dataclasses.replace(one, accuracy=wilson(int(other.sum()), 200), lead=lead)
            for one in evaluation.controls
        ]
        changed = dataclasses.replace(evaluation, controls=controls, accuracy=wilson(200, 200))
        assert finding(changed).startswith("No network is needed") != sure


def test_the_page_says_what_the_result_holds(evaluation, monkeypatch):
    monkeypatch.setattr(drawing, "png", lambda figure: PIXEL)
    result = DetectorResult(run_of("detector", encoders(2)), evaluation)
    black = np.zeros((9, 9, 3), np.uint8)
    document = Document(
        render(detector_page(result, [SheetLine(f"{HOSTILE}: abstained", "1 of 9", [black])]))
    )
    text = " ".join(document.texts)
    assert document.unbalanced == document.open == []
    assert not [a for a in document.all("img") if a.get("src") == "x"]
    assert HOSTILE in text
    assert finding(evaluation) in text
    lines = read_csv(document, "domains.csv")
    assert [line["domain"] for line in lines] == ["sky", HOSTILE]
    assert float(lines[0]["accuracy"]) == evaluation.domains["sky"].accuracy.value
    (own, *rest) = read_csv(document, "inputs.csv")
    assert float(own["accuracy"]) == evaluation.accuracy.value
    assert [float(line["lead"]) for line in rest] == [one.lead.value for one in evaluation.controls]
    assert finding(evaluation) in detector_summary(result)


def test_a_share_of_nothing_is_a_dash(evaluation):
    found = dataclasses.replace(evaluation, answered_accuracy=Estimate(float("nan"), 0.0, 1.0))
    said = detector_summary(DetectorResult(run_of("detector", encoders(2)), found))
    assert "with – of the others right" in said
    assert "nan" not in said
