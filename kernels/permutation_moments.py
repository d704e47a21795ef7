"""Exact mean, variance and third moment of <K, PLP'> over all n! permutations P of the rows.

Notation
    K is centred (K 1 = 0), symmetric, with diagonal k and trace T. What the trace alone does is the
    same under every permutation, so K is replaced by K0 = K - T/(n-1) H, H = I - 11'/n: trace 0,
    and still centred. Then <K, PLP'> = T_K T_L / (n-1) + <K0, P L0 P'>.

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

from .cka import PairwiseHsic
from .moments import divide
from .partitions import EDGES, Partition, third_moments


def permutation_moments(hsic: PairwiseHsic) -> tuple[Float[Array, "E E"], Float[Array, "E E"]]:
    """Exact mean and variance of <K_i, P K_j P'> over all n! permutations P of the rows.

    Formulas in the module docstring. Rounding: a is known to eps (n-1) t, so white features with
    d >> n lose digits; b enters divided by n, and is known well enough for any n.

    Args:
      hsic: of E encoders, of at least 4 rows.

    Returns:
      Mean and variance, [E, E] each, in the units of `hsic.inner`; 0 for a constant encoder.

    Example:
      >>> from substrate_jax.kernels import pairwise_hsic
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
    variance = 2 * _pairs(a) / ((n - 1) ** 2 * (n + 1) * (n - 2))
    # Divided in two steps: n^5 would pass the range of float32 at n = 5e7.
    b = b / (n * (n - 1))
    variance += _pairs(b) * (n * (n - 1) / ((n + 1) * (n - 2) * (n - 3)))
    product = _pairs(hsic.trace)
    return product / (n - 1), jnp.maximum(variance, 0) * product**2


def third_moment(hsic: PairwiseHsic) -> Float[Array, "E E"]:
    """Exact third central moment of <K_i, P K_j P'> over all n! permutations P of the rows.

    Args:
      hsic: of E encoders, with its `cubic` sums (`pairwise_hsic(..., cubic=True)`).

    Returns:
      [E, E], in the cubed units of `hsic.inner`; 0 for a constant encoder.

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
    return total * _pairs(jnp.where(hsic.scale > 0, 1, 0).astype(total.dtype))


def cka_null_moments(hsic: PairwiseHsic) -> tuple[Float[Array, "E E"], ...]:
    """Mean, variance and skewness of CKA over all n! permutations of one side's rows.

    They are those of <K, PLP'> over the norms, which no permutation changes. All three are exact if
    `hsic` has its cubic sums; without, the skewness is that of the gamma on [0, inf) with this mean
    and variance. 0 for a constant encoder.

    Args:
      hsic: of E encoders, of at least 4 rows.

    Returns:
      Mean, variance and skewness, [E, E] each.
    """
    mean, variance = permutation_moments(hsic)
    root = jnp.sqrt(jnp.diagonal(hsic.inner))
    norm = _pairs(root)
    mean, deviation = divide(mean, norm), divide(jnp.sqrt(variance), norm)
    if hsic.cubic is None:
        return mean, deviation**2, divide(2 * deviation, mean)
    third = divide(divide(divide(third_moment(hsic), norm), norm), norm)
    skewness = divide(divide(divide(third, deviation), deviation), deviation)
    return mean, deviation**2, skewness


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
