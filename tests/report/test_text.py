"""Numbers and names as text: nothing is lost in CSV, and file names are safe and differ."""

import base64
import csv
import io
import re

import numpy as np
import pytest

from substrate_jax.report import text


@pytest.mark.parametrize(
    "names", [["A", "a"], ["a b", "a/b", "a-b-2"], ["猫", "犬", ""], ["x" * 90]]
)
def test_parts_of_file_names_are_safe_and_differ_in_any_case(names):
    found = text.slugs(names)
    assert list(found) == names
    assert len({slug.lower() for slug in found.values()}) == len(names)
    assert all(re.fullmatch(r"[\w-]{1,64}", slug, re.ASCII) for slug in found.values())


@pytest.mark.parametrize(
    ("value", "style", "want"),
    [
        (None, "score", "–"),
        (np.nan, "p", "–"),
        (np.float32(-0.25), "score", "−0.250"),
        (0.0004, "p", "4e-4"),
        (0.04, "p", "0.040"),
        (-1.0, "log10_p", "0.100"),
        (2.5, "ratio", "2.50×"),
        ("a-b", "text", "a-b"),
    ],
)
def test_values_are_written_in_their_style(value, style, want):
    assert text.number(value, style) == want


def test_csv_gives_numbers_back_in_full():
    matrix = np.array([[1 / 3, np.nan], [-1e-300, 2.0]])
    names = ['a, "b"', "c\nd"]
    rows = list(csv.reader(io.StringIO(text.matrix_csv(names, ["x", "y"], matrix, "name"))))
    assert rows[0] == ["name", "x", "y"]
    assert [row[0] for row in rows[1:]] == names
    assert rows[1][2] == ""
    assert [float(rows[1][1]), *map(float, rows[2][1:])] == [1 / 3, -1e-300, 2.0]


def test_what_a_heat_map_says_leaves_out_what_is_no_number():
    matrix = np.array([[1, 0.25, np.nan], [0.25, 1, 0.75], [np.nan, 0.75, 1]])
    said = text.describe("CKA", ["a", "b", "c"], matrix)
    assert said == "Heat map. CKA: from 0.250 (a and b) to 0.750 (b and c), median 0.500."
    assert text.describe("CKA", ["a"], np.eye(1)) == "Heat map. CKA: no values."


def test_a_uri_holds_its_bytes():
    content = bytes(range(256))
    head, _, tail = text.data_uri(content, "text/csv;charset=utf-8").partition(";base64,")
    assert head == "data:text/csv;charset=utf-8"
    assert base64.b64decode(tail) == content
