"""What two results differ in, by hand-made cases."""

import json

import pytest

from substrate_jax.report.difference_page import page, text
from substrate_jax.report.differences import Difference, compare, read_result
from substrate_jax.report.html import render

RUN = {
    "experiment": "cka",
    "command": "python -m experiments.cka",
    "versions": {"jax": "0.10.2"},
    "devices": {"count": 1},
    "seconds": {"total": 12.0},
    "arguments": {"n": 512, "domains": ["a", "b"]},
    "encoders": [{"name": "one", "sha256": "00"}, {"name": "two", "sha256": "11"}],
    "notes": [],
    "tau": 0.25,
    "matrix": [[1.0, 0.5, None], [0.5, 1.0, 0.75], [None, 0.75, 1.0]],
    "rows": [{"pair": "a", "p": [0.5, None]}, {"pair": "b", "p": [1, 2]}],
}


def changed(**keys):
    return compare(RUN, RUN | keys)


def test_equal_results_differ_in_nothing():
    found = changed(command="substrate-jax cka", seconds=RUN["seconds"])
    assert found.differences == []
    assert found.same == 1 + 9 + 6  # tau, the matrix, the rows
    assert text(found) == "no difference in 16 values of the results, nor in what made them"


def test_of_an_array_the_largest_change_is_told():
    matrix = [[1.0, 0.25, None], [0.25, 1.0, 0.5], [None, 0.5, 1.0]]
    (found,) = changed(matrix=matrix).differences
    assert found == Difference("Results", "matrix[0][1]", 0.5, 0.25, -0.25, 0.5, 4, 9)
    assert changed(matrix=matrix).same == 16 - 4


def test_a_number_that_appears_is_the_largest_change():
    matrix = [[1.0, 0.4, 0.9], *RUN["matrix"][1:]]
    (found,) = changed(matrix=matrix).differences
    assert (found.place, found.before, found.after, found.change, found.count) == (
        "matrix[0][2]",
        None,
        0.9,
        None,
        2,
    )


@pytest.mark.parametrize(
    ("keys", "kind", "place", "before", "after"),
    [
        ({"arguments": {"n": 64, "domains": ["a", "b"]}}, "Flags", "n", 512, 64),
        ({"arguments": {"n": 512, "domains": ["a"]}}, "Flags", "domains", '["a", "b"]', '["a"]'),
        ({"arguments": {"n": 512}}, "Flags", "domains", '["a", "b"]', "–"),
        ({"versions": {"jax": "0.11.0"}}, "Versions and devices", "jax", "0.10.2", "0.11.0"),
        ({"notes": ["x"]}, "Notes", "notes", "[]", '["x"]'),
        ({"seconds": {"total": 13.0}}, "Seconds", "seconds.total", 12.0, 13.0),
        ({"new": True}, "Results", "new", "–", True),
        ({"matrix": [[1.0]]}, "Results", "matrix", None, None),
    ],
)
def test_every_kind_of_difference(keys, kind, place, before, after):
    (found,) = changed(**keys).differences
    assert (found.kind, found.place) == (kind, place)
    if before is not None:
        assert (found.before, found.after) == (before, after)


def test_encoders_are_matched_by_their_names():
    encoders = [{"name": "two", "sha256": "11"}, {"name": "three", "sha256": "22"}]
    places = [each.place for each in changed(encoders=encoders).differences]
    assert places == ["encoders.one", "encoders.three"]


def test_entries_without_names_are_matched_by_their_place():
    rows = [{"pair": "a", "p": [0.5, None]}, {"pair": "b", "p": [1, 4]}]
    (found,) = changed(rows=rows).differences
    assert (found.place, found.before, found.after, found.of) == ("rows[1].p[1]", 2.0, 4.0, 2)


def test_the_largest_relative_change_comes_first_and_what_made_it_before():
    found = changed(tau=0.26, matrix=[[2.0]], arguments={"n": 1, "domains": ["a", "b"]})
    assert [each.place for each in found.differences] == ["n", "matrix", "tau"]
    lines = text(found).splitlines()
    assert lines[0] == "Flags: 1 differs"
    assert lines[2] == "Results: 2 values differ, 6 are equal"
    assert lines[-1].split() == ["tau", "0.25", "->", "0.26", "(+4%)"]


def test_results_of_two_launchers_are_refused():
    with pytest.raises(ValueError, match="results of cka and of layers: give two of one launcher"):
        changed(experiment="layers")


def test_the_page_holds_all_of_it_and_escapes_names():
    found = changed(tau=0.5, arguments={"n": "<script>", "domains": ["a", "b"]})
    document = render(page(found, ("runs/a", "runs/b"), "cka"))
    assert "<script>alert" not in document
    assert "&lt;script&gt;" in document
    assert "+0.25" in document
    assert document.count('<section id="section-') == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000, "nan", '"experiment"'])
def test_what_is_no_result_is_refused(content, tmp_path):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(ValueError, match=r"give (the|its) --out folder"):
        read_result(tmp_path)


def test_a_result_is_read_by_its_folder_or_its_file(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps(RUN))
    assert read_result(tmp_path) == read_result(tmp_path / "result.json") == RUN
    with pytest.raises(ValueError, match=r"no result\.json there"):
        read_result(tmp_path / "none")
