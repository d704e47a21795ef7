"""The detector's parts: the deal, the classifier, the scores, p-values, and what is saved."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.covariance import EmpiricalCovariance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors

import substrate_jax as sj
from substrate_jax.analyses.detector.classify import fit_classifier, probabilities
from substrate_jax.analyses.detector.conformal import p_values, rows_needed
from substrate_jax.analyses.detector.detector import DomainDetector
from substrate_jax.analyses.detector.metrics import separation
from substrate_jax.analyses.detector.parts import deal
from substrate_jax.analyses.detector.scores import SCORES, Reference, likeness, on_substrate
from substrate_jax.analyses.probe.heads.logistic import STRENGTHS
from tests.golden import make_detector_golden

WIDTHS = {"net": 12, "other": 5}
SHIFTS = {"sky": 0.0, "sea": 1.5, "land": 3.0}


def panel(rng: np.random.Generator, shift: float, n: int = 80) -> dict[str, np.ndarray]:
    return {
        name: (rng.normal(size=(n, width)) + shift * (np.arange(width) % 3)).astype(np.float32)
        for name, width in WIDTHS.items()
    }


def domains(seed: int = 0, n: int = 80) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return {name: panel(rng, shift, n) for name, shift in SHIFTS.items()}


@pytest.fixture(scope="module")
def detector():
    return DomainDetector.fit(domains(), k=4)


# The deal.


def ids(of):
    return {name: [f"{name}{row}" for row in range(len(blocks[0]))] for name, blocks in of.items()}


def test_every_row_is_in_one_part_and_shares_hold():
    rng = np.random.default_rng(0)
    of = {name: [rng.normal(size=(n, 2))] for name, n in (("a", 100), ("b", 37))}
    parts = deal(of, ids(of))
    assert (parts.fit.astype(int) + parts.calibrate + parts.held_out == 1).all()
    counts = [[int((part & (parts.codes == c)).sum()) for part in (parts.fit, parts.calibrate)]
              for c in (0, 1)]  # fmt: skip
    assert counts == [[50, 25], [18, 10]]
    assert parts.copies == (0, 0)
    again = deal(of, ids(of), seed=1)
    assert (again.fit != parts.fit).any()


def test_copies_stay_together():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(25, 3)), 4, axis=0)
    of = {"a": [x], "b": [rng.normal(size=(40, 3))]}
    parts = deal(of, ids(of))
    assert parts.copies == (75, 0)
    for row in range(0, 100, 4):
        for part in (parts.fit, parts.calibrate, parts.held_out):
            assert len(set(part[row : row + 4].tolist())) == 1


def test_rows_of_two_domains_are_refused_and_counted():
    x = np.random.default_rng(0).normal(size=(30, 3))
    of = {"a": [x[:20]], "b": [x[17:]]}
    with pytest.raises(ValueError, match="3 rows of domain 'b' are in domain 'a' too, such as"):
        deal(of, ids(of))
    zero = {"a": [np.array([[0.0]])], "b": [np.array([[-0.0]])]}
    with pytest.raises(ValueError, match="1 row of domain 'b' is in"):
        deal(zero, ids(zero))
    with pytest.raises(ValueError, match="two or more"):
        deal({"a": [x]}, {"a": list(range(30))})


# The classifier.


def test_the_classifier_is_scikit_learns_at_the_strength_of_least_fold_loss():
    rng = np.random.default_rng(0)
    codes = np.arange(90) % 3
    x = rng.normal(size=(90, 4)) + 0.8 * np.eye(3, 4)[codes]
    found = fit_classifier(x, codes)
    # The fit scales rows by one number and sums losses: C = 1 / strength on such rows.
    z = x - x.mean(0)
    z = z / np.sqrt((z**2).sum(1).mean())
    model = LogisticRegression(C=1 / found.strength, tol=1e-8, max_iter=2000).fit(z, codes)
    ours = probabilities(found.logits(x))
    np.testing.assert_allclose(ours, model.predict_proba(z), atol=2e-4)
    losses = {}
    for strength in STRENGTHS:
        left = cross_val_predict(
            LogisticRegression(C=1 / strength, max_iter=2000), z, codes, cv=5,
            method="predict_proba",
        )  # fmt: skip
        losses[strength] = -np.log(left[np.arange(90), codes]).mean()
    # Other folds, so the losses agree within their error: a tenth of a nat covers both.
    assert abs(losses[found.strength] - min(losses.values())) < 0.02
    assert abs(found.fold_loss - losses[found.strength]) < 0.1
    assert found.unsolved == 0


def test_too_few_rows_for_folds_are_refused():
    with pytest.raises(ValueError, match="4 rows to fit to, too few for 5 folds"):
        fit_classifier(np.zeros((24, 2)), np.repeat([0, 1], [20, 4]))
    with pytest.raises(ValueError, match="one class"):
        fit_classifier(np.zeros((24, 2)), np.zeros(24, int))


def test_features_that_say_nothing_give_the_shares_of_classes():
    found = fit_classifier(np.zeros((40, 2)), np.repeat([0, 1], [30, 10]))
    p = probabilities(found.logits(np.zeros((1, 2))))
    np.testing.assert_allclose(p, [[0.75, 0.25]], atol=1e-4)


# The scores.


def test_scores_are_those_of_their_definitions():
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 3
    t = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4)) + 3 * np.eye(3, 4)[codes]
    new, logits = rng.normal(size=(17, 4)) * 3, rng.normal(size=(17, 3))
    found = likeness(Reference.of(t, codes), new, logits, np.arange(17.0))
    means = np.stack([t[codes == c].mean(0) for c in range(3)])
    inner = EmpiricalCovariance(assume_centered=True).fit(t - means[codes])
    outer = EmpiricalCovariance().fit(t)
    to_class = np.stack([inner.mahalanobis(new - mean) for mean in means], axis=1)
    near = NearestNeighbors(n_neighbors=10).fit(t).kneighbors(new)[0][:, -1]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    want = {
        "softmax": p.max(1),
        "energy": np.log(np.exp(logits).sum(1)),
        "mahalanobis": -to_class.min(1),
        "relative": outer.mahalanobis(new) - to_class.min(1),
        "neighbors": -near,
        "residual": -np.arange(17.0),
    }
    assert tuple(found) == SCORES
    for name, values in want.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-9, err_msg=name)


def test_scores_tell_the_unknown_as_those_of_pytorch_ood_do():
    data, golden = make_detector_golden.drawn(), json.loads(make_detector_golden.PATH.read_text())
    reference = Reference.of(data["fitted"], data["codes"])
    known, unknown = (
        likeness(reference, data[name], data[f"{name}_logits"], np.zeros(len(data[name])))
        for name in ("known", "unknown")
    )
    assert set(golden["scores"]) == set(SCORES) - {"residual"}
    for name, want in golden["scores"].items():
        found = separation(known[name], unknown[name], np.ones(90, bool))
        assert found.auroc.value == pytest.approx(want["auroc"], abs=1e-9), name
        assert found.fpr95.value == pytest.approx(want["fpr95_of_unknown"], abs=1e-9), name
        turned = separation(-unknown[name], -known[name], np.ones(60, bool))
        assert turned.fpr95.value == pytest.approx(want["fpr95_of_known"], abs=1e-9), name


def test_leaving_the_space_of_the_rows_is_far():
    t = np.zeros((20, 3))
    t[:, :2] = np.random.default_rng(0).normal(size=(20, 2))
    reference = Reference.of(t, np.arange(20) % 2)
    inside, outside = reference.distances(np.array([[0, 0, 0], [0, 0, 5.0]])).min(1)
    assert outside > inside + 10


def test_rows_that_do_not_vary_have_finite_scores():
    reference = Reference.of(np.ones((6, 2)), np.arange(6) % 2)
    found = likeness(reference, np.array([[1.0, 1.0], [4.0, 1.0]]), np.zeros((2, 2)), np.zeros(2))
    assert all(np.isfinite(score).all() for score in found.values())
    assert found["mahalanobis"].tolist() == [0, -9]


def test_residual_and_scores_make_up_the_row(detector):
    rows = panel(np.random.default_rng(5), 1.0, 9)
    t, outside = on_substrate(detector.substrate, rows)
    z = np.asarray(detector.substrate.standardize(rows), np.float64)
    np.testing.assert_allclose((t**2).sum(1) + outside**2, (z**2).sum(1), rtol=1e-5)


# p-values.


def test_false_abstentions_hold_within_binomial_error():
    """Over many calibration sets the share is at most alpha, and near it without ties."""
    rng, alpha, sets, q, n = np.random.default_rng(0), 0.1, 400, 39, 20
    turned = np.zeros(2)
    for _ in range(sets):
        answers, new = rng.integers(0, 2, q), rng.integers(0, 2, n)
        # Scores of the two classes differ: within a class they are exchangeable.
        scores, fresh = rng.normal(size=q) * (1 + 9 * answers), rng.normal(size=n) * (1 + 9 * new)
        p = p_values(fresh, new, scores, answers)
        turned += [np.sum(p[new == c] <= alpha) / max((new == c).sum(), 1) for c in (0, 1)]
    share = turned / sets
    # A set's share varies by its calibration rows (about 20 per class) and by its own ten rows.
    error = np.sqrt(alpha * (1 - alpha) * (1 / 10 + 1 / 20) / sets)
    assert (share < alpha + 4 * error).all()
    # floor(alpha (q + 1)) / (q + 1) of about 20 rows is at least 1 / 19 or so.
    assert (share > 0.05).all()


def test_ties_are_counted_against_abstaining():
    p = p_values(np.zeros(3), np.zeros(3, int), np.zeros(19), np.zeros(19, int))
    assert (p == 1).all()
    lowest = p_values(np.array([-1.0]), np.zeros(1, int), np.zeros(19), np.zeros(19, int))
    assert lowest == [0.05]
    assert rows_needed(0.05) == 19


# The whole.


def test_what_is_known_is_answered_and_what_is_not_is_turned_away(detector):
    fresh = domains(seed=1)
    for name, rows in fresh.items():
        found = detector(rows)
        assert np.mean([one == name for one in found.names]) > 0.9
        assert found.abstained.mean() < 0.2
        np.testing.assert_allclose(found.probabilities.sum(1), 1)
    far = detector({name: x + 40 for name, x in fresh["sky"].items()})
    assert far.abstained.all()
    assert (far.p_values > 0).all()


def test_the_panel_may_come_in_any_order_and_no_other(detector):
    rows = domains(seed=1)["sea"]
    first = detector(rows)
    turned = detector(dict(reversed(rows.items())))
    np.testing.assert_array_equal(first.probabilities, turned.probabilities)
    for other in ({"net": rows["net"]}, rows | {"third": rows["net"]}, {}):
        with pytest.raises(ValueError, match=r"the detector was fitted on net \(12\), other \(5\)"):
            detector(other)
    with pytest.raises(ValueError, match="NaN"):
        detector({"net": np.full((2, 12), np.nan, np.float32), "other": rows["other"][:2]})


def test_no_rows_have_no_answers(detector):
    found = detector({name: np.zeros((0, width), np.float32) for name, width in WIDTHS.items()})
    assert found.names == []
    assert found.probabilities.shape == (0, 3)


def test_more_features_than_rows():
    rng = np.random.default_rng(0)
    wide = {
        name: {"net": (rng.normal(size=(45, 200)) + shift).astype(np.float32)}
        for name, shift in (("a", 0.0), ("b", 1.0))
    }
    found = DomainDetector.fit(wide, k=4)(wide["b"])
    assert np.mean([name == "b" for name in found.names]) > 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": "odin"}, "score='odin': give one of softmax"),
        ({"alpha": 0.0}, "alpha=0.0: give a share"),
        ({"k": 18}, "k=18: give 1 to 17"),
        ({"k": 0}, "k=0"),
    ],
)
def test_options_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        DomainDetector.fit(domains(), **changes)


def test_one_domain_cannot_be_told():
    with pytest.raises(ValueError, match="two or more"):
        DomainDetector.fit({"sky": domains()["sky"]})


# What is saved.


def test_a_saved_detector_says_the_same(detector, tmp_path):
    path = detector.save(tmp_path / "deep" / "detector")
    rows = domains(seed=1)["land"]
    want = detector(rows)
    for given in (path, path.with_suffix(""), path.with_suffix(".safetensors"), path.parent):
        found = sj.DomainDetector.load(given)(rows)
        np.testing.assert_array_equal(found.probabilities, want.probabilities)
        np.testing.assert_array_equal(found.p_values, want.p_values)
        for name in SCORES:
            np.testing.assert_array_equal(found.scores[name], want.scores[name])
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "detector.json",
        "detector.safetensors",
    ]
    again = dataclasses.replace(detector, settings={"normalization": "own"})
    again.save(tmp_path / "again")
    assert DomainDetector.load(tmp_path / "again").settings == {"normalization": "own"}


def spoil_json(**changes):
    def spoil(folder):
        path = folder / "detector.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def spoil_array(name, make):
    """Another array under a name, and the hash of the file as it should be."""

    def spoil(folder):
        from substrate_jax.encoders.weights import file_sha256

        file = folder / "detector.safetensors"
        arrays = load_file(file)
        arrays[name] = make(arrays[name])
        save_file(arrays, file)
        spoil_json(sha256=file_sha256(file))(folder)

    return spoil


SPOILED = {
    "no json": (lambda f: (f / "detector.json").unlink(), "there is no detector.json"),
    "no arrays": (lambda f: (f / "detector.safetensors").unlink(), "no such file"),
    "no JSON in it": (lambda f: (f / "detector.json").write_text("{"), "describes no detector"),
    "a list": (lambda f: (f / "detector.json").write_text("[1]"), "describes no detector"),
    "deep JSON": (
        lambda f: (f / "detector.json").write_text("[" * 10**5), "describes no detector"
    ),
    "another format": (spoil_json(format="x"), "describes no detector"),
    "one domain": (spoil_json(domains=["sky"]), "describes no detector"),
    "numbers for names": (spoil_json(domains=[1, 2, 3]), "describes no detector"),
    "widths of no number": (spoil_json(widths={"net": "12", "other": 5}), "describes no detector"),
    "an unknown score": (spoil_json(score="odin"), "describes no detector"),
    "alpha": (spoil_json(alpha=2.0), "describes no detector"),
    "another's arrays": (spoil_json(sha256="0" * 64), "is not the file that the JSON"),
    "other widths": (spoil_json(widths={"net": 11, "other": 5}), "fit one again"),
    "a domain more": (spoil_json(domains=["sky", "sea", "land", "x"]), "fit one again"),
    "NaN": (spoil_array("mean", lambda x: x * np.nan), "mean is float64"),
    "a shape": (spoil_array("means", lambda x: x[:, :1]), "fit one again"),
    "a type": (spoil_array("calibration_codes", lambda x: x.astype(np.int32)), "fit one again"),
    "codes of no domain": (spoil_array("calibration_codes", lambda x: x + 5), "there are not"),
    "a damaged file": (
        lambda f: (f / "detector.safetensors").write_bytes(b"abc"), "is not a whole safetensors"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILED)
def test_damaged_files_are_refused_in_one_line(case, detector, tmp_path):
    spoil, message = SPOILED[case]
    detector.save(tmp_path / "detector")
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        DomainDetector.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert "detector=" in str(caught.value)
