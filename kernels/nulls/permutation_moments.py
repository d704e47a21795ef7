"""Exact mean, variance and third moment of <K, PLP'> over all n! permutations P of the rows.

Notation
    K is centered (K 1 = 0), symmetric, with diagonal k and trace T. What the trace alone does is
    the same under every permutation, so K is replaced by K0 = K - T/(n-1) H, H = I - 11'/n: trace
    0, and still centered. Then <K, PLP'> = T_K T_L / (n-1) + <K0, P L0 P'>.

Mean and variance
    With t = tr K^2 / T^2, s = sum_a k_a^2 / T^2, a = (n-1) t - 1, b = n (n+1) (s - 1/n) - 2 a,

        E   = T_K T_L / (n-1)
        Var = (T_K T_L)^2 [ 2 a_K a_L / ((n-1)^2 (n+1)(n-2))
                            + b_K b_L / ((n+1) n (n-1)(n-2)(n-3)) ],

    the published form with the parts that cancel removed by hand: a and b vanish for white
    features.

Third central moment
    `partitions` writes E <K0, P L0 P'>^3 in sums over the entries of one matrix, each a graph of
    three edges. A graph in which some vertex has a single end, or a loop stands alone, sums to 0 as
    K0 1 = 0 and tr K0 = 0; five remain:

        tr K0^3,  sum_a k_a^3,  sum_a k_a (K0^2)_aa,  k' K0 k,  sum_ab K0_ab^3   (k = diag K0).

    `PairwiseHsic.cubic` keeps them for each encoder, so that the third moment of all pairs costs
    nothing more. The published form (Kazi-Aoual et al.) is the same polynomial; here it is derived
    by the program, and tested against every permutation.

References:
    Kazi-Aoual, Hitier, Sabatier, Lebreton (1995), Refined approximations to permutation tests for
    multivariate inference. Computational Statistics & Data Analysis 20.
    Josse, Pages, Husson (2008), Testing the significance of the RV coefficient. CSDA 53.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..alignment.hsic import PairwiseHsic
from ..alignment.normalization import nan_pairs
from ..arithmetic import divide
from ..jit_over import jit_over
from .partitions import EDGES, Partition, third_moments


@jit_over("hsic")
def permutation_moments(hsic: PairwiseHsic) -> tuple[Float[Array, "E E"], Float[Array, "E E"]]:
    """Exact mean and variance of <K_i, P K_j P'> over all n! permutations P of the rows.

    Formulas in the module docstring. b enters divided by n, and is known well enough for any n. Of
    a, what rounding hides is taken as there (`_spread`): the variance is an upper bound where
    K is H within rounding, as for rows that form a regular simplex, on which permutations do
    nothing. A score that rounding alone lifts above the mean is then not significant.

    Args:
      hsic: of E encoders.

    Returns:
      Mean and variance, [E, E] each, in the units of `hsic.inner`; 0 for a constant encoder, NaN if
      fewer than 4 rows count.

    Example:
      >>> from substrate_jax.kernels import pairwise_hsic
      >>> x = jnp.array([[1.0], [0.0], [0.0], [0.0], [0.0]])
      >>> mean, variance = permutation_moments(pairwise_hsic([x]))
      >>> f"{mean[0, 0]:.3f} {variance[0, 0]:.3f}"  # <K, PKP'> is 1 or 1/16
      '0.250 0.141'
    """
    n = hsic.count.astype(hsic.inner.dtype)
    s = divide(jnp.diagonal(hsic.diagonal), hsic.trace**2)
    a, least = _spread(hsic)
    b = jnp.where(a > least, n * (n + 1) * (s - 1 / n) - 2 * a, 0)
    a = jnp.maximum(a, least)
    variance = 2 * _pairs(a) / ((n - 1) ** 2 * (n + 1) * (n - 2))
    # Divided in two steps: n^5 would pass the range of float32 at n = 5e7.
    b = b / (n * (n - 1))
    variance += _pairs(b) * (n * (n - 1) / ((n + 1) * (n - 2) * (n - 3)))
    product = _pairs(hsic.trace)
    mean, variance = product / (n - 1), jnp.maximum(variance, 0) * product**2
    return _of_enough_rows(mean, hsic), _of_enough_rows(variance, hsic)


@jit_over("hsic")
def third_moment(hsic: PairwiseHsic) -> Float[Array, "E E"]:
    """Exact third central moment of <K_i, P K_j P'> over all n! permutations P of the rows.

    Args:
      hsic: of E encoders, with its `cubic` sums (`pairwise_hsic(..., cubic=True)`).

    Returns:
      [E, E], in the cubed units of `hsic.inner`; 0 for an encoder that is constant or whose spread
      rounding hides, NaN if fewer than 4 rows count.

    Raises:
      ValueError: if `hsic` has no cubic sums.

    Example:
      >>> from substrate_jax.kernels import pairwise_hsic
      >>> x = jnp.array([[1.0], [0.0], [0.0], [0.0], [0.0]])
      >>> third = third_moment(pairwise_hsic([x], cubic=True))
      >>> f"{third[0, 0]:.4f}"  # 1 with probability 1/5, else 1/16: (15/16)^3 .2 .8 (.8 - .2)
      '0.0791'
    """
    if hsic.cubic is None:
        raise ValueError("hsic has no cubic sums: make it with pairwise_hsic(..., cubic=True).")
    total = third_moments(_kind, hsic.cubic, hsic.count.astype(hsic.inner.dtype))
    a, least = _spread(hsic)
    total *= _pairs(((hsic.scale > 0) & (a > least)).astype(total.dtype))
    return _of_enough_rows(total, hsic)


@jit_over("hsic")
def cka_null_moments(hsic: PairwiseHsic) -> tuple[Float[Array, "E E"], ...]:
    """Mean, variance and skewness of CKA over all n! permutations of one side's rows.

    They are those of <K, PLP'> over the norms, which no permutation changes. All three are exact if
    `hsic` has its cubic sums; without, the skewness is that of the gamma on [0, inf) with this mean
    and variance. 0 for a constant encoder.

    Args:
      hsic: of E encoders.

    Returns:
      Mean, variance and skewness, [E, E] each; NaN if fewer than 4 rows count.

    Example:
      >>> from substrate_jax.kernels import pairwise_hsic
      >>> x = jnp.array([[1.0], [0.0], [0.0], [0.0], [0.0]])
      >>> mean, variance, skewness = cka_null_moments(pairwise_hsic([x], cubic=True))
      >>> f"{mean[0, 0]:.3f} {variance[0, 0]:.3f} {skewness[0, 0]:.3f}"
      '0.250 0.141 1.500'
    """
    mean, variance = permutation_moments(hsic)
    root = jnp.sqrt(jnp.diagonal(hsic.inner))
    norm = _pairs(root)
    mean, deviation = divide(mean, norm), divide(jnp.sqrt(variance), norm)
    if hsic.cubic is None:
        skewness = divide(2 * deviation, mean)
    else:
        third = divide(divide(divide(third_moment(hsic), norm), norm), norm)
        skewness = divide(divide(divide(third, deviation), deviation), deviation)
    return tuple(_of_enough_rows(moment, hsic) for moment in (mean, deviation**2, skewness))


def _spread(hsic):
    """a of the module docstring, >= 0 by Cauchy-Schwarz, and the least that rounding lets be seen.

    <K, K> sums n^2 entries of one sign in tiles: measured on kernels of regular simplices it is
    off by up to eps min(3.2 n, 850) of itself, n = 4 to 2,000. A score moves by as much as from
    a = n times that.
    """
    n = hsic.count.astype(hsic.inner.dtype)
    t = divide(jnp.diagonal(hsic.inner), hsic.trace**2)
    least = float(jnp.finfo(t.dtype).eps) * jnp.minimum(4 * n, 1024) * n
    return (n - 1) * t - 1, least


def _of_enough_rows(moment, hsic):
    """NaN where fewer rows count than the formulas hold for, and of an encoder that has NaN."""
    return nan_pairs(jnp.where(hsic.count < 4, jnp.nan, moment), hsic.trace)


def _pairs(a):
    return a[:, None] * a[None, :]


def _kind(vertices: Partition) -> int | None:
    """Which of the five sums a graph of three edges is; None if it sums to 0."""
    if min(len(slots) for slots in vertices) < 2:
        return None  # an end by itself: K0 1 = 0
    vertex = {slot: number for number, slots in enumerate(vertices) for slot in slots}
    loops = [vertex[tail] for tail, head in EDGES if vertex[tail] == vertex[head]]
    if any(len(vertices[at]) == 2 for at in loops):
        return None  # a loop by itself: tr K0 = 0
    return {(3, 0): 0, (1, 3): 1, (2, 1): 2, (2, 2): 3, (2, 0): 4}[len(vertices), len(loops)]
