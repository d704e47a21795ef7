"""Pages of synthetic results: the answer first, its numbers in the CSV, and every size of run."""

import numpy as np
import pytest

from substrate_jax.analyses.probe.page import probe_page
from substrate_jax.analyses.probe.words import finding, probe_summary
from substrate_jax.report.drawing import PHONE, png
from substrate_jax.report.files import write_report
from substrate_jax.report.plots import Curve, curves
from tests.analyses.probe.synthetic import synthetic_result
from tests.report.boxes import misplaced
from tests.report.document import Document, read_csv


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    result = synthetic_result([2.0, -1.0, 0.5], by_domain=True)
    page = probe_page(result)
    path = write_report(result, page, tmp_path_factory.mktemp("report"))
    return result, Document(path.read_text(encoding="utf-8")), page


def test_the_answer_is_the_first_sentence():
    first = {gain: finding(synthetic_result([gain])) for gain in (20.0, -20.0)}
    assert first[20.0].startswith("Yes: with 50 labels per class, 16 substrate scores are ")
    assert "points better than the best single encoder at full width, " in first[20.0]
    assert first[-20.0].startswith("No: ")
    assert "95% interval over 5 draws of labels" in first[-20.0]
    several = finding(synthetic_result([5.0, -5.0, 0.0]))
    assert several.startswith("Undecided: on 3 targets with 50 labels per class")
    assert "interval over targets" in several
    nothing = synthetic_result([1.0], shots=(1,), heads=("ridge, tuned",))
    assert finding(nothing) == "No head has a value at the numbers of labels asked for."
    assert probe_page(nothing).lede == finding(nothing)


def test_the_page_is_well_formed_and_escaped(report):
    _, document, _ = report
    assert not document.unbalanced
    assert not document.all("i")
    text = " ".join(document.texts)
    assert "$t_0$ <i>" in text
    assert "7 of 90 held-out images are also in the pool" in text
    assert "Its smallest class cannot supply 100, 200 labels." in text
    assert "A note." in text


def test_the_answer_and_its_figure_stand_before_everything(report):
    _, _, page = report
    assert [section.title for section in page.sections] == [
        "16 dimensions or full width",
        "Learning curves",
        "Every input and head",
        "Method",
        "Caveats",
        "Encoders",
        "How this was made",
    ]
    assert page.pictures[0].key == "answers"
    assert len(page.pictures) == 1 + 4


def test_tables_carry_all_numbers(report):
    result, document, _ = report
    rows = read_csv(document, "answers.csv")
    count = sum(len(one.answers) for one in result.targets.values())
    assert len(rows) == count + len(result.overall)
    first = result.targets["$t_0$ <i>"].answers[0]
    of_first = rows[len(result.overall)]
    assert float(of_first["mean"]) == first.mean
    assert float(of_first["low_of_all"]) == first.low_of_all
    assert float(rows[0]["mean"]) == result.overall[0].mean
    methods = read_csv(document, "methods.csv")
    assert len(methods) == sum(len(one.comparison.methods) for one in result.targets.values())
    best = max(float(row["accuracy"]) for row in methods if row["target"] == "$t_0$ <i>")
    assert float(methods[0]["accuracy"]) == best
    assert {row["flops"] for row in methods} >= {"32", "192", "1024"}
    assert len(read_csv(document, "kinds.csv")) == 4 * 2 + 1


def test_the_summary_has_a_line_for_each_answer():
    result = synthetic_result([2.0, -1.0])
    lines = probe_summary(result).splitlines()
    assert sum("ridge, tuned / ridge, tuned" in line for line in lines) == 2
    assert lines[-1].startswith("Do 16 beat full width? Undecided")


def test_curves_show_what_has_a_value_and_cut_intervals_at_the_most():
    nan = float("nan")
    lines = [
        Curve(f"a $long$ name of a method {i}", [1, 10, 50], [nan, 70, 99], *ends, mark)
        for i, (ends, mark) in enumerate(
            [
                (([nan, 60, 97], [nan, 80, 130]), ("#0072b2", "o")),
                (([nan, nan, nan], [nan, nan, nan]), ("#d55e00", "s")),
            ]
        )
    ]
    figure = curves(lines, across="labels", quantity="%", most=100.0)
    drawn = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    for line in drawn:
        # Apart by at most 1.2 % of x, so that intervals stand beside each other.
        np.testing.assert_allclose(line.get_xdata(), [10, 50], rtol=0.0121)
        np.testing.assert_allclose(line.get_ydata(), [70, 99])
    assert figure.axes[0].get_ylim()[1] == 100
    assert figure.get_figwidth() <= PHONE
    assert misplaced(figure) == []
    assert png(figure)
