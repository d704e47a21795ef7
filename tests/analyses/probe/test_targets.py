import numpy as np
import pytest

from substrate_jax.analyses.probe.targets import WHICH_DOMAIN, labeled_sets
from substrate_jax.features import Features

RNG = np.random.default_rng(0)


def features(domain: str, labels, names=(), rows: int = 12) -> Features:
    ids = tuple(f"{domain}/{row}" for row in range(rows))
    arrays = {"one": RNG.normal(size=(rows, 3)).astype(np.float32)}
    return Features(ids, None if labels is None else np.asarray(labels), arrays, names)


SKY = features("sky", [0, 1] * 6, ("cat", "dog"))
SEA = features("sea", None, rows=5)


def test_all_domains_together_are_the_last_target():
    pixels = {"sky": np.zeros((12, 4)), "sea": np.ones((5, 4))}
    found, left_out = labeled_sets({"sky": SKY, "sea": SEA}, pixels)
    assert list(found) == ["sky", WHICH_DOMAIN]
    assert left_out == ["sea is no target of its own: its images have no labels."]
    which = found[WHICH_DOMAIN]
    assert which.labels.tolist() == ["sky"] * 12 + ["sea"] * 5
    assert np.array_equal(which.features["one"], np.concatenate([SKY["one"], SEA["one"]]))
    assert which.pixels is not None
    assert which.pixels[:, 0].tolist() == [0] * 12 + [1] * 5


def test_labels_without_words_and_negative_ones_stay_numbers():
    found, _ = labeled_sets({"sky": features("sky", [-1, 2] * 6, ("cat", "dog", "eel"))})
    assert list(found) == ["sky"]
    assert found["sky"].labels.tolist() == [-1, 2] * 6


def test_numbers_that_the_smallest_class_cannot_supply_are_named():
    drawn, left_out = labeled_sets({"sky": SKY})[0]["sky"].episodes((1, 3, 4, 50))
    assert drawn.shots == (1, 3)
    assert left_out == [4, 50]
    with pytest.raises(ValueError, match="4 labels per class need 7"):
        labeled_sets({"sky": SKY})[0]["sky"].episodes((4, 50))


def test_rows_in_both_halves_are_counted_by_pixels_if_there_are_any():
    pixels = np.zeros((12, 4))
    found = labeled_sets({"sky": SKY}, {"sky": pixels})[0]["sky"]
    drawn, _ = found.episodes((1,))
    assert found.repeated(drawn) == 6
    assert labeled_sets({"sky": SKY})[0]["sky"].repeated(drawn) == 0
    doubled = pixels + np.arange(12)[:, None]
    doubled[drawn.test[0]] = doubled[drawn.pool[0]]
    assert labeled_sets({"sky": SKY}, {"sky": doubled})[0]["sky"].repeated(drawn) == 1


@pytest.mark.parametrize(
    ("domains", "words"),
    [
        ({"sea": SEA}, "nothing to tell apart: sea is no target of its own: its images have no"),
        ({"sky": features("sky", [0] * 12)}, "its images are of one class"),
        ({WHICH_DOMAIN: SKY, "sea": SEA}, "a domain is called 'which domain'"),
    ],
)
def test_what_has_nothing_to_tell_apart_is_refused(domains, words):
    with pytest.raises(ValueError, match=words):
        labeled_sets(domains)
