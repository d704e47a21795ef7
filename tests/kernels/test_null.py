"""Permutation nulls against all n! permutations, sampled permutations, SciPy and NumPy sorting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from substrate_jax.kernels import (
    benjamini_hochberg,
    calibrate,
    pairwise_cka,
    pairwise_hsic,
    permutation_moments,
    permutation_null,
    reference,
    tail_from_moments,
)
from tests import helpers

null_of = jax.jit(permutation_null, static_argnames=("permutations", "space", "axis_name"))
calibrated = jax.jit(calibrate, static_argnames=("method", "permutations", "alpha", "axis_name"))

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


@pytest.mark.parametrize("space", ["feature", "gram"])
def test_null_is_uniform_over_permutations_of_the_rows_that_count(space):
    n, draws = 5, 4000
    blocks = sample(n, (1, 2), skewed=True)
    padded = [np.insert(b, [1, 3], np.nan, axis=0) for b in blocks]
    mask = jnp.array([True, False, True, True, False, True, True])
    null, observed = null_of(padded, jax.random.key(0), permutations=draws, space=space, mask=mask)
    k, m = (reference.gram(b) for b in blocks)
    every = reference.every_permutation(k, m) / np.sqrt(np.sum(k * k) * np.sum(m * m))
    np.testing.assert_allclose(observed, pairwise_cka(blocks), atol=helpers.tolerance(n))
    # Each draw is one of the 120 values, and each value is drawn about equally often.
    distance = np.abs(np.asarray(null[:, 0, 1])[:, None] - every[None])
    assert distance.min(1).max() < helpers.tolerance(n)
    counts = np.bincount(distance.argmin(1), minlength=120)
    assert scipy.stats.chisquare(counts).pvalue > 1e-6
    np.testing.assert_array_equal(null, np.swapaxes(null, 1, 2))


def test_both_spaces_and_all_transforms_draw_the_same_null():
    blocks = sample(37, (3, 5))
    padded = [np.concatenate([b, np.full((3, b.shape[1]), np.nan, np.float32)]) for b in blocks]
    mask, key = np.arange(40) < 37, jax.random.key(3)
    want, _ = null_of(padded, key, permutations=8, space="feature", mask=jnp.asarray(mask))
    for space in ("feature", "gram"):

        def compute(blocks, mask, axis_name, space=space):
            return permutation_null(
                blocks, key, permutations=8, space=space, mask=mask, axis_name=axis_name
            )[0]

        for name, call in helpers.transforms().items():
            got = call(compute, (padded, mask))
            np.testing.assert_allclose(
                got, want, atol=helpers.tolerance(40), err_msg=f"{space} {name}"
            )


def test_permutation_calibration_is_the_order_statistic():
    blocks = sample(20, (3, 4, 2))
    blocks[1][:, :2] += blocks[0][:, :2]
    key = jax.random.key(1)
    for permutations, alpha in ((19, 0.05), (199, 0.05), (50, 0.1)):
        null, observed = null_of(blocks, key, permutations=permutations)
        got = calibrated(
            blocks, method="permutation", permutations=permutations, alpha=alpha, key=key
        )
        score, tau, p_value = reference.permutation_calibration(
            np.asarray(observed), np.asarray(null), alpha
        )
        off = ~np.eye(3, dtype=bool)  # on the diagonal the observed score is 1 up to rounding
        bound = helpers.tolerance(20)
        np.testing.assert_allclose(got.tau, tau, atol=bound)
        np.testing.assert_allclose(got.p_value[off], p_value[off], atol=bound)
        np.testing.assert_allclose(got.score[off], score[off], atol=4 * bound)
        assert got.method == "permutation"


def test_closed_form_tau_agrees_with_many_permutations():
    blocks = sample(60, (8, 8))
    blocks = [b * np.arange(1, 9, dtype=np.float32) ** -1.0 for b in blocks]
    null, _ = null_of(blocks, jax.random.key(0), permutations=4000, space="feature")
    tau = float(calibrated(blocks).tau[0, 1])
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
    mask = np.arange(40) < 37

    def compute(blocks, mask, axis_name):
        key = jax.random.key(0)
        return calibrate(
            blocks, method=method, permutations=19, key=key, mask=mask, axis_name=axis_name
        )

    results = {name: call(compute, (padded, mask)) for name, call in helpers.transforms().items()}
    for name, result in results.items():
        for field in ("observed", "tau", "score"):
            got, want = getattr(result, field), getattr(results["plain"], field)
            np.testing.assert_allclose(got, want, atol=4 * helpers.tolerance(40), err_msg=name)


@pytest.mark.parametrize("method", ["closed_form", "permutation"])
def test_constant_encoder_is_never_significant(method):
    blocks = [*sample(12, (3,)), np.full((12, 2), 0.1, np.float32)]
    key = jax.random.key(0)

    def total(blocks):
        result = calibrate(blocks, method=method, permutations=19, key=key)
        return jnp.sum(result.score), result

    gradient, result = jax.jit(jax.grad(total, has_aux=True))(blocks)
    assert all(np.isfinite(g).all() for g in gradient)
    np.testing.assert_array_equal(result.score[:, 1], 0)
    np.testing.assert_array_equal(result.p_value[:, 1], 1)
    np.testing.assert_array_equal(result.tau[:, 1], 0)


@pytest.mark.parametrize("skewness", [-0.6, 0.0, 0.05, 0.6, 2.5])
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
def test_tail_matches_scipy_pearson3(skewness, alpha):
    mean, std = 0.1, 0.02
    law = scipy.stats.pearson3(skewness, loc=mean, scale=std)
    observed = np.linspace(0.02, 0.25, 9).astype(np.float32)
    got = tail(
        jnp.asarray(observed),
        jnp.float32(mean),
        jnp.float32(std**2),
        alpha=alpha,
        skewness=jnp.float32(skewness),
    )
    # The incomplete gamma function of shape 4 / g^2 amplifies rounding by about its shape.
    bound = helpers.tolerance(1, condition=40 + (4 / skewness**2 if skewness else 0))
    np.testing.assert_allclose(got.tau, law.isf(alpha), rtol=bound)
    want = law.sf(observed.astype(np.float64))
    # A left-skewed tail is one minus the incomplete gamma function.
    atol = bound if skewness < 0 else bound * alpha
    np.testing.assert_allclose(got.p_value, want, rtol=20 * bound, atol=atol)


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


def test_benjamini_hochberg_matches_scipy():
    rng = np.random.default_rng(0)
    for p in (rng.uniform(size=50) ** 3, np.repeat([0.01, 0.2], 4), np.array([0.7])):
        got = benjamini_hochberg(jnp.asarray(p, jnp.float32))
        want = scipy.stats.false_discovery_control(p.astype(np.float32))
        np.testing.assert_allclose(got, want, rtol=helpers.tolerance(len(p)))
        assert (np.diff(np.asarray(got)[np.argsort(p)]) >= 0).all()
    square = jnp.asarray(rng.uniform(size=(3, 3)), jnp.float32)
    np.testing.assert_array_equal(
        benjamini_hochberg(square).ravel(), benjamini_hochberg(square.ravel())
    )


def test_calibrate_takes_sums_and_is_traced_once():
    traces = []

    @jax.jit
    def compute(blocks):
        traces.append(1)
        return calibrate(pairwise_hsic(blocks)), calibrate(blocks)

    for seed in range(3):
        from_sums, from_blocks = compute(sample(12, (3, 4), seed))
        jax.tree.map(np.testing.assert_array_equal, from_sums, from_blocks)
    assert len(traces) == 1


BLOCKS = [jnp.ones((6, 2)), jnp.ones((6, 3))]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calibrate(BLOCKS, alpha=0.0), "alpha must lie"),
        (lambda: calibrate(BLOCKS, method="exact"), "method must be one of"),
        (lambda: calibrate(BLOCKS, method="permutation"), "key must be"),
        (lambda: calibrate([b[:3] for b in BLOCKS]), "at least 4 rows, got 3"),
        (
            lambda: calibrate(BLOCKS, method="permutation", permutations=9, key=jax.random.key(0)),
            "permutations must be at least 1 / alpha - 1 = 19, got 9",
        ),
        (
            lambda: calibrate(pairwise_hsic(BLOCKS), method="permutation", key=jax.random.key(0)),
            "blocks must be arrays",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
