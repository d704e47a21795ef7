"""Targets: what each keeps of the substrate, and what it takes away."""

import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax import kernels
from substrate_jax.analyses.distill.targets import make_target, padded
from substrate_jax.features import Features
from substrate_jax.substrate import Substrate

ROWS, K = 40, 3
LABELS = np.arange(ROWS) % 4
IDS = tuple(f"image{row}" for row in range(ROWS))


def features(seed):
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(ROWS, 5)).astype(np.float32)
    return Features(IDS, None, {"one": own, "two": (own @ rng.normal(size=(5, 7))).astype("f4")})


PANEL, UNTRAINED, PIXELS = features(0), features(1), features(2)


def target(name, seed=0, k=K):
    def panel():
        return PANEL

    return make_target(name, LABELS, panel, lambda: UNTRAINED, lambda: PIXELS, k=k, seed=seed)


def cka(a, b):
    return float(kernels.cka(jnp.asarray(a), jnp.asarray(b)))


def test_the_substrate_is_that_of_the_panel():
    found = target("substrate")
    arrays = dict(PANEL.items())
    want = np.asarray(Substrate.fit(arrays, K).transform(arrays))
    np.testing.assert_allclose(found.scores, want, atol=1e-5 * np.abs(want).max())
    assert found.ids == IDS
    for name, given in (("untrained", UNTRAINED), ("pixels", PIXELS)):
        arrays = dict(given.items())
        want = np.asarray(Substrate.fit(arrays, K).transform(arrays))
        np.testing.assert_allclose(target(name).scores, want, atol=1e-5 * np.abs(want).max())


def test_of_one_encoder_it_is_its_components():
    (scores,) = [target("encoder:two").scores]
    x = np.asarray(PANEL["two"], np.float64)
    x = (x - x.mean(0)) / x.std(0)
    left, values, _ = np.linalg.svd(x, full_matrices=False)
    want = (left * values)[:, :K]
    np.testing.assert_allclose(np.abs(scores), np.abs(want), atol=1e-4 * np.abs(want).max())


def test_shuffles_keep_the_rows_and_labels_say_classes():
    whole = target("substrate").scores
    rows = {row.tobytes(): place for place, row in enumerate(whole)}
    for name, same_class in (("shuffled", False), ("shuffled_within", True)):
        found = target(name).scores
        places = np.array([rows[row.tobytes()] for row in found])
        assert sorted(places) == list(range(ROWS))
        assert (LABELS[places] == LABELS).all() == same_class
        assert np.mean(places == np.arange(ROWS)) < 0.5
        np.testing.assert_array_equal(found, target(name).scores)  # the seed decides
        assert np.any(found != target(name, seed=1).scores)
    np.testing.assert_array_equal(target("labels").scores, np.eye(4)[LABELS])
    random = target("random").scores
    assert random.shape == (ROWS, K)
    assert np.abs(random.mean()) < 5 / np.sqrt(random.size)


def test_scores_made_elsewhere_are_taken_by_id(tmp_path):
    saved = target("substrate")
    order = np.random.default_rng(0).permutation(ROWS)
    path = tmp_path / "target.safetensors"
    more = Features(
        (*(IDS[row] for row in order), "extra"),
        None,
        {"scores": np.concatenate([saved.scores[order], np.zeros((1, K), np.float32)])},
    )
    more.write(path)
    np.testing.assert_array_equal(target(f"file:{path}").scores, saved.scores)
    Features(IDS[:-2], None, {"scores": saved.scores[:-2]}).write(path)
    with pytest.raises(ValueError, match="the target lacks 2 of the 40 rows of the training set"):
        target(f"file:{path}")


def test_padding_and_scale_change_no_cka():
    targets = {name: target(name) for name in ("substrate", "labels")}
    found = padded(targets)
    other = np.asarray(PANEL["one"])
    for name, one in targets.items():
        assert found[name].shape == (ROWS, 4)
        np.testing.assert_allclose(cka(found[name], other), cka(one.scores, other), rtol=1e-5)
        variance = found[name].var(axis=0, ddof=1).sum()
        np.testing.assert_allclose(variance, one.k, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "k", "message"),
    [
        ("encoder:three", K, "encoder:three is none of the panel: one, two; add it to --encoders"),
        ("substrate", 13, "k=13"),
    ],
)
def test_bad_targets_are_refused(name, k, message):
    with pytest.raises(ValueError, match=message):
        target(name, k=k)
