"""From a result to files: JSON in the order of the fields, and all of a file or nothing."""

import dataclasses
import json

import pytest

from substrate_jax.report.files import write_report, write_result
from substrate_jax.report.page import Figures, Page, Picture, Prose, Section
from substrate_jax.report.run import Run
from substrate_jax.report.values import plain
from substrate_jax.report.writing import remove_unfinished, write_file
from tests.report.document import Document
from tests.report.tiny import PIXEL, tiny_result


def test_result_is_json_in_the_order_of_the_fields(tmp_path):
    path = write_result(tiny_result(), tmp_path / "new")
    text = path.read_text(encoding="utf-8")
    loaded = json.loads(text, parse_constant=pytest.fail)
    of_run = [field.name for field in dataclasses.fields(Run) if field.name != "files"]
    assert list(loaded) == [*of_run, "zeta", "matrix", "alpha"]
    assert tiny_result().run.files is None  # and what is absent has no key
    assert loaded == plain(tiny_result())
    assert loaded["matrix"] == [[None, 0.5], [0.25, None]]
    assert f'"alpha": {json.dumps([1, 2])}' in text
    assert "[null, 0.5]" in text


def test_a_report_is_the_page_its_figures_and_the_result(tmp_path):
    picture = Picture("one", "One", "A square.", "A square of one color.", PIXEL, 10)
    page = Page("T", "", [], [Section("S", [Prose(["text"]), Figures([picture])])])
    path = write_report(tiny_result(), page, tmp_path)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == {
        "report.html",
        "result.json",
        "figures/one.png",
    }
    assert (tmp_path / "figures" / "one.png").read_bytes() == picture.png
    (image,) = Document(path.read_text(encoding="utf-8")).all("img")
    assert image["src"] == picture.uri


def test_failed_writes_leave_what_was_there(tmp_path, monkeypatch):
    before = write_result(tiny_result(), tmp_path).read_bytes()
    with pytest.raises(ValueError, match="type object") as error:
        write_result(tiny_result(zeta=object()), tmp_path)
    assert "\n" not in str(error.value)

    def full(*_):
        raise OSError("disk is full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="full"):
        write_result(tiny_result(zeta=1), tmp_path)
    with pytest.raises(OSError, match="full"):
        write_file(tmp_path / "report.html", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert (tmp_path / "result.json").read_bytes() == before


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path, monkeypatch):
    def killed(temporary, path):
        left.append(temporary)
        raise SystemExit

    left = []
    monkeypatch.setattr("os.replace", killed)
    monkeypatch.setattr("pathlib.Path.unlink", lambda path, missing_ok: None)
    for path in (tmp_path / "result.json", tmp_path / "figures" / "one.png"):
        with pytest.raises(SystemExit):
            write_file(path, "half")
    monkeypatch.undo()
    kept = [tmp_path / ".hidden", tmp_path / "result.json", tmp_path / "figures" / "two.png"]
    for path in kept:
        path.touch()
    assert all(path.is_file() and path.name.startswith(".") for path in left)
    remove_unfinished(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_a_result_that_json_cannot_hold_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="result holds a value of type object"):
        write_report(tiny_result(zeta=object()), Page("T", "", [], []), tmp_path / "out")
    assert not (tmp_path / "out").exists()
