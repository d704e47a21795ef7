"""Calibration: closed-form moments and tails against all permutations, samples and SciPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from substrate_jax.kernels import (
    calibrate_cka,
    cka_null_moments,
    pairwise_hsic,
    permutation_moments,
    permutation_null,
    tail_from_moments,
)
from substrate_jax.kernels.nulls.calibration import choose_skewness
from substrate_jax.kernels.reference import statistics as reference
from tests import helpers

null_of = jax.jit(permutation_null, static_argnames=("permutations", "space", "axis_name"))
calibrated = jax.jit(
    calibrate_cka, static_argnames=("method", "permutations", "alpha", "skewness", "axis_name")
)
tail = jax.jit(tail_from_moments, static_argnames=("alpha", "support_minimum"))


def sample(n, widths, seed=0, skewed=False):
    """Independent float32 encoders; `skewed` gives a few rows of large norm."""
    rng = np.random.default_rng(seed)
    blocks = [rng.normal(size=(n, d)) for d in widths]
    if skewed:
        blocks = [np.abs(block) ** 3 for block in blocks]
    return [block.astype(np.float32) for block in blocks]


@pytest.mark.parametrize("ratio", [0.0, 100.0])
@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize(("n", "widths"), [(6, (1, 2, 9)), (7, (3, 2))])
def test_moments_are_those_of_all_permutations(n, widths, skewed, ratio):
    blocks = [block + np.float32(ratio) for block in sample(n, widths, skewed=skewed)]
    hsic = pairwise_hsic([jnp.asarray(b) for b in blocks])
    mean, variance = permutation_moments(hsic)
    grams = [reference.gram(b) for b in blocks]
    for i in range(len(widths)):
        for j in range(i, len(widths)):
            k, m = (grams[e] / np.trace(grams[e]) for e in (i, j))
            null = reference.every_permutation(k, m)
            scale = np.sum(k * k) * np.sum(m * m)
            # a cancels by (n-1) t / a; its variance is compared on the scale of <K,K> <L,L>.
            bound = helpers.tolerance(n * max(widths))
            np.testing.assert_allclose(mean[i, j], null.mean(), rtol=bound)
            np.testing.assert_allclose(variance[i, j], null.var(), atol=4 * bound * scale)


def test_moments_in_float32_stay_accurate_for_many_rows():
    n = 4000
    blocks = sample(n, (40, 60), skewed=True)
    mean, variance = permutation_moments(pairwise_hsic([jnp.asarray(b) for b in blocks]))
    t2, s = [], []
    for block in blocks:  # the published formula, in float64, from d x d products
        x = block.astype(np.float64) - block.mean(0, dtype=np.float64)
        t2.append(np.sum((x.T @ x) ** 2) / np.sum(x**2) ** 2)
        s.append(np.sum(np.sum(x**2, axis=1) ** 2) / np.sum(x**2) ** 2)
    first = np.prod([(n - 1) * t - 1 for t in t2]) * 2
    second = np.prod([n * (n + 1) * q - (n - 1) * (1 + 2 * t) for q, t in zip(s, t2, strict=True)])
    want = first / ((n - 1) ** 2 * (n + 1) * (n - 2))
    want += second / ((n + 1) * n * (n - 1) * (n - 2) * (n - 3))
    np.testing.assert_allclose(mean[0, 1], 1 / (n - 1), rtol=helpers.tolerance(n))
    np.testing.assert_allclose(variance[0, 1], want, rtol=4 * helpers.tolerance(n))


@pytest.mark.parametrize("kind", helpers.KINDS_OF_ROWS)
def test_closed_form_tau_agrees_with_many_permutations(kind):
    rng = np.random.default_rng(0)
    blocks = [helpers.random_rows(rng, 60, 8, kind) for _ in range(2)]
    null, _ = null_of(blocks, jax.random.key(0), permutations=4000, space="feature")
    tau = float(calibrated(blocks, skewness="exact").tau[0, 1])
    draws = np.asarray(null[:, 0, 1], np.float64)
    quantile = np.quantile(draws, 0.95)
    # 1.7 % of the model (measured, module docstring) and 4 standard errors of the quantile.
    low, high = np.quantile(draws, 0.95 + 4 * np.sqrt(0.95 * 0.05 / 4000) * np.array([-1, 1]))
    assert low * (1 - 0.017) < tau < high * (1 + 0.017)
    normal = draws.mean() + 1.645 * draws.std()
    assert abs(tau - quantile) < abs(normal - quantile)


@pytest.mark.parametrize("method", ["closed_form", "permutation"])
def test_calibrate_under_every_transform(method):
    blocks = sample(37, (3, 5))
    padded = [np.concatenate([b, np.full((3, b.shape[1]), np.nan, np.float32)]) for b in blocks]
    mask, labels = np.arange(40) < 37, np.arange(40) // 10

    def compute(blocks, mask, labels, axis_name):
        strata = labels if method == "permutation" else None
        options = {"permutations": 19, "key": jax.random.key(0), "strata": strata}
        return calibrate_cka(blocks, method=method, mask=mask, axis_name=axis_name, **options)

    sharded = padded, mask, labels
    results = {name: call(compute, sharded) for name, call in helpers.transforms().items()}
    for name, result in results.items():
        bound = 4 * helpers.tolerance(40)
        for field in ("observed", "tau", "score"):
            got, want = getattr(result, field), getattr(results["jit"], field)
            assert helpers.relative_error(got, want) < 1e-5, (name, field)
        # log p falls as z^2 / 2 at most: a change of the score by c changes it by z c / std.
        got, want = result.log10_p_value, results["jit"].log10_p_value
        np.testing.assert_allclose(got, want, rtol=100 * bound, atol=100 * bound, err_msg=name)


@pytest.mark.parametrize("method", ["closed_form", "permutation"])
def test_constant_encoder_is_never_significant(method):
    blocks = [*sample(12, (3,)), np.full((12, 2), 0.1, np.float32)]
    key = jax.random.key(0)

    def total(blocks):
        result = calibrate_cka(blocks, method=method, permutations=19, key=key)
        return jnp.sum(result.score), result

    gradient, result = jax.jit(jax.grad(total, has_aux=True))(blocks)
    assert all(np.isfinite(g).all() for g in gradient)
    np.testing.assert_array_equal(result.score[:, 1], 0)
    np.testing.assert_array_equal(result.p_value[:, 1], 1)
    np.testing.assert_array_equal(result.log10_p_value[:, 1], 0)
    np.testing.assert_array_equal(result.tau[:, 1], 0)


@pytest.fixture(scope="module")
def of_masked_rows():
    """The calibrations of two encoders of 100 rows of which the first few count, compiled once."""
    with_draws = functools.partial(calibrate_cka, method="permutation", permutations=199)
    methods = {"closed_form": calibrate_cka, "permutation": with_draws}
    programs = {name: jax.jit(method) for name, method in methods.items()}

    def calibrated(method, blocks, count):
        blocks = [jnp.asarray(block, jnp.float32) for block in blocks]
        key = {"key": jax.random.key(0)} if method == "permutation" else {}
        found = programs[method](blocks, mask=jnp.arange(100) < count, **key)
        return jax.tree.map(lambda values: float(values[0, 1]), found)

    return calibrated


@pytest.mark.parametrize("other", ["simplex", "line"])
@pytest.mark.parametrize("n", [4, 20, 37, 100])
@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_a_regular_simplex_is_never_significant(of_masked_rows, noise, n, other):
    """All permutations of a simplex give one score, but for rounding."""
    rng = np.random.default_rng(n)
    simplices = np.eye(100), 2 * np.eye(100) + 3
    blocks = [simplex + noise * rng.normal(size=(100, 100)) for simplex in simplices]
    if other == "line":
        blocks[1] = np.outer(rng.normal(size=100), np.ones(100))
    got = of_masked_rows("closed_form", blocks, n)
    assert 0.1 < got.p_value <= 1
    assert got.score <= 1e-4
    if noise == 0:
        sampled = of_masked_rows("permutation", blocks, n)
        assert sampled.score <= 1e-4
        assert sampled.p_value > 0.1


@pytest.mark.parametrize("n", [20, 100])
@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_near_a_simplex_the_closed_form_is_that_of_permutations(of_masked_rows, noise, n):
    rng = np.random.default_rng(7)
    blocks = [np.eye(100) + noise * rng.normal(size=(100, 100)) for _ in range(2)]
    got, sampled = (of_masked_rows(method, blocks, n) for method in ("closed_form", "permutation"))
    # Four standard errors of a share of 199 draws.
    error = 4 * np.sqrt(sampled.p_value * (1 - sampled.p_value) / 199)
    assert abs(got.p_value - sampled.p_value) < error
    assert abs(got.tau - sampled.tau) < 0.02 * (1 - sampled.tau)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_too_few_rows_have_no_null(of_masked_rows, n):
    got = of_masked_rows("closed_form", sample(100, (100, 100)), n)
    values = got.p_value, got.tau, got.score, got.log10_p_value
    assert np.isnan(values).all()
    assert np.isfinite(of_masked_rows("closed_form", sample(100, (100, 100)), 4).tau)


@pytest.mark.parametrize(("skewness", "want"), [("auto", "gamma"), ("exact", "exact")])
def test_the_skewness_that_was_used_is_named(skewness, want):
    blocks = [jax.ShapeDtypeStruct((500, d), jnp.float32) for d in (3, 5)]
    assert choose_skewness(skewness, blocks) == want
    wide = [jax.ShapeDtypeStruct((50, d), jnp.float32) for d in (300, 500)]
    assert choose_skewness("auto", wide) == "exact"
    found = jax.eval_shape(functools.partial(calibrate_cka, skewness=skewness), blocks)
    assert (found.method, found.skewness) == ("closed_form", want)
    draws = {"method": "permutation", "permutations": 19, "key": jax.random.key(0)}
    assert jax.eval_shape(functools.partial(calibrate_cka, **draws), blocks).skewness is None


def test_a_stream_has_the_tail_of_a_gamma():
    @jax.jit
    def compute(blocks):
        hsic = pairwise_hsic(blocks)
        return hsic, calibrate_cka(hsic), cka_null_moments(hsic)

    hsic, got, (mean, variance, _) = compute(sample(12, (3, 4)))
    law = scipy.stats.gamma(a=mean**2 / variance, scale=variance / mean)
    np.testing.assert_allclose(got.tau, law.isf(0.05), rtol=helpers.tolerance(12, condition=8))
    assert got.skewness == "gamma"
    with pytest.raises(ValueError, match="'exact' needs cubic sums"):
        calibrate_cka(hsic, skewness="exact")


def test_far_tail_keeps_its_logarithm_where_p_underflows():
    mean, std, g = 0.05, 0.01, 0.5
    got = tail(
        jnp.array([0.5, 0.9]), jnp.float32(mean), jnp.float32(std**2), skewness=jnp.float32(g)
    )
    law = scipy.stats.pearson3(g, loc=mean, scale=std)
    np.testing.assert_allclose(got.log10_p_value, law.logsf([0.5, 0.9]) / np.log(10), rtol=1e-4)
    np.testing.assert_array_equal(got.p_value, 0)
    np.testing.assert_allclose(
        tail(jnp.float32(0.06), jnp.float32(mean), jnp.float32(std**2)).log10_p_value,
        np.log10(tail(jnp.float32(0.06), jnp.float32(mean), jnp.float32(std**2)).p_value),
        rtol=1e-5,
    )


def test_tail_without_skewness_is_the_gamma_on_its_support():
    got = tail(
        jnp.array([0.1, 0.3]),
        jnp.float32(0.15),
        jnp.float32(0.002),
        alpha=0.01,
        support_minimum=0.05,
    )
    law = scipy.stats.gamma(a=0.1**2 / 0.002, loc=0.05, scale=0.002 / 0.1)
    bound = helpers.tolerance(1, condition=100)
    np.testing.assert_allclose(got.tau, law.isf(0.01), rtol=bound)
    np.testing.assert_allclose(got.p_value, law.sf([0.1, 0.3]), rtol=bound)


def test_calibrate_takes_sums_and_is_traced_once():
    traces = []

    @jax.jit
    def compute(blocks):
        traces.append(1)
        return calibrate_cka(pairwise_hsic(blocks, cubic=True)), calibrate_cka(
            blocks, skewness="exact"
        )

    for seed in range(3):
        from_sums, from_blocks = compute(sample(12, (3, 4), seed))
        for field in ("score", "tau", "observed", "log10_p_value"):
            got, want = getattr(from_sums, field), getattr(from_blocks, field)
            bound = helpers.tolerance(12, condition=100)
            np.testing.assert_allclose(got, want, rtol=bound, atol=bound)
    assert len(traces) == 1


BLOCKS = [jnp.ones((6, 2)), jnp.ones((6, 3))]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calibrate_cka(BLOCKS, alpha=0.0), "alpha must lie"),
        (lambda: calibrate_cka(BLOCKS, method="exact"), "method must be one of"),
        (lambda: calibrate_cka(BLOCKS, skewness="normal"), "skewness must be one of"),
        (lambda: calibrate_cka(BLOCKS, method="permutation"), "key must be"),
        (lambda: calibrate_cka([b[:3] for b in BLOCKS]), "at least 4 rows, got 3"),
        (
            lambda: calibrate_cka(
                BLOCKS, method="permutation", permutations=9, key=jax.random.key(0)
            ),
            "permutations must be at least 1 / alpha - 1 = 19, got 9",
        ),
        (lambda: calibrate_cka(BLOCKS, strata=np.arange(6)), "strata restrict the permutations"),
        (lambda: calibrate_cka([jnp.ones((6, 2), int)]), "must be real floating-point, got int32"),
        (lambda: calibrate_cka(BLOCKS, axis_name="rows"), "'rows' is not a mapped axis"),
        (
            lambda: calibrate_cka(
                pairwise_hsic(BLOCKS), method="permutation", key=jax.random.key(0)
            ),
            "blocks must be arrays",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
