"""The page and sentences of a comparison, of made-up values."""

import dataclasses

import numpy as np
import pytest

from substrate_jax.analyses.crossmodal.orders import TITLES
from substrate_jax.analyses.crossmodal.page import crossmodal_page
from substrate_jax.analyses.crossmodal.results import (
    CONTROL,
    SUBSTRATE,
    Agreement,
    Comparison,
    Control,
    CrossmodalResult,
    Measured,
    Null,
    Planted,
    SideRows,
)
from substrate_jax.analyses.crossmodal.words import crossmodal_summary, finding
from substrate_jax.report.html import render
from substrate_jax.report.run import ImageSet, Run
from tests.report.document import Document, read_csv

RUN = Run("crossmodal", "python", {}, {}, {}, {}, [], [])


def agreement(kind, k, value, **p_values):
    """Every measure has one value, against nulls of given p."""
    nulls = {
        null: Null(0.01, 0.005, 0.02, p, max(value - 0.02, 0), 0.03, "permutation")
        for null, p in p_values.items()
    }
    of = Measured(value, value - 0.01, value + 0.02, nulls)
    return Agreement(
        kind, "a", "b", k, 40, dict.fromkeys(("cka", "debiased_cka", "mutual_knn"), of)
    )


def made(*, arbitrary=True, planted=True, least=0.04, **p_values) -> CrossmodalResult:
    side = SideRows("picture", ImageSet("digits", "f" * 64, "", 4), 40, ["one"], [9], None)
    signal = Planted(
        "cka", [0, 1], np.array([0.01, 0.9]), np.array([0.05, 1.0]), 9, 0.1, least, 0.03, 0.04
    )
    compared = Comparison(
        rows=40,
        classes=list("abcd"),
        per_class=[10] * 4,
        arbitrary=arbitrary,
        k=8,
        neighbors=5,
        alpha=0.05,
        power=0.8,
        permutations=99,
        agreements=[agreement(SUBSTRATE, k, 0.1, **p_values) for k in (4, 8)],
        controls=[
            Control("picture: two encoders", True, agreement(CONTROL, 8, 0.9, rows=0.001)),
            Control("picture: itself", True, agreement(CONTROL, 8, 0.02, rows=0.4)),
            Control("shuffled", False, agreement(CONTROL, 8, 0.01, rows=0.6)),
        ],
        planted=[signal] if planted else [],
    )
    return CrossmodalResult(RUN, side, dataclasses.replace(side, name="<b>"), compared)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rows": 0.2, "within": 0.5, "classes": 0.5}, "do not agree beyond chance"),
        ({"rows": 0.01, "within": 0.5, "classes": 0.4}, "is not shown (p = 0.400"),
        ({"rows": 0.01, "within": 0.5, "classes": 0.01}, "The same classes are near each other"),
        ({"rows": 0.01, "within": 0.5, "classes": 0.4}, "within them pairs were made at will"),
        ({"rows": 0.01, "within": 0.5, "arbitrary": False}, "Within classes there is no more"),
        ({"rows": 0.01, "within": 0.01, "arbitrary": False}, "agree within classes too"),
        ({"rows": 0.01, "within": 0.01}, "at will within classes agree by chance"),
        ({"rows": 0.01}, "planted signals put it at 0.040"),
        ({"rows": 0.01, "least": float("nan")}, "no signal that could be planted was found"),
        ({"rows": 0.01, "planted": False}, "a CKA of 0.030 would have been seen, by the null."),
        ({"rows": 0.01}, "Of 2 positive controls 1 agree (CKA 0.020 to 0.900)"),
        ({"rows": 0.01}, "Of 9 shuffled pairings 5% agree, where 5% should by chance."),
        ({"rows": 0.01, "planted": False}, "Shuffled, the two sides give p = 0.600"),
    ],
)
def test_the_finding(options, said):
    assert said in finding(made(**options))


def test_no_arrangement_is_spoken_of_where_nothing_agrees():
    assert "tell the classes apart" not in finding(made(rows=0.2, within=0.5, classes=0.5))


def test_the_summary_has_a_line_for_every_k():
    lines = crossmodal_summary(made(rows=0.01, within=0.5)).splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["4", "8"]
    assert "p, within" in lines[0]


def test_the_page():
    page = crossmodal_page(made(rows=0.01, within=0.5, classes=0.4), {})
    document = Document(render(page))
    assert document.unbalanced == []
    tables = {
        block.file: block for section in page.sections for block in section.blocks
        if hasattr(block, "file")
    }  # fmt: skip
    rows = read_csv(document, "nulls.csv")
    assert [row["null"] for row in rows[::3]] == list(TITLES.values())
    assert len(rows) == 3 * 3
    assert [row["expected"] for row in tables["controls.csv"].rows] == [
        "the question", "agreement", "agreement", "none",
    ]  # fmt: skip
    assert [picture.key for picture in page.pictures] == [
        "sweep-cka", "sweep-mutual-knn", "controls", "planted-cka",
    ]  # fmt: skip
    assert "&lt;b&gt;" in render(page)


def test_a_page_without_classes_and_signals():
    page = crossmodal_page(made(rows=0.2, planted=False), {})
    assert [section.title for section in page.sections][:2] == [
        "Agreement beside chance",
        "Controls",
    ]
    assert len(page.pictures) == 3
