"""What the page and the summary say, of results whose answer is known."""

import csv
import io

import pytest

from substrate_jax.analyses.emergence.page import emergence_page
from substrate_jax.analyses.emergence.plan import SHUFFLED, SUPERVISED
from substrate_jax.analyses.emergence.words import emergence_summary, finding
from substrate_jax.report.page import Figures, Prose, Table
from tests.analyses.emergence.synthetic import PLAN, result


@pytest.fixture(scope="module")
def found():
    return result()


@pytest.fixture(scope="module")
def drawn(found):
    return emergence_page(found)


def blocks(page, kind):
    return [b for section in page.sections for b in section.blocks if isinstance(b, kind)]


def test_the_first_sentence_has_the_lead_and_its_interval(found):
    said = finding(found)
    rise = found.rise("debiased_cka", "panel")
    assert rise is not None
    assert 1.5 < rise.lead.mean < 2.5
    assert said.startswith("Agreement with the panel (debiased CKA) has half of its rise")
    assert f"{rise.lead.mean:.1f} doublings of the step count before accuracy" in said
    assert f"{rise.lead.low:.1f} to {rise.lead.high:.1f} over 3 seeds" in said
    assert "where labels are shuffled" in said
    assert "without labels (SimCLR)" in said


def test_what_comes_after_and_what_stays_open_are_said_so():
    assert "after accuracy" in finding(result(middle=11.0))
    said = finding(result(middle=9.0, seeds=2, objectives=[SUPERVISED]))
    assert said.startswith("Whether agreement with the panel or accuracy comes first stays open")
    assert "would not show" in said
    assert "one seed has no interval" in finding(result(seeds=1, objectives=[SUPERVISED]))


def test_nothing_learned_is_nothing_to_precede():
    said = finding(result(objectives=[SUPERVISED], learns=False))
    assert said.startswith("Accuracy does not rise")


def test_figures_have_their_numbers_and_words(drawn):
    keys = [picture.key for figures in blocks(drawn, Figures) for picture in figures.pictures]
    want = ["learning", "times", "targets", "objectives", "ranks", "settled", "alpha"]
    assert keys == want
    for picture in drawn.pictures:
        assert picture.alt
        assert picture.caption.endswith(".")
        assert len(picture.csv.splitlines()) > 3


def test_tables_have_every_value(found, drawn):
    rises, controls, values = (one for one in blocks(drawn, Table) if one.file != "encoders.csv")
    first = next(iter(csv.DictReader(io.StringIO(rises.csv))))
    accuracy = found.rise("accuracy")
    assert float(first["end_mean"]) == pytest.approx(accuracy.end.mean)
    assert {row["trained"] for row in controls.rows} == {
        "supervised",
        "labels shuffled",
        "self-supervised (SimCLR)",
    }
    assert len(values.rows) == 9 * len(PLAN.watched)


def test_few_seeds_are_warned_of(drawn):
    def caveats(page):
        return " ".join(text for prose in blocks(page, Prose) for text in prose.paragraphs)

    assert "12.7" not in caveats(drawn)
    assert "12.7" in caveats(emergence_page(result(seeds=2, objectives=[SUPERVISED])))
    assert "One seed has no interval" in caveats(
        emergence_page(result(seeds=1, objectives=[SUPERVISED]))
    )


def test_nothing_leads_an_accuracy_that_is_chance(found):
    leads = [one.lead for one in found.rises if one.objective == SHUFFLED]
    assert leads
    assert all(lead.seeds == 0 for lead in leads)


def test_the_summary_is_a_table(found):
    lines = emergence_summary(found).splitlines()
    assert lines[1].startswith("curve")
    assert any(line.startswith("test accuracy") for line in lines)
    assert any("labels shuffled" in line for line in lines)
