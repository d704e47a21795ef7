"""Calibration of alignment: what would the score be if the rows had nothing to do with each other?

The null permutes the rows of one side. A score s above the null's upper alpha quantile tau is
calibrated to

    s_cal = max((s - tau) / (1 - tau), 0),    p = P(null >= s).

By permutation (`permutation`), with K draws: tau is the ceil((1-alpha)(K+1))-th smallest of the
observed score and the K null scores, and p = (1 + #{null >= s}) / (K+1), which cannot fall below
1 / (K+1), nor below the share of one order of the rows, 1 / n!, which few rows can. It is the
reference for the closed form, and the only one where rows are permuted within
strata.

Of 8 rows or fewer the closed form goes through all orders instead (`enumeration`), and of more its
p is no less than 1 / n!.

In closed form the first three moments over all n! permutations are exact (`permutation_moments`)
and follow from a few sums of each encoder, so that all pairs cost little beyond the observed CKA.
The null is right-skewed. Its tail is taken as Pearson type III, a shifted gamma (`gamma_tail`),
with the given skewness; without one (a stream of batches does not know it), as the gamma on
[minimum, inf) with that mean and variance, whose skewness is 2 std / (mean - minimum).

Measured against 100,000 permutations (`python -m tests.golden.check_null_tail`): error of tau in
percent at alpha = 0.05, 0.01 and 0.001, two independent encoders of 8 features of standard
deviations i^-1/2. The sampled tau has a standard error of 0.2 to 0.4, 0.3 to 0.8 and 0.6 to 1.4
percent itself.

    rows              exact skewness      gamma from 0
    60 Gaussian       0.5  -1.0  -4.0    -1.6   -6.7  -13.6
    60 cubed          0.6  -1.9   0.1    -2.1  -10.8  -15.1
    60 clustered      1.5   0.1   1.0    -0.8   -9.0  -14.2
    500 Gaussian      1.0   0.1  -2.0    -0.9   -5.2  -10.9
    500 cubed         2.4   0.2  -6.1    -0.4   -7.8  -19.0
    500 clustered     0.7  -0.6  -1.5    -1.2   -6.4  -11.2

Not guaranteed: p-values far beyond any sample are approximations of the tail, of which only the
order of magnitude of the logarithm means anything. `log10_p_value` holds them where `p_value`
underflows to 0, below about 1e-38 in float32. Where rounding hides the null, as of rows that form a
regular simplex, p is between 0.1 and 1 and no more is known. Exchangeable rows are assumed:
duplicates or video frames make every p too small, unless the strata say so.

References:
    Groeger, Wen, Brbic (2026), Revisiting the Platonic Representation Hypothesis: an Aristotelian
    view. arXiv:2602.14486. (arXiv:2606.07882 calls this calibration "Pang".)
    Kazi-Aoual, Hitier, Sabatier, Lebreton (1995), Refined approximations to permutation tests for
    multivariate inference. Computational Statistics & Data Analysis 20.
    Josse, Pages, Husson (2008), Testing the significance of the RV coefficient. CSDA 53.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..alignment.hsic import PairwiseHsic
from ..alignment.linear_cka import pairwise_hsic, resolve_space
from ..alignment.normalization import normalized_blocks, without_nan
from ..arithmetic import (
    AnyArray,
    MeshAxes,
    count_rows,
    divide,
    from_first,
    gather_rows,
    matmul,
    root,
    valid_rows,
)
from ..jit_over import jit_over
from ..validate import (
    all_rows,
    check_blocks,
    check_floating,
    check_fraction,
    check_option,
    check_rows,
    check_unmasked,
    compute_dtype,
)
from .calibrated import Calibration
from .enumeration import (
    MOST_ROWS,
    log_least_p,
    log_least_p_of_strata,
    tail_of_every_order,
)
from .gamma_tail import log_tail_and_quantile
from .orders import check_draws, needs_arrays
from .p_values import ROUNDING, tail_from_sample
from .permutation import permutation_null
from .permutation_moments import cka_null_moments

METHODS = ("closed_form", "permutation")
SKEWNESSES = ("auto", "exact", "gamma")


def rescale(observed, tau):
    """max((observed - tau) / (1 - tau), 0), and 0 where tau is within rounding of 1, or more.

    What rounding has above 1 counts as 1: of little room it would be much.
    """
    observed = jnp.where(observed > 1, 1, observed)
    room = jnp.where(1 - tau <= ROUNDING * jnp.finfo(tau.dtype).eps, 0, 1 - tau)
    score = jnp.maximum(divide(observed - tau, room), 0)
    return jnp.where(jnp.isnan(observed) | jnp.isnan(tau), jnp.nan, score)


@jit_over("observed", "mean", "variance", "skewness", "support_minimum", "step")
def tail_from_moments(
    observed: Float[AnyArray, "*shape"],
    mean: Float[AnyArray, "*#shape"],
    variance: Float[AnyArray, "*#shape"],
    alpha: float = 0.05,
    skewness: Float[AnyArray, "*#shape"] | None = None,
    support_minimum: float = 0.0,
    step: Float[AnyArray, "*#shape"] | float = 0.0,
) -> Calibration:
    """Calibrates a statistic whose null is known by its moments, with a Pearson type III tail.

    With skewness g the null is modeled as mean + std (G - 4/g^2) g/2, G gamma of shape 4/g^2:
    right-skewed for g > 0, mirrored for g < 0, normal at 0. The tail is an approximation: see the
    module docstring.

    Args:
      observed: any shape; the most it can be is 1.
      mean: of the null, broadcastable to `observed`.
      variance: of the null, >= 0. Where it is 0 the null is the point `mean`.
      alpha: level of tau, in (0, 1).
      skewness: of the null. None takes that of the gamma that starts at `support_minimum`.
      support_minimum: the lowest value of the statistic; used only without `skewness`.
      step: what the statistic moves in, if it is discrete, broadcastable to `observed`: p is that
        of half a step less.

    Returns:
      A `Calibration` of the shape of `observed`; differentiable in `observed` only. Above a point
      is what is so by more than 16 eps of it. NaN where the score or a moment is.

    Raises:
      ValueError: if `alpha` is out of range, or `observed` is no floating-point array.

    Example:
      >>> tail = tail_from_moments(jnp.array(0.5), jnp.array(0.1), jnp.array(0.01))
      >>> f"{tail.tau:.3f} {tail.p_value:.4f}"
      '0.300 0.0067'
    """
    check_fraction("alpha", alpha)
    check_floating("observed", observed)
    check_unmasked("mean", mean)
    check_unmasked("variance", variance)
    observed = jnp.asarray(observed, compute_dtype(observed))
    frozen = [observed, jnp.asarray(mean), jnp.asarray(variance)]
    frozen += [] if skewness is None else [jnp.asarray(skewness)]
    frozen = [jax.lax.stop_gradient(jnp.broadcast_to(v, observed.shape)) for v in frozen]
    value, mean, variance, *third = frozen
    std = jnp.sqrt(jnp.maximum(variance, 0))
    g = third[0] if third else divide(2 * std, mean - support_minimum)
    above = value - mean - jnp.asarray(step, value.dtype) / 2
    log_tail, quantile = log_tail_and_quantile(divide(above, std), alpha, g)
    tau = jnp.where(jnp.isnan(value), jnp.nan, mean + std * quantile)
    slack = ROUNDING * jnp.finfo(value.dtype).eps * jnp.abs(mean)
    point = jnp.where(value - mean > slack, -jnp.inf, 0).astype(value.dtype)
    log_p = jnp.where(jnp.isnan(tau), tau, jnp.where(std > 0, log_tail, point))
    return Calibration(
        rescale(observed, tau),
        tau,
        jnp.exp(log_p),
        observed,
        "closed_form",
        log_p / math.log(10),
        "gamma" if skewness is None else "exact",
    )


def at_least_one_order(found: Calibration, count: Int[Array, ""], least=None) -> Calibration:
    """p no less than 1 / n!, the share of one order of the n rows, or than exp(least)."""
    least = log_least_p(count, found.p_value.dtype) if least is None else least
    log10 = found.log10_p_value
    log10 = jnp.log10(found.p_value) if log10 is None else log10
    low = log10 * math.log(10) < least
    return dataclasses.replace(
        found,
        p_value=jnp.where(low, jnp.exp(least), found.p_value),
        log10_p_value=jnp.where(low, least / math.log(10), log10),
    )


def by_every_order(found: Calibration, tau, p_value) -> Calibration:
    """The calibration with tau and p of all orders; NaN where it was."""
    tau, p_value = (jnp.where(jnp.isnan(found.tau), jnp.nan, a) for a in (tau, p_value))
    score = rescale(found.observed, tau)
    return Calibration(score, tau, p_value, found.observed, found.method)


def whole_grams(blocks, mask, axis_name):
    """[E, n, n] centered kernels of unit trace over all shards, and which rows count."""
    scaled, scales, _ = normalized_blocks(blocks, mask, axis_name)
    everyone = [gather_rows(x, axis_name) for x in without_nan(scaled, scales)]
    grams = jnp.stack([matmul(x, x.T) for x in everyone])
    return jax.lax.stop_gradient(grams), valid_rows(len(blocks[0]), mask, axis_name)


def choose_skewness(skewness: str, blocks, axis_name=None) -> str:
    """The skewness named, or for "auto" the exact one where its sums cost no change of space.

    Args:
      skewness: "exact", "gamma" or "auto".
      blocks: E arrays [n, d_e], or their shapes; or a `PairwiseHsic`, which has the sums or not.
      axis_name: mesh axis the rows are sharded over, if any.

    Raises:
      ValueError: if the option is unknown, or a `PairwiseHsic` lacks the sums of "exact".
    """
    check_option("skewness", skewness, SKEWNESSES)
    if isinstance(blocks, PairwiseHsic):
        known = blocks.cubic is not None
        if skewness == "exact" and not known:
            raise ValueError(
                "skewness 'exact' needs cubic sums: make hsic with pairwise_hsic(..., cubic=True)."
            )
    else:
        known = skewness != "auto" or resolve_space("auto", blocks, MeshAxes(axis_name)) == "gram"
    return "gamma" if skewness == "gamma" or not known else "exact"


@jit_over("blocks", "key", "mask", "strata")
def calibrate_cka(
    blocks: Sequence[Float[AnyArray, "n _"]] | PairwiseHsic,
    *,
    method: str = "closed_form",
    permutations: int = 200,
    alpha: float = 0.05,
    key: jax.Array | None = None,
    mask: Bool[AnyArray, " n"] | None = None,
    strata: Int[AnyArray, " n"] | None = None,
    skewness: str = "auto",
    batch: int = 1,
    axis_name=None,
) -> Calibration:
    """CKA of all pairs of encoders, calibrated against the permutation of rows.

    Args:
      blocks: E arrays [n, d_e] with the same rows, or their `PairwiseHsic` for the closed form.
      method: "closed_form" (moments over all permutations, or of 8 rows and fewer all of them) or
        "permutation" (a sample of them).
      permutations: draws, at least 1 / alpha - 1; for "permutation" only.
      alpha: level of tau, in (0, 1).
      key: a `jax.random.key`; for "permutation" only.
      mask: [n] rows that count; the others may hold anything.
      strata: [n] integer labels (video, class, patient): rows are permuted within their label only;
        for "permutation" only.
      skewness: of the closed form's tail: "exact", which needs Gram space; "gamma", that of the
        gamma on [0, inf) with the mean and variance; "auto" for "exact" where Gram space is the
        cheaper one anyway.
      batch: draws computed at once, for "permutation" only (`orders.sample_null`).
      axis_name: mesh axis the rows are sharded over, if any; the draws are then split over it.

    Returns:
      A `Calibration` with [E, E] arrays.

    Raises:
      ValueError: if an option is out of range, there are fewer than 4 rows, "permutation" lacks
        its key or its blocks, or "closed_form" is given strata.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (50, 3))
      >>> result = calibrate_cka([x, x + 1, jnp.flip(x)])
      >>> [f"{score:.2f}" for score in result.score[0]]  # itself, a shifted copy, other rows
      ['1.00', '1.00', '0.02']
    """
    check_option("method", method, METHODS)
    check_fraction("alpha", alpha)
    if not isinstance(blocks, PairwiseHsic):
        check_blocks(blocks, mask)
        check_rows(all_rows(blocks[0].shape[0], axis_name), 4, "calibration")
    check_option("skewness", skewness, SKEWNESSES)
    if method == "closed_form":
        if strata is not None:
            raise ValueError(
                "strata restrict the permutations, which the closed form does not cover, got "
                "method='closed_form': use method='permutation'."
            )
        exact = choose_skewness(skewness, blocks, axis_name) == "exact"
        if isinstance(blocks, PairwiseHsic):
            hsic = blocks
        else:
            hsic = pairwise_hsic(blocks, mask=mask, axis_name=axis_name, cubic=exact)
        mean, variance, third = cka_null_moments(hsic)
        found = tail_from_moments(hsic.cka(), mean, variance, alpha, third if exact else None)
        if isinstance(blocks, PairwiseHsic) or all_rows(len(blocks[0]), axis_name) > MOST_ROWS:
            return at_least_one_order(found, hsic.count)
        grams, valid = whole_grams(blocks, mask, axis_name)
        tau, p_value = tail_of_every_order(grams, valid, alpha)
        norm = root(jnp.diagonal(hsic.inner))
        tau = divide(tau, norm[:, None] * norm[None, :])
        return by_every_order(found, from_first(tau, axis_name), from_first(p_value, axis_name))
    if isinstance(blocks, PairwiseHsic):
        raise needs_arrays(blocks)
    null, observed = permutation_null(
        blocks,
        check_draws(key, permutations, alpha),
        permutations=permutations,
        mask=mask,
        strata=strata,
        axis_name=axis_name,
        batch=batch,
    )
    tau, p_value = tail_from_sample(observed, null, alpha)
    found = Calibration(rescale(observed, tau), tau, p_value, observed, method)
    least = None
    if strata is not None:
        valid = valid_rows(len(blocks[0]), mask, axis_name)
        least = log_least_p_of_strata(gather_rows(strata, axis_name), valid, p_value.dtype)
        least = from_first(least, axis_name)
    return at_least_one_order(found, count_rows(len(blocks[0]), mask, axis_name), least)
