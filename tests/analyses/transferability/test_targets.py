"""A panel measured on made-up targets: what is better ranks higher, what cannot be is named."""

import dataclasses

import numpy as np
import pytest

from substrate_jax.analyses.transferability.judgment import STATIC
from substrate_jax.analyses.transferability.page import transferability_page
from substrate_jax.analyses.transferability.results import TransferabilityResult
from substrate_jax.analyses.transferability.targets import (
    ALIGNMENT,
    CLASSIFIERS,
    PANEL,
    PARAMETERS,
    PCKA,
    SOURCE_ACCURACY,
    labeled_halves,
    measure_targets,
)
from substrate_jax.analyses.transferability.words import finding, transferability_summary
from substrate_jax.features import Features
from substrate_jax.report.files import write_report
from substrate_jax.report.run import ImageSet, Run
from substrate_jax.substrate import pcka

ENCODERS = ("best", "good", "fair", "poor", "noise")
APART = (0.9, 0.5, 0.35, 0.2, 0.0)
SCORES = ["subs_rank", "logme", "h_score", "knn"]
RUN = Run("transferability", "python", {}, {}, {}, {}, [], [])


def target(seed: int, n: int = 96, classes: int = 3, *, labeled: bool = True) -> Features:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    rows = {}
    for name, apart in zip(ENCODERS, APART, strict=True):
        centers = rng.normal(size=(classes, 12))
        rows[name] = (rng.normal(size=(n, 12)) + apart * centers[labels]).astype(np.float32)
    return Features(tuple(map(str, range(n))), labels if labeled else None, rows)


def measured(features, **options):
    halves, left_out = labeled_halves(features)
    images = {name: ImageSet("made", "0", "", 3) for name in features}
    tables, reasons = measure_targets(
        features,
        halves,
        images,
        families=list("abcde"),
        parameters=options.pop("parameters", [5, 4, 3, 2, 1]),
        **{"scores": SCORES, "k": 4, "draws": 100} | options,
    )
    part = tables.get(CLASSIFIERS)
    return (tables[PANEL], *([part] if part else []), left_out + reasons)


@pytest.fixture(scope="module")
def found():
    features = {name: target(seed) for seed, name in enumerate(("sky", "sea", "land"))}
    return measured(features | {"void": target(9, labeled=False)})


def test_what_is_measured(found):
    table, notes = found
    judged = table.judgment
    assert judged.targets == ("sky", "sea", "land")
    assert judged.models == ENCODERS
    assert set(judged.scores) == {*SCORES, ALIGNMENT, PCKA, PARAMETERS, STATIC}
    assert notes == ["void is left out: its images have no labels."]
    assert table.targets["sky"].fitted == table.targets["sky"].held_out == 48
    # The classes are as far apart as the table says, for every target.
    assert (table.accuracy[0] > table.accuracy[-1]).all()
    tau = judged.value[:, judged.metrics.index("tau")]
    assert tau[judged.scores.index("logme")] > 0.5
    assert (table.scores[PARAMETERS] == np.array([5, 4, 3, 2, 1])[:, None]).all()
    assert (np.abs(table.scores[ALIGNMENT]) <= 1).all()
    assert table.choice.first == "subs_rank"


def test_pcka_is_that_of_an_encoder_alone_with_every_other_target(found):
    table, _ = found
    halves, _ = labeled_halves({name: target(seed) for seed, name in enumerate(("sky", "sea"))})
    features = {name: target(seed) for seed, name in enumerate(("sky", "sea", "land"))}
    fit = halves["sky"].fit  # the same rows of every target: labels are the same
    for row, encoder in enumerate(ENCODERS):
        alone = {name: {encoder: of[encoder][fit]} for name, of in features.items()}
        for column, name in enumerate(features):
            others = [pcka(alone[name], alone[other], 4) for other in features if other != name]
            assert table.scores[PCKA][row, column] == pytest.approx(np.mean(others), abs=1e-5)


def test_accuracies_measured_elsewhere_are_taken_as_they_are():
    features = {name: target(seed) for seed, name in enumerate(("sky", "sea"))}
    given = {"sky": np.arange(5.0), "sea": np.arange(5.0)[::-1]}
    options = {"accuracy": given, "truth": "mine.csv", "source_accuracy": [9, 8, 7, 6, 5]}
    table, _ = measured(features, **options, scores=["h_score"])
    assert (table.accuracy == np.stack([given["sky"], given["sea"]], axis=1)).all()
    assert table.truth == "mine.csv"
    assert table.scores[SOURCE_ACCURACY][:, 0].tolist() == [9, 8, 7, 6, 5]
    assert table.judgment.per_target[
        table.judgment.scores.index(SOURCE_ACCURACY), table.judgment.metrics.index("tau")
    ].tolist() == [-1, 1]


def test_the_page_and_the_summary(found, tmp_path):
    table, _ = found
    result = TransferabilityResult(RUN, {"panel": table})
    text = write_report(result, transferability_page(result), tmp_path).read_text("utf-8")
    plain = " ".join(text.split())
    for said in (
        finding(table),
        "LogME",
        "Kendall",
        "3 classes; 48 images fitted to, 48 held out",
        "Choosing in two steps",
        "random order",
    ):
        assert said in plain, said
    assert ">nan<" not in plain
    assert "LogME" in transferability_summary(result)


def test_a_score_without_a_value_is_left_out_and_said(found):
    features = {name: target(seed) for seed, name in enumerate(("sky", "sea", "land"))}
    table, notes = measured(features, k=60)
    assert "subs_rank" not in table.scores
    assert table.choice is None
    assert any(note.startswith("subs_rank is left out: ") for note in notes)


def test_targets_that_hardly_rank_are_named():
    easy = target(0)
    rows = {
        name: block + 50 * np.eye(3, 12, dtype=np.float32)[easy.labels]
        for name, block in easy.arrays.items()
    }
    features = {"easy": dataclasses.replace(easy, arrays=rows), "sea": target(1)}
    _, notes = measured(features, parameters=[None, 4, 3, 2, 1])
    assert "easy hardly ranks the encoders: 5 of 5 have the best accuracy, 100.0%." in notes


def changed(features: Features, **blocks) -> Features:
    return dataclasses.replace(features, arrays={**features.arrays, **blocks})


BAD = {
    "constant features": (
        lambda: {"sky": changed(target(0), poor=np.ones((96, 12), np.float32))},
        "poor gives every image of sky the same features",
    ),
    "no labels": (lambda: {"sky": target(0, labeled=False)}, "no target has two classes: sky is"),
    "one class": (lambda: {"sky": target(0, classes=1)}, "no target has two classes.*one class"),
    "a small class": (lambda: {"sky": target(0, n=96, classes=40)}, "target 'sky': class 16 has 2"),
    "NaN": (
        lambda: {"sky": changed(target(0), poor=np.full((96, 12), np.nan, np.float32))},
        "nan|NaN|finite",
    ),
    "two encoders": (
        lambda: {
            "sky": dataclasses.replace(
                target(0), arrays={name: target(0)[name] for name in ENCODERS[:2]}
            )
        },
        "2 encoders cannot be ranked",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
    features, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        measured(features())
    assert "\n" not in str(caught.value)


def classes_seen(seed: int, n: int = 96, classes: int = 4) -> np.ndarray:
    """Probabilities of source classes that say something of the labels of `target`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(3, classes)[np.arange(n) % 3]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def with_classes():
    """Three of the encoders have classes, `poor` and `noise` have none."""
    features = {name: target(seed) for seed, name in enumerate(("sky", "sea"))}
    heads = {
        name: {encoder: classes_seen(10 * j + i) for i, encoder in enumerate(ENCODERS[:3])}
        for j, name in enumerate(features)
    }
    without = {"poor": "it was not trained on classes (self supervised)", "noise": "a file"}
    scores = ["leep", "nce", "logme"]
    options = {"source_probabilities": heads, "without_classes": without, "scores": scores}
    return heads, measured(features, **options, draws=0)


def test_leep_and_nce_are_judged_on_the_encoders_with_classes(with_classes):
    heads, (table, part, notes) = with_classes
    assert notes == []
    assert table.judgment.models == ENCODERS
    assert not {"leep", "nce"} & set(table.scores)
    assert part.judgment.models == ENCODERS[:3]
    assert set(part.without) == set(ENCODERS[3:])
    assert (part.scores["logme"] == table.scores["logme"][:3]).all()
    assert (part.accuracy == table.accuracy[:3]).all()
    halves, _ = labeled_halves({name: target(seed) for seed, name in enumerate(("sky", "sea"))})
    for j, name in enumerate(heads):
        fit, labels = halves[name].fit, halves[name].labels
        for i, encoder in enumerate(ENCODERS[:3]):
            theta, y = heads[name][encoder][fit], labels[fit]
            # Nguyen et al. 2020, eqs. 1 to 3, and Tran et al. 2019, eq. 6, sum by sum.
            joint = np.zeros((3, 4))
            counted = np.zeros((3, 4))
            for row, label in zip(theta, y, strict=True):
                joint[label] += row / len(y)
                counted[label, row.argmax()] += 1 / len(y)
            leep = np.mean(
                [
                    np.log(sum(joint[label, z] / joint[:, z].sum() * row[z] for z in range(4)))
                    for row, label in zip(theta, y, strict=True)
                ]
            )
            nce = sum(
                counted[k, z] * np.log(counted[k, z] / counted[:, z].sum())
                for k in range(3)
                for z in range(4)
                if counted[k, z]
            )
            assert part.scores["leep"][i, j] == pytest.approx(leep, abs=1e-12)
            assert part.scores["nce"][i, j] == pytest.approx(nce, abs=1e-12)


def test_encoders_without_classes_are_named_on_the_page(with_classes, tmp_path):
    _, (table, part, _) = with_classes
    result = TransferabilityResult(RUN, {PANEL: table, CLASSIFIERS: part})
    text = write_report(result, transferability_page(result), tmp_path).read_text("utf-8")
    plain = " ".join(text.split())
    assert plain.index(finding(table)) < plain.index("Those of them")
    assert "Those of them that were trained on classes: 3 models, 2 targets" in plain
    assert "it was not trained on classes (self supervised)" in plain
    assert "classifiers: 3 models" in transferability_summary(result)


def test_two_encoders_with_classes_are_too_few_and_all_need_no_table_apart():
    features = {"sky": target(0)}
    heads = {"sky": {name: classes_seen(i) for i, name in enumerate(ENCODERS)}}
    two = {"sky": {name: heads["sky"][name] for name in ENCODERS[:2]}}
    without = dict.fromkeys(ENCODERS[2:], "none")
    options = {"scores": ["leep", "h_score"], "draws": 0}
    table, notes = measured(features, source_probabilities=two, without_classes=without, **options)
    assert "leep" not in table.scores
    assert notes == ["leep: only 2 of 5 encoders have classes, too few to be ranked."]
    table, notes = measured(features, source_probabilities=heads, **options)
    assert "leep" in table.scores
    assert notes == []
