"""Calibration of alignment: what would the score be if the rows had nothing to do with each other?

The null permutes the rows of one side. A score s above the null's upper alpha quantile tau is
calibrated to

    s_cal = max((s - tau) / (1 - tau), 0),    p = P(null >= s).

By permutation, with K draws: tau is the ceil((1-alpha)(K+1))-th smallest of the observed score and
the K null scores, and p = (1 + #{null >= s}) / (K+1), which cannot fall below 1 / (K+1). In closed
form the exact mean and variance over all n! permutations follow from three scalars of each encoder,
so that all pairs cost nothing beyond the observed CKA. With t = tr K^2 / (tr K)^2,
s = sum_i K_ii^2 / (tr K)^2, a = (n-1) t - 1 and b = n (n+1) (s - 1/n) - 2 a,

    E <K, PLP'>   = tr K tr L / (n-1)
    Var <K, PLP'> = (tr K tr L)^2 [ 2 a_K a_L / ((n-1)^2 (n+1)(n-2))
                                    + b_K b_L / ((n+1) n (n-1)(n-2)(n-3)) ].

(a and b are the published terms with the cancelling parts removed by hand: they vanish for white
features.) The null is right-skewed. Its tail is taken as Pearson type III, a shifted gamma, with
the given skewness; without one, as the gamma on [minimum, inf) with that mean and variance, whose
skewness is 2 std / (mean - minimum). That is exact in the limit of many rows when every encoder
has equal eigenvalues; a spread spectrum is more skewed, which makes tau a little too small.

Measured against 40,000 permutations, two Gaussian encoders with eigenvalues i^-(2q), q in {0, 1/2,
1, 2}, d = 8 at n = 60 and d = 32 at n = 500: without skewness tau is within 1.7 % at alpha = 0.05
(a normal tail: 14 % too small), 10 % too small at 0.01 and 22 % at 0.001 (normal: 34 and 50 %).
With the sampled skewness: within 1.6, 1.7 and 3 %.

Not guaranteed: p-values far beyond the data, of which only the order of magnitude of the logarithm
means anything; they underflow to 0 below about 1e-38 in float32. Exchangeable rows are assumed:
duplicates or video frames make every p too small.

References:
    Groeger, Wen, Brbic (2026), Revisiting the Platonic Representation Hypothesis: an Aristotelian
    view. arXiv:2602.14486. (arXiv:2606.07882 calls this calibration "Pang".)
    Kazi-Aoual, Hitier, Sabatier, Lebreton (1995), Refined approximations to permutation tests for
    multivariate inference. Computational Statistics & Data Analysis 20.
    Josse, Pages, Husson (2008), Testing the significance of the RV coefficient. CSDA 53.
    Benjamini, Hochberg (1995), Controlling the false discovery rate. JRSS B 57.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaincc
from jaxtyping import Array, Bool, Float, Shaped

from .cka import (
    HIGHEST,
    PairwiseHsic,
    feature_inner,
    gram_inner,
    hsic_of_normalised,
    mirror,
    normalised_blocks,
    pairwise_hsic,
    resolve_space,
)
from .moments import divide
from .validate import all_rows, check_blocks, check_fraction, check_option, check_rows

METHODS = ("closed_form", "permutation")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Calibration:
    """Scores read against their null, all arrays of one shape ([E, E] for pairs of encoders).

    Attributes:
      score: calibrated score max((observed - tau) / (1 - tau), 0).
      tau: upper alpha quantile of the null; a constant to differentiation.
      p_value: P(null >= observed).
      observed: the score as it was.
      method: "closed_form" or "permutation".
    """

    score: Float[Array, "*shape"]
    tau: Float[Array, "*shape"]
    p_value: Float[Array, "*shape"]
    observed: Float[Array, "*shape"]
    method: str = dataclasses.field(metadata={"static": True})


def rescale(observed, tau):
    """max((observed - tau) / (1 - tau), 0), and 0 where tau is 1 or more."""
    return jnp.maximum(divide(observed - tau, jnp.maximum(1 - tau, 0)), 0)


def pearson_tail(z, skewness):
    """P(Z >= z) of the Pearson type III law of mean 0, variance 1 and this skewness.

    Of a left-skewed law it is a difference from 1, known to eps absolutely.
    """
    # Below 0.01 the shape is above 4e4, where float32 loses the gamma function and nothing is
    # gained: the law is normal to 2e-3 in its 5 % quantile.
    skewed = jnp.abs(skewness) > 0.01
    g = jnp.where(skewed, skewness, 1)
    shape = 4 / g**2
    above = gammaincc(shape, jnp.maximum(shape + 2 * z / g, 0))
    gamma = jnp.where(g > 0, above, 1 - above)
    return jnp.where(skewed, gamma, jax.scipy.special.ndtr(-z))


def pearson_tail_and_quantile(z, alpha, skewness):
    """P(Z >= z), and the point whose tail is alpha, bisected within Cantelli's one-sided bounds.

    One loop does both: the first round evaluates the tail at z, the others at midpoints. The
    incomplete gamma function takes seconds to compile, so it should stand in the program once.
    """
    high = jnp.full_like(z, math.sqrt((1 - alpha) / alpha))
    low = jnp.full_like(z, -math.sqrt(alpha / (1 - alpha)))

    def halve(i, state):
        low, high, tail = state
        first, middle = i == 0, (low + high) / 2
        value = pearson_tail(jnp.where(first, z, middle), skewness)
        low = jnp.where(~first & (value > alpha), middle, low)
        high = jnp.where(~first & (value <= alpha), middle, high)
        return low, high, jnp.where(first, value, tail)

    rounds = jnp.finfo(z.dtype).nmant + 9
    low, high, tail = jax.lax.fori_loop(0, rounds, halve, (low, high, jnp.zeros_like(z)))
    return tail, (low + high) / 2


def tail_from_moments(
    observed: Float[Array, "*shape"],
    mean: Float[Array, "*shape"],
    variance: Float[Array, "*shape"],
    alpha: float = 0.05,
    skewness: Float[Array, "*shape"] | None = None,
    support_minimum: float = 0.0,
) -> Calibration:
    """Calibrates a statistic whose null is known by its moments, with a Pearson type III tail.

    With skewness g the null is modelled as mean + std (G - 4/g^2) g/2, G gamma of shape 4/g^2:
    right-skewed for g > 0, mirrored for g < 0, normal at 0.

    Args:
      observed: any shape; the most it can be is 1.
      mean: of the null, broadcastable to `observed`.
      variance: of the null, >= 0. Where it is 0 the null is the point `mean`.
      alpha: level of tau, in (0, 1).
      skewness: of the null. None takes that of the gamma that starts at `support_minimum`.
      support_minimum: the least the statistic can be; used only without `skewness`.

    Returns:
      A `Calibration` of the shape of `observed`; differentiable in `observed` only.

    Raises:
      ValueError: if `alpha` is out of range.

    Example:
      >>> tail = tail_from_moments(jnp.array(0.5), jnp.array(0.1), jnp.array(0.01))
      >>> f"{tail.tau:.3f} {tail.p_value:.4f}"
      '0.300 0.0067'
    """
    check_fraction("alpha", alpha)
    observed = jnp.asarray(observed)
    frozen = [observed, jnp.asarray(mean), jnp.asarray(variance)]
    frozen += [] if skewness is None else [jnp.asarray(skewness)]
    frozen = [jax.lax.stop_gradient(jnp.broadcast_to(v, observed.shape)) for v in frozen]
    value, mean, variance, *third = frozen
    std = jnp.sqrt(jnp.maximum(variance, 0))
    g = third[0] if third else divide(2 * std, mean - support_minimum)
    tail, quantile = pearson_tail_and_quantile(divide(value - mean, std), alpha, g)
    tau = mean + std * quantile
    point = jnp.where(value > mean, 0, 1).astype(value.dtype)
    p_value = jnp.where(std > 0, tail, point)
    return Calibration(rescale(observed, tau), tau, p_value, observed, "closed_form")


def check_draws(blocks, summary: type, key, permutations: int, alpha: float) -> None:
    """Raises ValueError unless a null can be sampled: from arrays, with a key, finely enough."""
    if isinstance(blocks, summary):
        raise ValueError(f"blocks must be arrays for method 'permutation', got {summary.__name__}.")
    if key is None:
        raise ValueError("key must be a jax.random.key for method 'permutation', got None.")
    if (permutations + 1) * alpha < 1:
        raise ValueError(
            f"permutations must be at least 1 / alpha - 1 = {math.ceil(1 / alpha) - 1}, "
            f"got {permutations}: draw more, or tau is the observed maximum."
        )


def tail_from_sample(
    observed: Shaped[Array, "*shape"], null: Shaped[Array, "k ..."], alpha: float
) -> tuple[Shaped[Array, "*shape"], Float[Array, "*shape"]]:
    """tau, the ceil((1-alpha)(k+1))-th smallest of observed and null, and p, without gradients."""
    observed, null = jax.lax.stop_gradient((observed, null))
    draws = null.shape[0]
    pooled = jnp.sort(jnp.concatenate([null, observed[None]]), axis=0)
    # Less 1e-9, so that 0.95 * 200 is 190 and not the float just above it.
    tau = pooled[math.ceil((1 - alpha) * (draws + 1) - 1e-9) - 1]
    above = jnp.sum(null >= observed[None], axis=0, dtype=float)
    return tau, (1 + above) / (draws + 1)


def permutation_moments(hsic: PairwiseHsic) -> tuple[Float[Array, "E E"], Float[Array, "E E"]]:
    """Exact mean and variance of <K_i, P K_j P'> over all n! permutations P of the rows.

    Formulas in the module docstring. Rounding: a is known to eps (n-1) t, so white features with
    d >> n lose digits; b enters divided by n, and is known well enough for any n.

    Args:
      hsic: of E encoders, of at least 4 rows.

    Returns:
      Mean and variance, [E, E] each, in the units of `hsic.inner`; 0 for a constant encoder.

    Example:
      >>> x = jnp.array([[1.0], [0.0], [0.0], [0.0], [0.0]])
      >>> mean, variance = permutation_moments(pairwise_hsic([x]))
      >>> f"{mean[0, 0]:.3f} {variance[0, 0]:.3f}"  # <K, PKP'> is 1 or 1/16
      '0.250 0.141'
    """
    n = hsic.count.astype(hsic.inner.dtype)
    square = hsic.trace**2
    t = divide(jnp.diagonal(hsic.inner), square)
    s = divide(jnp.diagonal(hsic.diagonal), square)
    a = jnp.maximum((n - 1) * t - 1, 0)  # >= 0 by Cauchy-Schwarz
    b = n * (n + 1) * (s - 1 / n) - 2 * a
    variance = 2 * a[:, None] * a[None, :] / ((n - 1) ** 2 * (n + 1) * (n - 2))
    # Divided in two steps: n^5 would pass the range of float32 at n = 5e7.
    b = b / (n * (n - 1))
    variance += b[:, None] * b[None, :] * (n * (n - 1) / ((n + 1) * (n - 2) * (n - 3)))
    product = hsic.trace[:, None] * hsic.trace[None, :]
    return product / (n - 1), jnp.maximum(variance, 0) * product**2


def cka_null_moments(hsic: PairwiseHsic) -> tuple[Float[Array, "E E"], ...]:
    """Mean, variance and skewness of CKA over all n! permutations of one side's rows.

    The first two are exact: those of <K, PLP'> over the norms, which no permutation changes. The
    skewness is that of the gamma on [0, inf) with this mean and variance. 0 for a constant encoder.
    """
    mean, variance = permutation_moments(hsic)
    root = jnp.sqrt(jnp.diagonal(hsic.inner))
    norm = root[:, None] * root[None, :]
    mean, variance = divide(mean, norm), divide(variance, norm**2)
    return mean, variance, divide(2 * jnp.sqrt(variance), mean)


def row_orders(key, permutations: int, rows: int, mask) -> jax.Array:
    """[permutations, rows] orders: uniform among the rows that count, the others stay in place."""
    mask = None if mask is None else jnp.asarray(mask)

    def order(key):
        shuffled = jax.random.permutation(key, rows)
        if mask is None:
            return shuffled
        # The rows that count, in random order, are dealt to the places of the rows that count.
        shuffled = shuffled[jnp.argsort(~mask[shuffled], stable=True)]
        places = jnp.argsort(~mask, stable=True)
        dealt = jnp.zeros_like(shuffled).at[places].set(shuffled)
        return jnp.where(mask, dealt, jnp.arange(rows))

    return jax.lax.map(order, jax.random.split(key, permutations))


def permutation_null(
    blocks: Sequence[Float[Array, "n _"]],
    key: jax.Array,
    *,
    permutations: int = 200,
    space: str = "auto",
    mask: Bool[Array, " n"] | None = None,
    axis_name=None,
    precision=HIGHEST,
) -> tuple[Float[Array, "p E E"], Float[Array, "E E"]]:
    """CKA of all pairs after permuting the rows of one side, the same permutations for all pairs.

    Norms do not change under permutation, so each draw costs the inner products alone: in feature
    space n (D^2 + sum d_e^2) flops, in Gram space 2 n^2 (D + E^2); the Grams of the fixed side are
    built once. For the null of a maximum over a family of pairs (Groeger et al.), take the maximum
    over those pairs of each draw.

    Args:
      blocks: E arrays [n, d_e] with the same rows.
      key: a `jax.random.key`. The draws depend on it, on n (padding included) and on the mask, not
        on the number of devices.
      permutations: draws.
      space: "feature", "gram", or "auto" for the one with fewer operations.
      mask: [n] rows that count; only these are permuted.
      axis_name: mesh axis the rows are sharded over, if any (every device then gathers them all).
      precision: of the matrix products.

    Returns:
      [permutations, E, E] null scores (for i > j mirrored from j < i), and [E, E] observed CKA.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows.

    Example:
      >>> x = jnp.arange(12.0).reshape(6, 2) ** 2
      >>> null, observed = permutation_null([x, x + 1], jax.random.key(0), permutations=5)
      >>> null.shape, float(observed[0, 1].round(4))
      ((5, 2, 2), 1.0)
    """
    check_blocks(blocks, mask)
    rows = all_rows(blocks[0].shape[0], axis_name)
    space = resolve_space(space, blocks, axis_name)
    scaled, scale, count = normalised_blocks(blocks, mask, axis_name)
    hsic = hsic_of_normalised(scaled, scale, count, space, axis_name, precision)
    if mask is not None and axis_name is not None:
        mask = jax.lax.all_gather(mask, axis_name, tiled=True)
    orders = row_orders(key, permutations, rows, mask)
    if space == "gram":
        inner = mirror(gram_inner(scaled, orders, axis_name, precision))
    else:
        everyone = scaled
        if axis_name is not None:
            everyone = [jax.lax.all_gather(block, axis_name, tiled=True) for block in scaled]

        def permuted(order):
            if axis_name is not None:
                local = scaled[0].shape[0]
                first = jax.lax.axis_index(axis_name) * local
                order = jax.lax.dynamic_slice_in_dim(order, first, local)
            right = [block[order] for block in everyone]
            return feature_inner(scaled, right, axis_name, precision)

        inner = jax.lax.map(permuted, orders)
    root = jnp.sqrt(jnp.diagonal(hsic.inner))
    null = divide(inner, (root[:, None] * root[None, :])[None])
    return null, hsic.cka()


def calibrate(
    blocks: Sequence[Float[Array, "n _"]] | PairwiseHsic,
    *,
    method: str = "closed_form",
    permutations: int = 200,
    alpha: float = 0.05,
    key: jax.Array | None = None,
    mask: Bool[Array, " n"] | None = None,
    axis_name=None,
) -> Calibration:
    """CKA of all pairs of encoders, calibrated against the permutation of rows.

    Args:
      blocks: E arrays [n, d_e] with the same rows, or their `PairwiseHsic` for the closed form.
      method: "closed_form" (moments over all permutations) or "permutation" (a sample of them).
      permutations: draws, at least 1 / alpha - 1; for "permutation" only.
      alpha: level of tau, in (0, 1).
      key: a `jax.random.key`; for "permutation" only.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      A `Calibration` with [E, E] arrays.

    Raises:
      ValueError: if an option is out of range, there are fewer than 4 rows, or "permutation" lacks
        its key or its blocks.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (50, 3))
      >>> result = calibrate([x, x + 1, jnp.flip(x)])
      >>> [f"{score:.2f}" for score in result.score[0]]  # itself, a shifted copy, other rows
      ['1.00', '1.00', '0.02']
    """
    check_option("method", method, METHODS)
    check_fraction("alpha", alpha)
    given = isinstance(blocks, PairwiseHsic)
    if not given:
        check_blocks(blocks, mask)
        check_rows(all_rows(blocks[0].shape[0], axis_name), 4, "calibration")
    if method == "closed_form":
        hsic = blocks if given else pairwise_hsic(blocks, mask=mask, axis_name=axis_name)
        mean, variance, skewness = cka_null_moments(hsic)
        return tail_from_moments(hsic.cka(), mean, variance, alpha, skewness)
    check_draws(blocks, PairwiseHsic, key, permutations, alpha)
    null, observed = permutation_null(
        blocks, key, permutations=permutations, mask=mask, axis_name=axis_name
    )
    tau, p_value = tail_from_sample(observed, null, alpha)
    return Calibration(rescale(observed, tau), tau, p_value, observed, method)


def benjamini_hochberg(p_values: Float[Array, " m"]) -> Float[Array, " m"]:
    """q-values: the least false discovery rate at which each hypothesis is rejected.

    With p sorted, q_(i) = min over j >= i of m p_(j) / j, capped at 1.

    Args:
      p_values: the family, of any shape. For pairs give each pair once: of an [E, E] matrix, the
        entries above the diagonal (`p[jnp.triu_indices(E, 1)]`).

    Returns:
      q-values of the same shape.

    Example:
      >>> [f"{q:.4f}" for q in benjamini_hochberg(jnp.array([0.01, 0.5, 0.02, 0.04]))]
      ['0.0400', '0.5000', '0.0400', '0.0533']
    """
    p_values = jnp.asarray(p_values)
    flat = p_values.ravel()
    order = jnp.argsort(flat)
    ranks = jnp.arange(1, flat.size + 1).astype(flat.dtype)
    sorted_q = jax.lax.cummin(flat[order] * flat.size / ranks, reverse=True)
    q = jnp.zeros_like(flat).at[order].set(jnp.minimum(sorted_q, 1))
    return q.reshape(p_values.shape)
