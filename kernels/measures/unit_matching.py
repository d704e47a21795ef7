"""Units of two encoders matched one to one, or softly: do single features mean the same?

With c_ij = corr(x_i, y_j) the correlation of column i of X with column j of Y, 0 where either is
constant, the matching is the transport plan of largest correlation,

    soft:  max sum_ij P_ij c_ij over P >= 0 with row sums 1 / d_x and column sums 1 / d_y,
    hard:  max of the mean of c over min(d_x, d_y) pairs, no unit in two of them.

At equal widths both are the best permutation, as the vertices of the soft problem are permutations
(Birkhoff); at others the hard one leaves units of the wider encoder out, and the soft one splits
them. sqrt(2 - 2 soft) is the soft matching distance of columns of norm 1, a metric (Khosla and
Williams 2024). Unlike most measures, both change as the features are rotated.

The hard problem is an assignment (`scipy.optimize.linear_sum_assignment`). So is the soft one with
every unit of X repeated L / d_x times and of Y L / d_y times, L the least common multiple:
marginals in whole numbers have plans in whole numbers. Where L exceeds `MOST_COPIES` the transport
is a linear program (HiGHS, to 1e-7). Both are solved in float64, on the host: this is no function
for `jax.jit`, has no derivative and no place in `MEASURES`.

Cost, per pair: 2 n d_x d_y flops; O(L^3) for an assignment (0.2 s at L = 1,000), or a program of
d_x d_y variables. Memory: d_x d_y, or L^2.

Not guaranteed: what a value means by itself, for chance alone correlates the best pairs: with few
rows and many units, compare with the value of shuffled rows.

References:
    Khosla, Williams (2024), Soft matching distance: a metric on neural representations that
    captures single-neuron tuning. UniReps.
    Li, Yosinski, Clune, Lipson, Hopcroft (2016), Convergent learning: do different neural networks
    learn the same representations? ICLR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Float

from ..arithmetic import AnyArray
from ..validate import check_blocks, check_rows

MOST_COPIES = 4096


def unit_matching(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    soft: bool = True,
    mask: Bool[AnyArray, " n"] | None = None,
) -> Float[np.ndarray, "E E"]:
    """Correlation of the best matching of the units of all pairs of encoders, on the host.

    max sum_ij P_ij corr(x_i, y_j) over plans P with uniform marginals, or over pairings.

    Args:
      blocks: E arrays [n, d_e] with the same rows, on any devices that this process sees.
      soft: uniform weights of all units; False for a pairing of min(d_x, d_y) units.
      mask: [n] rows that count; the others may hold anything.

    Returns:
      [E, E] in float64, symmetric, in [-1, 1], the diagonal the share of units that are not
      constant, mostly 1; NaN in the row and column of an encoder with NaN or inf.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, there are fewer
        than 2 rows, or the blocks are traced, as by `jax.jit`.

    Example:
      >>> x = np.array([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0], [2.0, 2.0]])
      >>> unit_matching([x, 3 * x[:, ::-1] + 7]).round(4).tolist()
      [[1.0, 1.0], [1.0, 1.0]]
      >>> unit_matching([x, x[:, :1]])[0, 1] < unit_matching([x, x[:, :1]], soft=False)[0, 1]
      np.True_

    References:
      Khosla, Williams 2024; Li et al. 2016.
    """
    check_blocks(blocks, mask)
    check_rows(blocks[0].shape[0], 2, "a matching of units")
    if any(isinstance(x, Tracer) for x in (*blocks, mask)):
        raise ValueError(
            "blocks must be arrays with values, got traced ones: call this outside jax.jit."
        )
    kept = slice(None) if mask is None else np.asarray(mask)
    units = [_unit_columns(np.asarray(x)[kept].astype(np.float64)) for x in blocks]
    match = _transport if soft else _assignment
    result = np.empty((len(units), len(units)))
    for i, x in enumerate(units):
        for j, y in enumerate(units[: i + 1]):
            correlations = x.T @ y
            finite = np.isfinite(correlations).all()
            result[i, j] = result[j, i] = match(correlations) if finite else np.nan
    return result


def _unit_columns(x):
    """Centered columns of norm 1, 0 where they are constant within rounding; NaN where any is."""
    if not np.isfinite(x).all():
        return np.full_like(x, np.nan)
    largest = np.abs(x).max(0, initial=0)
    x = x / np.where(largest > 0, largest, 1)
    x = x - x.mean(0)
    reach = np.abs(x).max(0, initial=0)
    # As the other measures have it, of features that were float32.
    constant = reach <= 8 * np.finfo(np.float32).eps
    x = x / np.where(constant, np.inf, reach)
    norm = np.linalg.norm(x, axis=0)
    return x / np.where(norm > 0, norm, 1)


def _assignment(correlations):
    """Mean over the best pairs."""
    from scipy.optimize import linear_sum_assignment

    pairs = linear_sum_assignment(correlations, maximize=True)
    return float(np.mean(correlations[pairs]))


def _transport(correlations, most_copies=MOST_COPIES):
    """The best plan's correlation: by an assignment of copies, or by a linear program."""
    rows, columns = correlations.shape
    copies = math.lcm(rows, columns)
    if copies <= most_copies:
        repeated = np.repeat(correlations, copies // rows, axis=0)
        return _assignment(np.repeat(repeated, copies // columns, axis=1))
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, kron, vstack

    of_rows = kron(eye_array(rows), np.ones((1, columns)))
    of_columns = kron(np.ones((1, rows)), eye_array(columns))
    shares = np.concatenate([np.full(rows, 1 / rows), np.full(columns, 1 / columns)])
    found = linprog(
        -correlations.ravel(), A_eq=vstack([of_rows, of_columns]), b_eq=shares, method="highs"
    )
    if found.status != 0:
        raise RuntimeError(f"The transport of {rows} x {columns} units failed: {found.message}")
    return float(-found.fun)
