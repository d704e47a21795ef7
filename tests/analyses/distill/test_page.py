"""Pages of synthetic results: the answer first, its numbers in the CSV, and every size of run."""

import numpy as np
import pytest

from substrate_jax.analyses.distill.page import distill_page
from substrate_jax.analyses.distill.words import distill_summary, finding
from substrate_jax.report.files import write_report
from tests.analyses.distill.synthetic import SEEDS, synthetic_result
from tests.report.document import Document, read_csv


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    result = synthetic_result()
    page = distill_page(result)
    path = write_report(result, page, tmp_path_factory.mktemp("report"))
    return result, Document(path.read_text(encoding="utf-8")), page


def test_the_answer_is_the_first_sentence():
    gains = finding(synthetic_result(3.0, 1.0))
    assert gains.startswith(
        "With 10% of the labels, debiased CKA to the panel's substrate gains 3.0 points over "
        "labels alone (42.0%) ("
    )
    over = [one.over_control.mean for one in synthetic_result(3.0, 1.0).outcomes[2:4]]
    assert f"5 seeds). That is {over[0]:.1f} more than with one-hot labels as the target. " in gains
    assert f"That is {over[1]:.1f} more than with components of $net$ <i> as the target." in gains
    loses = finding(synthetic_result(-3.0, 1.0))
    assert "loses 3.0 points to labels alone" in loses
    assert "With one-hot labels as the target it is 3.9 more." in loses
    nothing = finding(synthetic_result(0.0, 0.0))
    assert "shows no difference from labels alone (42.0%): " in nothing
    assert " points could not have been shown. It is not told apart from other targets: " in nothing
    assert finding(synthetic_result(methods=("ce", "kd"))) == (
        "No method compared features with a target: accuracies stand in the table."
    )


def test_a_null_result_says_what_it_could_have_shown():
    result = synthetic_result(0.0, 0.0)
    effect = result.outcomes[1].gain
    assert f"Less than {effect.least:.1f} points could not" in finding(result)


def test_the_page_is_well_formed_and_escaped(report):
    _, document, page = report
    assert not document.unbalanced
    assert not document.all("i")
    text = " ".join(document.texts)
    assert "components of $net$ <i>" in text
    assert "The student is of its family." in text
    assert "A note." in text
    assert [section.title for section in page.sections] == [
        "What is gained with 10% of the labels",
        "Other shares of the labels, other weights",
        "Every way to learn",
        "Method",
        "Caveats",
        "Encoders",
        "How this was made",
    ]
    assert [picture.key for picture in page.pictures] == [
        "gains",
        "controls",
        "shares",
        "weights_debiased_cka",
        "weights_cka",
    ]


def test_tables_carry_all_numbers(report):
    result, document, _ = report
    rows = read_csv(document, "conditions.csv")
    assert len(rows) == len(result.outcomes)
    for row, one in zip(rows, result.outcomes, strict=True):
        assert [float(row[f"seed_{seed}"]) for seed in SEEDS] == list(one.accuracy)
        assert row["method"] == one.condition.method
        assert row["target"] == one.condition.target


def test_small_runs_have_a_page_too(tmp_path):
    for changes in ({"methods": ("ce",)}, {"seeds": (0, 1), "fractions": (0.5,), "epochs": (2,)}):
        result = synthetic_result(**changes)
        write_report(result, distill_page(result), tmp_path)
    assert "2 seeds: intervals are wide" in (tmp_path / "report.html").read_text()


def test_the_summary_has_a_line_for_each_outcome():
    result = synthetic_result()
    lines = distill_summary(result).splitlines()
    assert len(lines) == 2 + len(result.outcomes) + 1
    assert lines[-1] == finding(result)
    assert np.isnan(result.outcomes[1].images_per_second)
    assert lines[3].rstrip().endswith("–")
