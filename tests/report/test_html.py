"""A page of every kind of block: it requests nothing, and text and numbers are held as they are."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from substrate_jax.report import heatmaps
from substrate_jax.report.drawing import Point
from substrate_jax.report.html import render
from substrate_jax.report.page import (
    Column,
    Facts,
    Figures,
    Page,
    Picture,
    Prose,
    Section,
    Sheet,
    Table,
    drawn,
    provenance,
)
from substrate_jax.report.tags import Tag
from substrate_jax.report.text import matrix_csv
from substrate_jax.report.thumbnails import sheet_row, strip
from tests.report.document import Document, read_csv
from tests.report.tiny import PIXEL, tiny_result

ROOT = Path(__file__).parents[2]
HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)> &amp; $\\frac{$ 猫"
IMAGES = list(np.random.default_rng(1).integers(0, 256, (3, 40, 60, 3), np.uint8))
VALUES = np.array([[1.0, 0.5], [0.5, 1.0]])


def page_of(text: str) -> Page:
    """A page of every kind of block, with a text wherever one can stand."""
    figure = heatmaps.heatmap(VALUES, [text, "b"], quantity=text)
    csv = matrix_csv([text, "b"], [text, "b"], VALUES, "name")
    tag = Tag("T", "#009e73", text)
    columns = [Column("name", text), Column("p", "p", "p"), Column("hidden", "", shown=False)]
    rows = [
        {"name": text, "p": np.float32(0.5), "hidden": 1e-17},
        {"name": "b", "p": np.nan, "hidden": None},
    ]
    blocks = [
        Prose([text, text], title=text, points=True),
        Figures([drawn("one", text, text, text, figure, csv)], title=text, legend=[tag]),
        Table(text, text, columns, rows, "rows.csv", {text: tag}, folded=True),
        Facts({text: text}, title=text),
        strip(IMAGES, text, text),
        Sheet([sheet_row(text, text, {text: IMAGES})], text, text),
    ]
    sections = [Section(text, blocks), Section("Run", provenance(tiny_result().run))]
    return Page(text, text, [(text, text, text)], sections)


@pytest.fixture(scope="module")
def document():
    return Document(render(page_of(HOSTILE)))


def test_the_page_requests_nothing_and_is_well_formed(document):
    assert document.open == []
    assert document.unbalanced == []
    for _, attributes in document.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert attributes.get(name, "data:").startswith(("data:", "#section-"))
    policy = [m["content"] for m in document.all("meta") if "http-equiv" in m]
    assert policy[0].startswith("default-src 'none'; img-src data:;")
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_style_and_script_are_in_the_page_as_they_stand():
    text = render(Page("T", "", [], []))
    folder = ROOT / "substrate_jax" / "report" / "templates"
    for element, file in (("style", "report.css"), ("script", "report.js")):
        content = (folder / file).read_text(encoding="utf-8")
        assert text.count(f"<{element}>") == 1
        assert f"<{element}>\n{content}</{element}>" in text
        # What a parser would take for the end of the element, or of its text.
        assert "</" not in content


def test_hostile_text_is_text_in_every_block(document):
    assert len(document.all("script")) == 1
    assert not any(image["src"] == "x" for image in document.all("img"))
    assert sum(HOSTILE in text for text in document.texts) >= 15
    (row, _) = read_csv(document, "rows.csv")
    assert row["name"] == HOSTILE


def test_cells_hold_their_values_and_csv_all_columns(document):
    values = [a["data-v"] for a in document.all("td") if "data-v" in a]
    assert values == ["0.5"]
    first, second = read_csv(document, "rows.csv")
    assert (first["p"], first["hidden"]) == ("0.5", "1e-17")
    assert (second["p"], second["hidden"]) == ("", "")
    one, _ = read_csv(document, "figure-one.csv")
    assert [one[HOSTILE], one["b"]] == ["1.0", "0.5"]


def test_figures_carry_what_their_places_say(document):
    (places,) = [json.loads(a["data-places"]) for a in document.all("div") if "data-places" in a]
    assert [set(place["rows"]) for place in places] == [{HOSTILE, "b"}]
    assert places[0]["values"] == [["1.000", "0.500"], ["0.500", "1.000"]]


def test_points_in_a_row_share_the_beginning_of_their_words():
    points = [Point(0.1, 0.2, "a: b: 1"), Point(0.3, 0.4, "a: b: 2"), Point(0.5, 0.6, "alone")]
    picture = Picture("one", "One", "", "", b"", 10, readings=points)
    assert picture.places == [
        {"name": "a: b: ", "points": [(0.1, 0.2, "1"), (0.3, 0.4, "2")]},
        {"name": "", "points": [(0.5, 0.6, "alone")]},
    ]


def test_how_a_result_was_made_is_in_the_page(document):
    text = " ".join(document.texts)
    run = tiny_result().run
    for expected in (run.command, "0.10.2", "33.4 s", "data=1"):
        assert expected in text


def test_of_many_points_two_are_in_view():
    points = [f"point {i}" for i in range(6)]
    document = render(Page("P", "", [], [Section("Caveats", [Prose(points, points=True)])]))
    shown, _, folded = document.partition('<details class="more"><summary>4 more</summary>')
    assert ["point 1" in shown, "point 2" in shown, "point 2" in folded] == [True, False, True]
    few = render(Page("P", "", [], [Section("Caveats", [Prose(points[:4], points=True)])]))
    assert "<details" not in few


def test_sections_are_linked_by_their_titles():
    sections = [Section(title, []) for title in ("What it is", "Ünter <b>", "What it is?")]
    document = render(Page("P", "", [], sections))
    for name in ("What-it-is", "nter-b", "What-it-is-2"):
        assert document.count(f'id="section-{name}"') == 1
        assert document.count(f'href="#section-{name}"') == 2  # in the contents, and beside it


def test_the_first_figure_is_large_where_it_stands_alone():
    one, two = (Picture(key, key, "", "", PIXEL, 400) for key in ("one", "two"))
    alone, beside = Figures([one]), Figures([one, two])
    sections = [Section("A", [alone]), Section("B", [Figures([two])])]
    assert re.findall(r'id="(\w+)" class="lead', render(Page("P", "", [], sections))) == ["one"]
    assert 'class="lead' not in render(Page("P", "", [], [Section("A", [beside])]))
