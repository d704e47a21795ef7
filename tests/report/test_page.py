"""A page as data: what a table has in its CSV, and which pictures a page holds."""

import io

import numpy as np
from PIL import Image

from substrate_jax.report.page import Column, Figures, Page, Picture, Prose, Section, Table, drawn
from substrate_jax.report.plots import bars
from tests.report.document import image_of

COLUMNS = [Column("name", "Name"), Column("p", "p", "p"), Column("seed", "", shown=False)]


def test_every_column_of_a_table_is_in_its_csv_and_the_shown_ones_in_the_page():
    rows = [{"name": 'a "b"', "p": np.float32(0.5), "seed": 3, "more": 1}]
    table = Table("", "", COLUMNS, rows, "rows.csv")
    assert [column.key for column in table.shown] == ["name", "p"]
    assert [column.numeric for column in COLUMNS] == [False, True, False]
    assert table.csv == 'name,p,seed\n"a ""b""",0.5,3\n'


def test_pictures_of_a_page_stand_in_order():
    first, second, third = (Picture(key, "", "", "", b"", 1) for key in "abc")
    sections = [
        Section("", [Figures([first]), Prose([""]), Figures([second])]),
        Section("", [Figures([third])]),
    ]
    assert Page("", "", [], sections).pictures == [first, second, third]


def test_a_drawn_figure_is_as_wide_as_its_type_asks():
    figure = bars({"h": {"a": 1.0}}, baseline=0.5, quantity="q", line="l")
    picture = drawn("key", "title", "caption", "alt", figure, "csv")
    assert picture.width == round(96 * figure.get_figwidth())
    assert picture.png.startswith(b"\x89PNG")
    shown, saved = image_of(picture.uri), Image.open(io.BytesIO(picture.png))
    np.testing.assert_array_equal(shown, saved)
