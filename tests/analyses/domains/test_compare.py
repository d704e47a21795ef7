"""Domains compared by their substrates, against float64 NumPy."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from substrate_jax.analyses.domains import samples as domain_samples
from substrate_jax.analyses.domains.compare import compare_domains
from substrate_jax.kernels.reference import statistics as reference
from substrate_jax.mesh import make_mesh
from substrate_jax.report.values import plain
from tests.helpers import tolerance

# 33 features are fewer than the 40 images of the longest domain, and more than any half or distinct
# rows of a bootstrap sample: both Gram matrices are used.
K, KS, WIDTHS = 3, (2, 3, 5), (12, 8, 13)
FAMILIES = ("plain", "plain", "other")
COUNTS = (40, 33, 18)
# Eigenvectors are known to eps over their relative gap, here above 0.01, at each of two ends.
CLOSE = tolerance(sum(WIDTHS), condition=200)


def domain(seed: int, n: int) -> dict[str, np.ndarray]:
    """Features with a shared decaying spectrum, leading directions of the domain's own weights."""
    shared = np.random.default_rng(99).normal(size=(8, sum(WIDTHS)))
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 8)) * 1.6 ** -np.arange(8) * rng.uniform(0.5, 1.5, 8)
    x = latent @ shared + 0.05 * rng.normal(size=(n, sum(WIDTHS))) + 3
    blocks = np.split(x.astype(np.float32), np.cumsum(WIDTHS)[:-1], axis=1)
    return {f"encoder{i}": block for i, block in enumerate(blocks)}


@pytest.fixture(scope="module")
def domains() -> dict[str, dict[str, np.ndarray]]:
    return {f"domain{i}": domain(i, n) for i, n in enumerate(COUNTS)}


@pytest.fixture(scope="module")
def compared(domains):
    return compare_domains(domains, FAMILIES, k=K, ks=(*KS, 9, 64), draws=6, splits=3, seed=1)


def stacked(features: dict[str, np.ndarray], without=()) -> np.ndarray:
    """Standardized features in float64, some encoders' set to 0."""
    blocks = []
    for name, block in features.items():
        block = np.asarray(block, np.float64)
        block = (block - block.mean(0)) / block.std(0)
        blocks.append(0 * block if name in without else block)
    return np.concatenate(blocks, axis=1)


def substrate(features, k: int, without=()) -> tuple[np.ndarray, np.ndarray]:
    x = stacked(features, without)
    return x, np.linalg.svd(x, full_matrices=False)[2][:k].T


def pcka_matrix(parts) -> np.ndarray:
    return np.array([[reference.pcka(*a, *b) for b in parts] for a in parts])


def take(features, rows) -> dict[str, np.ndarray]:
    return {name: block[rows] for name, block in features.items()}


def pairs(matrix) -> np.ndarray:
    return np.asarray(matrix)[np.triu_indices(len(matrix), 1)]


def test_matrices_are_those_of_the_definitions(domains, compared):
    result, fits = compared
    parts = [substrate(features, K) for features in domains.values()]
    bases = [basis for _, basis in parts]
    want = {
        "pcka": pcka_matrix(parts),
        "grassmann": np.array(
            [[np.mean(reference.principal_cosines(a, b) ** 2) for b in bases] for a in bases]
        ),
        "procrustes": np.array(
            [[reference.procrustes_disparity(a, b) for b in bases] for a in bases]
        ),
    }
    for name, matrix in want.items():
        got = getattr(result, name)
        np.testing.assert_allclose(got.matrix, matrix, atol=CLOSE, err_msg=name)
        np.testing.assert_allclose(got.median, np.median(pairs(matrix)), atol=CLOSE)
    assert list(fits.names) == list(domains)
    for found, (x, basis) in zip(zip(fits.x, fits.bases, strict=True), parts, strict=True):
        np.testing.assert_allclose(found[0], x, atol=tolerance(len(x), condition=10))
        np.testing.assert_allclose(np.asarray(found[1]).T @ basis @ basis.T, found[1].T, atol=CLOSE)
        size = np.argmax(np.abs(found[1]), axis=0)
        assert (np.asarray(found[1])[size, np.arange(K)] > 0).all()
    for features, ratio in zip(domains.values(), fits.explained_variance_ratio, strict=True):
        x = stacked(features)
        share = np.linalg.svd(x)[1][: max(KS)] ** 2 / np.sum(x**2)
        np.testing.assert_allclose(ratio, share, atol=CLOSE)
    least = np.argmin(pairs(want["pcka"]))
    assert result.pcka.min_pair == list(list(itertools.combinations(domains, 2))[least])
    ranks = [np.argsort(np.argsort(pairs(want[name]))) for name in ("pcka", "grassmann")]
    spearman = np.corrcoef(*ranks)[0, 1]
    assert result.grassmann.rank_correlation == pytest.approx(spearman)


def test_sweep_has_the_pcka_of_every_number_of_components(domains, compared):
    sweep = compared[0].sweep
    assert sweep.ks == list(KS)  # 9 and 64 are not below half of 18 images
    for at, k in enumerate(KS):
        want = pairs(pcka_matrix([substrate(f, k) for f in domains.values()]))
        found = [found[at] for found in (sweep.median, sweep.least, sweep.greatest)]
        np.testing.assert_allclose(found, [np.median(want), want.min(), want.max()], atol=CLOSE)
        assert sweep.low[at] < sweep.median[at] < sweep.high[at]


@pytest.mark.parametrize(
    ("group", "left_out"),
    [
        ("encoders", {f"encoder{i}": [f"encoder{i}"] for i in range(3)}),
        ("families", {"plain": ["encoder0", "encoder1"], "other": ["encoder2"]}),
    ],
)
def test_leaving_out_is_fitting_without(domains, compared, group, left_out):
    found = compared[0].leave_one_out
    assert found.none == compared[0].pcka.median
    entries = getattr(found, group)
    assert [entry.left_out for entry in entries] == list(left_out)
    members = [None if group == "encoders" else without for without in left_out.values()]
    assert [entry.encoders for entry in entries] == members
    for entry, without in zip(entries, left_out.values(), strict=True):
        want = pairs(pcka_matrix([substrate(f, K, without) for f in domains.values()]))
        got = [entry.median, entry.min]
        np.testing.assert_allclose(got, [np.median(want), want.min()], atol=CLOSE)


@pytest.mark.long
def test_a_single_family_is_not_left_out(domains):
    two = dict(itertools.islice(domains.items(), 2))
    found, _ = compare_domains(two, ["one"] * 3, k=K, ks=(), draws=0, splits=0)
    assert found.leave_one_out.families == []
    assert found.grassmann.rank_correlation is None  # one pair has no ranks
    assert found.sweep.low is found.sweep.high is None
    pcka = found.pcka
    assert pcka.low is pcka.high is pcka.error is pcka.median_low is pcka.median_high is None
    assert found.split_half is None


def test_bootstrap_draws_are_fits_of_repeated_rows(domains, compared):
    key = jax.random.split(jax.random.key(1), 2)[0]
    sample = domain_samples.bootstrap_sample(key, COUNTS, 6)
    drawn = []
    for draw in range(6):
        parts = []
        for i, (features, n) in enumerate(zip(domains.values(), COUNTS, strict=True)):
            rows = sample.rows[draw, i, :n]
            assert 1 < len(np.unique(rows)) < n  # with replacement
            parts.append(substrate(take(features, rows), K))
        drawn.append(pcka_matrix(parts))
    error = np.std(drawn, axis=0, ddof=1)
    pcka = compared[0].pcka
    np.testing.assert_allclose(pcka.error, error, atol=CLOSE)
    np.testing.assert_allclose(pcka.high - pcka.matrix, 1.959964 * error, atol=2 * CLOSE)
    medians = [np.median(pairs(matrix)) for matrix in drawn]
    half = pcka.median_high - pcka.median
    assert half == pytest.approx(1.959964 * np.std(medians, ddof=1), abs=2 * CLOSE)


def test_ceiling_is_the_pcka_of_disjoint_halves(domains, compared):
    found = compared[0].split_half
    key = jax.random.split(jax.random.key(1), 2)[1]
    sample = domain_samples.half_sample(key, COUNTS, 3)
    ceilings, between = [], []
    for split in range(3):
        parts = []
        for i, features in enumerate([*domains.values()] * 2):
            rows = sample.rows[split, i][sample.mask[split, i]]
            assert len(set(rows)) == COUNTS[i % 3] // 2
            parts.append((set(rows), substrate(take(features, rows), K)))
        for i in range(3):
            assert not parts[i][0] & parts[3 + i][0]
        matrix = pcka_matrix([part for _, part in parts])
        ceilings.append(np.diagonal(matrix[:3, 3:]))
        between.append(pairs(matrix[:3, 3:]))
    for name, values in zip(domains, np.transpose(ceilings), strict=True):
        got = dataclasses.astuple(found.ceiling[name])
        np.testing.assert_allclose(got, [values.mean(), values.min(), values.max()], atol=CLOSE)
    assert found.between == pytest.approx(np.median(between), abs=CLOSE)
    assert (found.splits, found.n) == (3, COUNTS[0] // 2)


def test_null_has_the_moments_of_permuted_rows(domains, compared):
    """tau of two unlike bases lies where that share of sampled permutations lies above it."""
    rng = np.random.default_rng(0)
    (x_a, b_a), (x_b, b_b) = (substrate(f, K) for f in list(domains.values())[:2])
    draws = 4000
    nulls = []
    for x in (x_a, x_b):
        k, l = reference.gram(x @ b_a), reference.gram(x @ b_b)  # noqa: E741
        scale = np.linalg.norm(k) * np.linalg.norm(l)
        orders = [rng.permutation(len(x)) for _ in range(draws)]
        nulls.append([np.sum(k * l[np.ix_(p, p)]) / scale for p in orders])
    null = np.mean(nulls, axis=0)
    tau = compared[0].pcka.tau[0, 1]
    # Three deviations of a share of 4,000 draws; the tail is exact to three moments.
    assert np.mean(null > tau) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / draws))
    p = np.asarray(compared[0].pcka.p_value)
    assert np.isnan(np.diagonal(p)).all()
    assert (pairs(p) < 1e-3).all()
    q = np.asarray(compared[0].pcka.q_value)
    assert (pairs(q) >= pairs(p)).all()


def test_one_device_and_eight_agree(domains, compared):
    alone, _ = compare_domains(
        domains, FAMILIES, k=K, ks=KS, draws=6, splits=3, seed=1, mesh=make_mesh("data=1")
    )
    for part in ("pcka", "split_half", "leave_one_out", "sweep"):
        got, want = (jax.tree.leaves(plain(getattr(found, part))) for found in (alone, compared[0]))
        for a, b in zip(got, want, strict=True):
            if not isinstance(a, str):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_another_key_draws_other_rows():
    for draw in (domain_samples.bootstrap_sample, domain_samples.half_sample):
        one, same, other = (draw(jax.random.key(i), COUNTS, 2).rows for i in (0, 0, 1))
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()


def test_constant_images_give_zero_and_no_nan(domains):
    blank = {name: np.full_like(block, 2) for name, block in domains["domain1"].items()}
    result, fits = compare_domains(
        domains | {"domain1": blank}, FAMILIES, k=K, ks=KS, draws=6, splits=3, seed=1
    )
    matrix = result.pcka.matrix
    assert np.isfinite(matrix).all()
    assert np.isfinite(result.pcka.error).all()
    np.testing.assert_array_equal(matrix[1], 0)
    assert matrix[0, 2] > 0
    assert not np.asarray(fits.bases[1]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {"domain0": d["domain0"]}, r"domains are \['domain0'\]: give two or more"),
        (lambda d: d | {"small": take(d["domain0"], range(3))}, r"domain 'small' has 3 images"),
        (
            lambda d: d | {"other": dict(itertools.islice(d["domain0"].items(), 2))},
            r"domain 'other' has encoders of widths",
        ),
        (
            lambda d: d | {"bad": d["domain0"] | {"encoder1": d["domain0"]["encoder1"] * np.nan}},
            r"bad, encoder1",
        ),
    ],
)
def test_bad_domains_are_named(domains, change, message):
    with pytest.raises(ValueError, match=message):
        compare_domains(change(domains), FAMILIES, k=K)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": ("one",)}, "1 families for 3 encoders"),
        ({"draws": 1}, "draws=1"),
        ({"splits": -1}, "splits=-1"),
        ({"level": 1.0}, "level=1.0"),
        ({"k": 0}, "k=0: give 1 to 33"),
    ],
)
def test_bad_options_are_named(domains, options, message):
    with pytest.raises(ValueError, match=message):
        compare_domains(domains, **{"families": FAMILIES, "k": K} | options)
