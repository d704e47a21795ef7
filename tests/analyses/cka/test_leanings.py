"""With which kind of encoders each agrees: by loops over domains and pairs."""

import numpy as np
from scipy import stats

from substrate_jax.analyses.cka.leanings import leanings
from substrate_jax.encoders.registry import paradigm_groups

KINDS = ("supervised", "self_supervised", "masked_reconstruction", "image_text", "untrained")


def found_of(paradigms, scores):
    names = [f"e{i}" for i in range(len(paradigms))]
    return leanings(names, [paradigm_groups(p) for p in paradigms], scores)


def test_means_and_intervals_are_those_of_the_definition():
    paradigms = [*KINDS, "masked_reconstruction", "supervised"]
    scores = np.random.default_rng(0).uniform(size=(4, 7, 7))
    found = found_of(paradigms, scores)
    assert [row.encoder for row in found] == [f"e{i}" for i in range(7)]
    for x, row in enumerate(found):
        means = []
        for domain in scores:
            kinds = [
                np.mean([domain[x, y] for y in members if y != x])
                for members in ((0, 1, 6), (2, 5))
            ]
            means.append(kinds)
        differences = [a - b for a, b in means]
        np.testing.assert_allclose((row.discriminative, row.mim), np.mean(means, axis=0))
        interval = stats.t.interval(0.95, 3, np.mean(differences), stats.sem(differences))
        np.testing.assert_allclose((row.low, row.high), interval)
        np.testing.assert_allclose(row.difference, np.mean(differences))


def test_one_domain_has_no_interval_and_a_kind_alone_no_row():
    scores = np.random.default_rng(0).uniform(size=(1, 3, 3))
    (row,) = found_of(KINDS[1:4], scores)  # of the others each lacks a kind
    assert row.encoder == "e2"
    assert np.isnan(row.low)
    assert found_of(("supervised",) * 3, scores) == []
