"""subs-rank, PARC and kNN accuracy against SciPy and scikit-learn."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize, scale

from substrate_jax.analyses.transferability.scores.consensus import subs_rank
from substrate_jax.analyses.transferability.scores.neighbors import knn_accuracy
from substrate_jax.analyses.transferability.scores.representation import parc

from .data import SHAPES, target


def panel():
    """Three encoders of 60 images that share five directions, and one that shares none."""
    rng = np.random.default_rng(3)
    shared = rng.normal(size=(60, 5)) * [5, 4, 3, 2.5, 2]
    found = {}
    for name, d, weight in [("a", 10, 1.0), ("b", 24, 1.0), ("c", 10, 0.5), ("d", 24, 0.0)]:
        turned = shared @ np.linalg.qr(rng.normal(size=(d, d)))[0][:5]
        found[name] = (weight * turned + rng.normal(size=(60, d))).astype(np.float32)
    return found


def plain_subs_rank(panel, k):
    """By SciPy's Procrustes, alternating from the first encoder."""
    blocks = [
        scale(PCA(k, svd_solver="full").fit_transform(scale(x.astype(np.float64))))
        for x in panel.values()
    ]
    consensus = blocks[0]
    for _ in range(3000):
        aligned = [block @ orthogonal_procrustes(block, consensus)[0] for block in blocks]
        consensus = np.mean(aligned, axis=0)
    axes = np.linalg.svd(consensus, full_matrices=False)[2].T
    return [
        np.mean([abs(np.corrcoef(block @ axis, consensus @ axis)[0, 1]) for axis in axes.T])
        for block in aligned
    ]


def test_subs_rank_is_agreement_with_the_consensus():
    panel_ = panel()
    got = subs_rank(panel_, k=4)
    # The components are exact to 1e-7 of the first variance, over gaps of 1e-2 of it.
    assert got == pytest.approx(plain_subs_rank(panel_, 4), abs=1e-5)
    assert np.all((got >= 0) & (got <= 1))


def test_subs_rank_of_turned_copies_is_one():
    x = panel()["b"].astype(np.float64)
    y = (x - 3) * np.random.default_rng(0).uniform(1, 9, 24)
    assert subs_rank({"a": x, "b": y[:, ::-1]}, k=6) == pytest.approx([1, 1], abs=1e-9)


def test_subs_rank_does_not_depend_on_the_order_of_rows_or_encoders():
    panel_ = panel()
    value = subs_rank(panel_, k=4)
    order = np.random.default_rng(1).permutation(60)
    assert subs_rank({n: x[order] for n, x in panel_.items()}, k=4) == pytest.approx(
        value, abs=1e-6
    )
    assert subs_rank(dict(reversed(panel_.items())), k=4)[::-1] == pytest.approx(value, abs=1e-6)


def test_subs_rank_refuses_what_has_no_consensus():
    panel_ = panel()
    with pytest.raises(ValueError, match="at least 2 encoders, got 1"):
        subs_rank({"a": panel_["a"]})
    with pytest.raises(ValueError, match=r"k must be at most 10 .* of 'a', got 16"):
        subs_rank(panel_)
    with pytest.raises(ValueError, match=r"got \{'a': 60, 'b': 59\}: align them"):
        subs_rank({"a": panel_["a"], "b": panel_["a"][1:]}, k=4)
    constant = np.ones((60, 12), np.float32)
    got = subs_rank({**panel_, "constant": constant}, k=4)
    assert np.isnan(got[-1])
    assert got[:-1] == pytest.approx(subs_rank(panel_, k=4), abs=1e-9)


def plain_parc(x, labels, components=32):
    reduced = PCA(min(components, len(x) - 1, x.shape[1]), svd_solver="full").fit_transform(x)
    peaks = reduced[np.abs(reduced).argmax(0), np.arange(reduced.shape[1])]
    rows = scale(reduced * np.sign(peaks))
    upper = np.triu_indices(len(x), 1)
    distances = 1 - np.corrcoef(rows)[upper]
    return 100 * spearmanr(distances, 1 - np.corrcoef(np.eye(labels.max() + 1)[labels])[upper])[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("components", [32, 5])
def test_parc_is_spearmans_correlation_of_distances(shape, components):
    x, labels = target(*shape)
    labels = np.where(labels == 2, 1, labels)  # classes of unequal size
    want = plain_parc(x.astype(np.float64), labels, components)
    # Of 1,770 distances some pairs may tie in float32, each one of 1,770 ranks.
    assert parc(x, labels, components=components) == pytest.approx(want, abs=1e-3)


def test_parc_averages_the_ranks_of_ties():
    from substrate_jax.analyses.transferability.scores.representation import _spearman_of_two

    rng = np.random.default_rng(0)
    values, high = rng.integers(5, size=200).astype(np.float32), rng.integers(2, size=200) > 0
    assert _spearman_of_two(values, high) == pytest.approx(spearmanr(values, high)[0], rel=1e-12)
    assert np.isnan(_spearman_of_two(np.ones(5, np.float32), np.arange(5) > 2))


@pytest.mark.parametrize(("shape", "k"), [(SHAPES[0], 1), (SHAPES[1], 5), (SHAPES[2], 5)])
def test_knn_accuracy_is_that_of_scikit_learn(shape, k):
    x, labels = target(*shape, apart=0.5)
    # Of normalized rows the Euclidean order is that of cosines, and these weights break ties so.
    unit = normalize(x.astype(np.float64))

    def weights(distances):
        return np.tile(1 + 0.25 * 0.5 ** np.arange(k), (len(distances), 1))

    model = KNeighborsClassifier(k, weights=weights, algorithm="brute")
    want = cross_val_score(model, unit, labels, cv=LeaveOneOut()).mean()
    assert 0.3 < want < 1
    assert knn_accuracy(x, labels, k=k) == pytest.approx(want, abs=1e-12)
    assert knn_accuracy(3 * x, 7 - labels, k=k) == pytest.approx(want, abs=1e-12)


def test_copies_of_rows_are_each_others_neighbors():
    x, labels = target(*SHAPES[0], apart=0.0)
    assert knn_accuracy(np.tile(x, (2, 1)), np.tile(labels, 2), k=1) == 1
