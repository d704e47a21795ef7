"""Pages of synthetic results: the answer first, its numbers in the CSV, and every size of run."""

import pytest

from substrate_jax.analyses.unlabeled.page import unlabeled_page
from substrate_jax.analyses.unlabeled.words import finding, unlabeled_summary
from substrate_jax.report.files import write_report
from tests.analyses.unlabeled.synthetic import SEEDS, synthetic_result
from tests.report.document import Document, read_csv


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    result = synthetic_result()
    page = unlabeled_page(result)
    path = write_report(result, page, tmp_path_factory.mktemp("report"))
    return result, Document(path.read_text(encoding="utf-8")), page


def test_the_answer_is_the_first_sentence():
    result = synthetic_result(3.0, 1.0)
    scratch, one, net = (result.at(name, 5) for name in result.plan.pretrainings[:3])
    assert one.gain
    assert net.ahead
    gains = finding(result)
    assert gains.startswith(
        "With 5 labels per class, pretraining on the panel's substrate gains "
        f"{one.gain.mean:.1f} points over none at all ({scratch.accuracy:.1f}%) "
        f"({one.gain.low:.1f} to {one.gain.high:.1f}; 3 seeds, mean of 2 sets). "
        f"It is ahead of components of $net$ <i> ({net.ahead.mean:.1f} points), "
    )
    assert "Its features fill 20 of 128 dimensions (RankMe; 9 before pretraining), and no " in gains
    result = synthetic_result(-3.0, 1.0, sets=("cells",))
    loses, one = finding(result), result.at("substrate", 5)
    assert one.gain
    assert f"loses {-one.gain.mean:.1f} points to none at all (" in loses
    assert "; 3 seeds). It is behind components of " in loses
    nothing = finding(synthetic_result(0.0, 0.0))
    assert "shows no difference from none at all" in nothing
    assert "points could not have been shown." in nothing
    assert "It is not told apart from pretraining on " in nothing
    assert "Its features collapsed: they are the same" in finding(synthetic_result(constant=1.0))
    without = finding(synthetic_result(pretrainings=("scratch", "simclr")))
    assert without == "Nothing was pretrained on a target: accuracies stand in the table."


def test_the_page_is_well_formed_and_escaped(report):
    _, document, page = report
    assert not document.unbalanced
    assert not document.all("i")
    text = " ".join(document.texts)
    assert "components of $net$ <i>" in text
    assert "very pixels of one that was pretrained on: 2 of 300." in text
    assert "A note." in text
    assert [section.title for section in page.sections] == [
        "What pretraining gains with 5 labels per class",
        "Number of labels, and set by set",
        "The pretrained networks",
        "Every fine-tuning",
        "Method",
        "Caveats",
        "Encoders",
        "How this was made",
    ]
    assert [one.key for one in page.pictures] == ["gains", "ahead", "labels", "set_0", "set_1"]


def test_tables_carry_all_numbers(report):
    result, document, _ = report
    rows = read_csv(document, "conditions.csv")
    assert len(rows) == len(result.outcomes)
    for row, one in zip(rows, result.outcomes, strict=True):
        assert [float(row[f"seed_{seed}"]) for seed in SEEDS] == list(one.accuracy)
        assert (row["pretraining"], row["images"]) == (
            one.condition.pretraining,
            one.condition.images,
        )
    networks = read_csv(document, "pretrained.csv")
    assert [row["rankme"] for row in networks] == ["9.0", *["20.0"] * 4]
    # 140 steps of 64 at 100 images a second; what was not trained took no time.
    assert [row["time"] for row in networks] == ["–", *["90 s"] * 4]


@pytest.mark.parametrize(
    ("result", "first"),
    [
        (synthetic_result(pretrainings=("scratch",)), "The pretrained networks"),
        (
            synthetic_result(sets=("cells",), labels=(0,), rates=(0.1,)),
            "What pretraining gains with all labels",
        ),
    ],
)
def test_small_runs_have_a_page_too(tmp_path, result, first):
    page = unlabeled_page(result)
    assert page.sections[0].title == first
    write_report(result, page, tmp_path)


def test_the_summary_has_a_line_for_each_way():
    result = synthetic_result()
    lines = unlabeled_summary(result).splitlines()
    assert len(lines) == 2 + len(result.pooled) + 1
    assert lines[-1] == finding(result)
