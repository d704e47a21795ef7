"""Linear predictivity: how well one encoder's features predict another's on held-out images.

Ridge regression from X [n, d] to Y [n, e], both centered on the training rows T,

    W = argmin ||Y_T - X_T W||^2 + c t ||W||^2,     t = tr(X_T'X_T) / min(|T|, d),

so that c is relative to the mean variance of a direction of X. The rows that count are dealt in
random order (from `seed`) to F folds of nearly equal size. Each fold S is held out once, and

    predictivity(X, Y) = mean over S of 1 - ||Y_S - Yhat_S||^2 / ||Y_S - mean(Y_S)||^2,

with squared norms over all columns: the variance-weighted R^2. The penalty c is the one of
`PENALTIES` that does best on an inner split: train without S and the fold after it, test on that
fold, one choice for each S and each pair; then train on everything but S. Values are not clamped:
0 is a prediction by the mean, and below 0 is worse than that. The measure is not symmetric (the
row's encoder predicts the column's), is blind to rotations, shifts and scales of both, and close
to, but not, 1 for an encoder with itself, as the ridge shrinks.

Encoders wider than n are first turned into n columns, which changes no inner product and thus no
prediction: the primal problem then is as small as the dual.

Cost, with r = min(n, d_e), R = sum of all r: for each encoder, 2 F eigendecompositions of order r,
4 F n r R flops for the cross products, and 28 F n r R for the errors of 7 penalties. Memory: n R
and r R. Rows may be sharded (they are gathered only if d > n).

Not guaranteed: a copy of a held-out image in the training rows is leakage, and raises the value.
The choice of c depends on rounding where two penalties do equally well.

References:
    Schrimpf, Kubilius, et al. (2018), Brain-Score: which artificial neural network for object
    recognition is most brain-like? bioRxiv 407007 (the use of held-out linear prediction).
    Hoerl, Kennard (1970), Ridge regression. Technometrics 12.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..alignment.normalization import nan_pairs, normalized_blocks, without_nan
from ..arithmetic import HIGHEST, AnyArray, divide, psum, valid_rows
from ..blocks import first_row
from ..jit_over import jit_over
from ..validate import all_rows, check_at_least, check_blocks, check_mask, check_rows
from .shapes import rotated_to_fewer_columns

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)


@jit_over("blocks", "mask")
def linear_predictivity(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    folds: int = 5,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """Held-out R^2 of ridge regression from each encoder (row) to each other (column).

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      folds: F >= 3 parts of the rows; each is held out once.
      penalties: positive values of c to choose from on the inner split.
      seed: of the order in which rows are dealt to the folds.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E], at most 1, not symmetric and not clamped; 0 where either encoder is constant, NaN
      where either has NaN or inf.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, an option is out
        of range, or there are fewer than two rows per fold.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (60, 3))
      >>> [f"{value:.2f}" for value in linear_predictivity([x, x[:, :1]]).ravel()]
      ['1.00', '1.00', '0.14', '1.00']

    References:
      Schrimpf et al. 2018.
    """
    check_blocks(blocks, mask)
    check_at_least("folds", folds, 3)
    if not penalties or min(penalties) <= 0:
        raise ValueError(f"penalties must be positive, got {penalties}: use 0.01, say.")
    local = blocks[0].shape[0]
    check_rows(all_rows(local, axis_name), 2 * folds, f"predictivity with {folds} folds")
    scaled, scales, _ = normalized_blocks(blocks, mask, axis_name)
    scaled = without_nan(scaled, scales)
    columns = rotated_to_fewer_columns(scaled, axis_name)
    dtype = scaled[0].dtype
    widths = [x.shape[1] for x in columns]
    targets = jnp.concatenate(columns, axis=1)
    encoder_of = jnp.repeat(
        jnp.arange(len(widths)), jnp.asarray(widths), total_repeat_length=sum(widths)
    )
    grid = jnp.asarray(penalties, dtype)
    fold = fold_of_rows(local, folds, seed, mask=mask, axis_name=axis_name)

    def energy(residual):  # [n, R] -> [E] squared norms, over all rows
        squares = psum(jnp.sum(residual**2, axis=0), axis_name)
        return jax.ops.segment_sum(squares, encoder_of, len(widths))

    def centered(x, rows):
        """`x` less the mean over `rows`, and the number of them."""
        count = psum(jnp.sum(rows), axis_name).astype(dtype)
        kept = jnp.where(rows[:, None], x, 0)
        mean = psum(jnp.sum(kept, axis=0), axis_name) / jnp.maximum(count, 1)
        return x - mean[None, :], count

    def errors(x, train, held):
        """[G, E] squared errors on `held` of the fit to `train`, for each penalty and target."""
        (inputs, count), (outputs, _) = centered(x, train), centered(targets, train)
        fitted = jnp.where(train[:, None], inputs, 0)
        gram, cross = psum(
            (
                jnp.matmul(fitted.T, fitted, precision=HIGHEST),
                jnp.matmul(fitted.T, outputs, precision=HIGHEST),
            ),
            axis_name,
        )
        values, vectors = jnp.linalg.eigh(gram)
        size = jnp.trace(gram) / jnp.minimum(count, x.shape[1])
        turned = jnp.matmul(vectors.T, cross, precision=HIGHEST)
        scores = jnp.matmul(inputs, vectors, precision=HIGHEST)

        def error(penalty):
            weights = divide(turned, (jnp.maximum(values, 0) + penalty * size)[:, None])
            predicted = jnp.matmul(scores, weights, precision=HIGHEST)
            return energy(jnp.where(held[:, None], outputs - predicted, 0))

        return jax.lax.map(error, grid)

    def score(x, held_fold):
        held, inner = fold == held_fold, fold == (held_fold + 1) % folds
        train = (fold >= 0) & ~held
        best = jnp.argmin(errors(x, train & ~inner, inner), axis=0)
        error = jnp.take_along_axis(errors(x, train, held), best[None, :], axis=0)[0]
        spread = energy(jnp.where(held[:, None], centered(targets, held)[0], 0))
        return jnp.where(spread > 0, 1 - divide(error, spread), 0)

    def row(x):
        scores = jax.lax.map(lambda held_fold: score(x, held_fold), jnp.arange(folds))
        constant = psum(jnp.sum(x**2), axis_name) == 0
        return jnp.where(constant, 0, jnp.mean(scores, axis=0))

    return nan_pairs(jnp.stack([row(x) for x in columns]), scales)


def fold_of_rows(
    rows: int,
    folds: int,
    seed: int = 0,
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Int[Array, " n"]:
    """The fold of each row: the rows that count, in random order, are dealt in turn.

    Args:
      rows: local rows n.
      folds: how many.
      seed: of the order.
      mask: [n] rows that count.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [n] numbers 0 .. folds - 1, or -1 for rows that do not count. They do not depend on the number
      of devices, nor on rows after the last one that counts.

    Raises:
      ValueError: if `mask` does not fit.

    Example:
      >>> sorted(fold_of_rows(5, 2).tolist())
      [0, 0, 0, 1, 1]
    """
    check_mask(mask, rows)
    key = jax.random.key(seed)
    everyone = jnp.arange(all_rows(rows, axis_name))
    draws = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(everyone)
    valid = valid_rows(rows, mask, axis_name)
    order = jnp.argsort(jnp.where(valid, draws, jnp.inf))
    dealt = jnp.zeros_like(order).at[order].set(everyone % folds)
    dealt = jnp.where(valid, dealt, -1)
    return jax.lax.dynamic_slice_in_dim(dealt, first_row(rows, axis_name), rows)
