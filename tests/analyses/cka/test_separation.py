"""The panel test: oracle of every number, what moves it, and panels that lack something."""

import dataclasses
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.analyses.cka.compare import compare_encoders
from substrate_jax.analyses.cka.pairs import pair_kind, ratio_interval
from substrate_jax.analyses.cka.results import MeanScore, Ratio
from substrate_jax.analyses.cka.separation import POOLED, panel_test, separation
from substrate_jax.encoders.registry import paradigm_groups
from substrate_jax.kernels import resampled
from substrate_jax.kernels.reference import statistics as reference
from tests.helpers import long, tolerance

N, DRAWS, LEVEL, SEED = 45, 39, 0.9, 3  # 45 images divide over 8 devices neither alone nor pooled
KS = (4, 40)  # 40 neighbors are in four fifths of both domains together only
NAMES = ("resnet", "wide", "vit", "mae", "fcmae")
GROUPS = [frozenset({"discriminative", "supervised"})] * 3 + [frozenset({"mim"})] * 2
FAMILIES = ["resnet", "resnet", "vit", "vit", "convnext"]
WIDTHS, NOISE = (12, 16, 12, 16, 12), (1.0, 1.4, 1.2, 2.0, 2.0)
LIMIT = 10 * tolerance(N)


def features(seed):
    """Encoders that share four directions, the masked ones with more noise of their own."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(N, 4))
    return {
        name: (z @ rng.normal(size=(4, d)) + s * rng.normal(size=(N, d)) + 1).astype(np.float32)
        for name, d, s in zip(NAMES, WIDTHS, NOISE, strict=True)
    }


DOMAINS = {"sky": features(0), "sea": features(1)}
TOGETHER = {name: np.concatenate([of[name] for of in DOMAINS.values()]) for name in NAMES}
run = functools.partial(
    panel_test, groups=GROUPS, families=FAMILIES, ks=KS, draws=DRAWS, level=LEVEL, seed=SEED
)


@pytest.fixture(scope="module")
def found():
    return run(DOMAINS)


@pytest.fixture(scope="module")
def draws():
    """Domain -> draws [b, 2, E, E] of CKA and of recall, on one device, without a mask."""

    @jax.jit
    def drawn(blocks, key):
        cka = resampled("cka", blocks, key, draws=DRAWS)[1]
        return jnp.stack([cka, resampled("mutual_knn", blocks, key, draws=DRAWS, k=KS[0])[1]], 1)

    key = jax.random.key(SEED)
    blocks = {name: [jnp.asarray(b) for b in of.values()] for name, of in DOMAINS.items()}
    return {name: np.asarray(drawn(of, key), np.float64) for name, of in blocks.items()}


def oracle(raw, tau, drawn, left_out=()):
    """Observed, low and high of both means and of the ratio, by loops over draws and pairs."""

    def means(values):
        found = []
        for members in ([i for i in range(3) if i not in left_out], [3, 4]):
            pairs = itertools.combinations(members, 2)
            found.append(np.mean([max(0, (values[p] - tau[p]) / (1 - tau[p])) for p in pairs]))
        return (*found, found[0] / found[1] if found[1] else np.inf)

    spread = np.sort([means(draw) for draw in drawn], axis=0)
    at = 1  # floor(1.9) places of 0 .. 38
    assert at <= (1 - LEVEL) / 2 * (DRAWS - 1) < at + 1
    return np.transpose([means(raw), spread[at], spread[-1 - at]])


@pytest.mark.parametrize("name", ["sky", long("sea")])
def test_every_number_is_that_of_the_oracle(found, draws, name):
    images, k = list(DOMAINS[name].values()), KS[0]
    test = found.domains[name]
    assert test.n == N
    assert list(test.mutual_knn) == [k]
    calibrated = compare_encoders(DOMAINS[name], ks=(k,))
    recall = [[reference.mutual_knn(x, y, k) for x in images] for y in images]
    cases = [
        (test.cka, calibrated.calibrated, reference.pairwise_cka(images)),
        (test.mutual_knn[k], calibrated.mutual_knn[k].calibrated, np.array(recall)),
    ]
    for i, (got, want, raw) in enumerate(cases):
        tau, drawn = want.tau.astype(np.float64), draws[name][:, i]
        assert len(got.pairs) == 10
        for pair, (a, b) in zip(got.pairs, itertools.combinations(range(5), 2), strict=True):
            kind = "discriminative" if b < 3 else "mim" if a >= 3 else "other"
            assert (pair.a, pair.b, pair.kind) == (NAMES[a], NAMES[b], kind)
            assert abs(pair.raw - raw[a, b]) < LIMIT
            score = max(0, (raw[a, b] - tau[a, b]) / (1 - tau[a, b]))
            assert abs(pair.score - score) < LIMIT
        high, low, ratio = oracle(raw, tau, drawn)
        assert low[1] < low[0] < low[2]
        assert 1.5 < ratio[0] < 100
        for part, count, expected in ((got.discriminative, 3, high), (got.mim, 1, low)):
            assert part.pairs == count
            np.testing.assert_allclose((part.mean, part.low, part.high), expected, atol=LIMIT)
        same_ratio(got.ratio, ratio, high)
        families = got.leave_out
        assert [entry.family for entry in families] == ["resnet", "vit"]
        assert [entry.encoders for entry in families] == [["resnet", "wide"], ["vit"]]
        # Without the first one discriminative encoder is left, without the second a pair.
        numbers_of = [Ratio(e.ratio, e.low, e.high) for e in families]
        assert numbers_of[0] == Ratio(None, None, None)
        assert families[0].discriminative_mean is None
        high, low, ratio = oracle(raw, tau, drawn, left_out=[2])
        assert abs(families[1].discriminative_mean - high[0]) < LIMIT
        same_ratio(numbers_of[1], ratio, high)


def same_ratio(got, want, high):
    """Inverses, as an open end (None) is 0: they are off by (1 + inverse) LIMIT / mean."""
    inverse = [0 if value is None else 1 / value for value in dataclasses.astuple(got)]
    np.testing.assert_allclose(inverse, 1 / want, atol=2 * LIMIT / min(high))


def test_pooled_images_are_one_domain(found):
    alone = run({"all": TOGETHER}).domains
    assert list(alone) == ["all"]
    assert alone["all"] == found.domains[POOLED]
    assert list(alone["all"].mutual_knn) == [4, 40]
    assert alone["all"].n == 2 * N
    for test in (alone["all"].cka, *alone["all"].mutual_knn.values()):
        for part in (test.discriminative, test.mim):
            assert part.low < part.mean < part.high


def numbers(tree):
    """Every number of plain values in order, None as NaN."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None)
    return np.array([np.nan if v is None else v for v in leaves if not isinstance(v, str)], float)


def observed(tree):
    """A result without its intervals, as plain values."""
    if dataclasses.is_dataclass(tree):
        return observed(dataclasses.asdict(tree))
    if isinstance(tree, dict):
        return {k: observed(v) for k, v in tree.items() if k not in ("low", "high")}
    return [observed(v) for v in tree] if isinstance(tree, list) else tree


def test_means_are_those_of_the_separation(found):
    want = compare_encoders(DOMAINS["sky"], ks=KS[:1])
    test = found.domains["sky"]
    scores = (want.calibrated.score, want.mutual_knn[4].calibrated.score)
    for got, score in zip((test.cka, test.mutual_knn[4]), scores, strict=True):
        wanted = separation(score.astype(np.float64), GROUPS)
        assert got.discriminative.mean == pytest.approx(wanted.discriminative_mean)
        assert got.discriminative.pairs == wanted.discriminative_pairs
        assert got.mim.mean == pytest.approx(wanted.mim_mean)
        assert got.mim.pairs == wanted.mim_pairs
        assert got.ratio.value == pytest.approx(wanted.ratio)


def test_only_intervals_depend_on_the_seed_and_nothing_on_the_order_of_rows(found):
    sky, order = DOMAINS["sky"], np.random.default_rng(5).permutation(N)
    want = found.domains["sky"]
    json.dumps(dataclasses.asdict(found), allow_nan=False)
    assert run({"sky": sky}).domains["sky"] == want
    other = run({"sky": sky}, seed=SEED + 1).domains["sky"]
    assert observed(other) == observed(want)
    assert other.cka.mim.low != want.cka.mim.low
    shuffled = run({"sky": {name: block[order] for name, block in sky.items()}}, draws=0)
    none = shuffled.domains["sky"]
    np.testing.assert_allclose(numbers(observed(none)), numbers(observed(want)), rtol=10 * LIMIT)
    assert (none.cka.ratio.low, none.cka.ratio.high) == (None, None)


def with_groups(*kinds):
    """The sky by encoders of these kinds."""
    groups = [frozenset({kind}) for kind in kinds]
    return run({"sky": DOMAINS["sky"]}, groups=groups).domains["sky"].cka


@pytest.mark.parametrize("kinds", [("discriminative",) * 4 + ("mim",), ("image_text",) * 5])
def test_panels_without_pairs_of_a_kind_have_no_ratio(kinds):
    got = with_groups(*kinds)
    assert got.mim == MeanScore(mean=None, low=None, high=None, pairs=0)
    assert got.ratio == Ratio(value=None, low=None, high=None)
    count = kinds.count("discriminative")
    assert got.discriminative.pairs == count * (count - 1) // 2
    assert (got.discriminative.mean is None) == (count == 0)
    assert [entry.family for entry in got.leave_out] == ["resnet", "vit"][: count // 2]
    assert all(entry.ratio is None for entry in got.leave_out)


def test_a_constant_encoder_scores_nothing():
    images = DOMAINS["sky"] | {"mae": np.full((N, WIDTHS[3]), 0.1, np.float32)}
    got = run({"sky": images})
    json.dumps(dataclasses.asdict(got), allow_nan=False)
    cka = got.domains["sky"].cka
    assert {pair.score for pair in cka.pairs if "mae" in (pair.a, pair.b)} == {0}
    assert cka.mim == MeanScore(mean=0.0, low=0.0, high=0.0, pairs=1)
    assert cka.ratio == Ratio(value=None, low=None, high=None)
    assert cka.discriminative.low > 0


RATIOS = {  # observed value first, then five draws; level 0.5 leaves out one at either end
    "plain": ([6, 4, 5, 6, 7, 8], [2] * 6, (3, 2.5, 3.5)),
    "open": ([6, 4, 5, 6, 7, 8], [2, 2, 2, 2, 0, 0], (3, 2.5, None)),
    "infinite": ([6] * 6, [0, 2, 2, 1, 0, 0], (None, 3, None)),
    "never finite": ([6] * 6, [0] * 6, (None, None, None)),
    "undetermined": ([6, 6, 6, 6, 0, 0], [2, 2, 2, 2, 0, 0], (3, 0, None)),
    "nothing": ([0] * 6, [0] * 6, (None, 0, None)),
    "a side missing": (None, [1] * 6, (None, None, None)),
}


@pytest.mark.parametrize("case", RATIOS)
def test_ratios_to_nothing_have_open_ends(case):
    high, low, want = RATIOS[case]
    high, low = (None if v is None else np.array(v, float) for v in (high, low))
    assert dataclasses.astuple(ratio_interval(high, low, 0.5)) == want


KIND_OF_PAIR = {
    ("supervised", "self_supervised"): "discriminative",
    ("supervised", "supervised"): "discriminative",
    ("masked_reconstruction", "masked_reconstruction"): "mim",
    ("supervised", "masked_reconstruction"): "other",
    ("image_text", "image_text"): "other",
    ("image_text", "self_supervised"): "other",
    ("by_hand", "by_hand"): "other",
}


@pytest.mark.parametrize("paradigms", KIND_OF_PAIR)
def test_the_kind_of_a_pair_follows_the_paradigms(paradigms):
    a, b = map(paradigm_groups, paradigms)
    assert pair_kind(a, b) == pair_kind(b, a) == KIND_OF_PAIR[paradigms]


SEPARATIONS = {
    "no masked pair": (["discriminative", "discriminative", "mim"], 0.5, None, None),
    "no discriminative pair": (["discriminative", "mim", "mim"], None, 0.5, None),
    "neither": (["image_text", "image_text"], None, None, None),
    "both": (["discriminative", "discriminative", "mim", "mim"], 0.5, 0.5, 1.0),
}


@pytest.mark.parametrize("case", SEPARATIONS)
def test_separation_counts_pairs_within_groups(case):
    names, high, low, ratio = SEPARATIONS[case]
    scores = np.full((len(names),) * 2, 0.5)
    np.fill_diagonal(scores, 1)
    result = separation(scores, [frozenset({name}) for name in names])
    assert (result.discriminative_mean, result.mim_mean, result.ratio) == (high, low, ratio)


def test_separation_has_no_ratio_to_zero():
    scores = np.zeros((4, 4))
    groups = [frozenset({"discriminative"})] * 2 + [frozenset({"mim"})] * 2
    assert separation(scores, groups).ratio is None


SKY = DOMAINS["sky"]
BAD = {
    "no domain": ({"domains": {}}, "no domain"),
    "widths": ({"domains": {"a": SKY, "b": SKY | {"vit": SKY["mae"]}}}, "widths"),
    "groups": ({"groups": GROUPS[:3]}, "3 groups"),
    "families": ({"families": FAMILIES[:2]}, "2 families"),
    "name": ({"domains": {"pooled": SKY, "b": SKY}}, "'pooled'.*rename"),
    "rows": ({"domains": {"a": SKY | {"vit": SKY["vit"][:9]}}}, "'a' has encoders with .* rows"),
    "few": ({"domains": {"a": {name: x[:3] for name, x in SKY.items()}}}, "4 or more"),
    "draws": ({"draws": 1}, "draws=1"),
    "level": ({"level": 1.0}, "level.*1.0"),
    "alpha": ({"alpha": 0.0}, "alpha.*0.0"),
    "k": ({"ks": (0,)}, "k.*0"),
    "finite": ({"domains": {"a": SKY | {"vit": np.full((N, 12), np.inf, "f4")}}}, "vit holds"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        run(**{"domains": {"a": SKY}, **options})
    assert "\n" not in str(caught.value)
