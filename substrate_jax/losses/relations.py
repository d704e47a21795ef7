"""Losses on how a network relates the images of a batch, as a target relates them.

Neither needs features of the target's width. X are the features of b images and Y those of the
target; sums are over images that count.

Where published code differs from the papers, and what is done here:

    similarity preserving  torchdistill divides rows of the Gram matrices by their sums of absolute
                           values, RepDistiller by their lengths, as the paper and we do
    relational             the paper sums over pairs and triples of different images, and we take
                           the mean over those; RepDistiller and torchdistill average over all,
                           equal ones too, which gives (b-1) / b of our distances and
                           (b-1)(b-2) / b^2 of our angles. RepDistiller weighs by 25 and 50
    probabilities (PKT)    the paper leaves an image's similarity to itself out and sums;
                           RepDistiller and torchdistill, as its authors' code, keep it and average
                           over all pairs, 1 / b of ours, which keeps it and averages over images

References:
    F. Tung, G. Mori (2019), Similarity-preserving knowledge distillation, arXiv:1907.09682.
    W. Park, D. Kim, Y. Lu, M. Cho (2019), Relational knowledge distillation, arXiv:1904.05068.
    N. Passalis, A. Tefas (2018), Learning deep representations with probabilistic knowledge
    transfer, arXiv:1803.10837.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from substrate_jax.kernels.arithmetic import (
    AnyArray,
    divide,
    gather_rows,
    matmul,
    pmax,
    psum,
    root,
    valid_rows,
)
from substrate_jax.kernels.jit_over import jit_over
from substrate_jax.losses.batch import (
    check_pair,
    mean_of_rows,
    number_of_rows,
    ready,
    unit_rows,
)

PKT_EPSILON = 1e-7  # added to probabilities, as in the authors' code
_VERTICES = 16  # whose triples are held at once


@jit_over("features", "target", "mask")
def similarity_preserving_loss(
    features: Float[AnyArray, "b d"],
    target: Float[AnyArray, "b k"],
    *,
    axis_name=None,
    mask: Bool[AnyArray, " b"] | None = None,
) -> Float[Array, ""]:
    """Difference of the two Gram matrices of a batch, every row of length 1 (SP).

        1/b^2 ||G(X) - G(Y)||^2,    G(X) = rows of X X' over their lengths

    Features are not centered, so a shift of them counts; one scale of all does not.

    Args:
      features: [b, d] of the network that is trained.
      target: [b, k] of the same images; no gradient flows into it.
      axis_name: mesh axis that the rows are sharded over, if any.
      mask: [b] rows that count.

    Returns:
      A scalar in [0, 4 / b]; a row of zeros has similarities of 0 and no gradient of its own.

    Raises:
      ValueError: inputs that are no floating-point matrices of the same rows, or fewer than 2 rows.

    Example:
      >>> x = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
      >>> float(similarity_preserving_loss(x, 3 * x[:, ::-1]))
      0.0
      >>> round(float(similarity_preserving_loss(x, jnp.eye(3))), 4)
      0.1626
    """
    _check(features, target, mask, axis_name, 2, "a similarity-preserving loss")
    grams = [_rows_of_gram(part, axis_name) for part in ready(features, target, mask)]
    rows = number_of_rows(grams[0], mask, axis_name)
    return divide(psum(jnp.sum((grams[0] - grams[1]) ** 2), axis_name), rows**2)


@jit_over("features", "target", "mask")
def relational_loss(
    features: Float[AnyArray, "b d"],
    target: Float[AnyArray, "b k"],
    *,
    distance: float = 1.0,
    angle: float = 2.0,
    axis_name=None,
    mask: Bool[AnyArray, " b"] | None = None,
) -> Float[Array, ""]:
    """Differences of distances and of angles between images (RKD).

        distance mean_ij h(|x_i - x_j| / m(X) - |y_i - y_j| / m(Y))
        + angle mean_ijk h(cos(x_j - x_i, x_k - x_i) - cos(y_j - y_i, y_k - y_i))

    over different images i, j, k, with h(e) = e^2 / 2 up to |e| = 1 and |e| - 1/2 beyond, and m the
    mean distance of the batch. A shift, a rotation and one scale of the features do not count.

    Args:
      features: [b, d] of the network that is trained.
      target: [b, k] of the same images; no gradient flows into it.
      distance: weight of the distances, 0 or more.
      angle: weight of the angles, 0 or more; 0 saves their b^3 (d + k) products.
      axis_name: mesh axis that the rows are sharded over, if any.
      mask: [b] rows that count.

    Returns:
      A scalar, 0 or more. Images with equal features have distance 0, and cosines of 0 with all
      others; nothing pulls them apart, so that constant features have a zero gradient.

    Raises:
      ValueError: inputs that are no floating-point matrices of the same rows, fewer than 3 rows, or
        a negative weight.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (8, 3))
      >>> abs(float(relational_loss(x, 3 * x[:, ::-1] + 7))) < 1e-6
      True
      >>> y = jax.random.normal(jax.random.key(1), (8, 2))
      >>> round(float(relational_loss(x, y, angle=0.0)), 4)
      0.1899
    """
    _check(features, target, mask, axis_name, 3, "a relational loss")
    if not (distance >= 0 and angle >= 0):
        raise ValueError(f"distance={distance}, angle={angle}: give weights of 0 or more.")
    # In units of the largest entry: what no square leaves the range of.
    own = [divide(x, pmax(jnp.max(jnp.abs(x)), axis_name)) for x in ready(features, target, mask)]
    everyone = [gather_rows(x, axis_name) for x in own]
    valid = valid_rows(len(own[0]), mask, axis_name)
    counted = jnp.ones(len(own[0]), bool) if mask is None else jnp.asarray(mask)
    pairs = valid[:, None] & valid[None, :] & ~jnp.eye(len(valid), dtype=bool)

    @jax.checkpoint
    def of_vertex(vertex):
        """Distances of all images from one, and the sum over its angles."""
        edges = [x - here[None] for x, here in zip(everyone, vertex, strict=True)]
        lengths = [root(jnp.sum(each**2, axis=1)) for each in edges]
        if angle == 0:
            return *lengths, jnp.zeros_like(lengths[0][0])
        cosines = [matmul(unit, unit.T) for unit in map(unit_rows, edges)]
        return *lengths, jnp.sum(jnp.where(pairs, optax.huber_loss(*cosines), 0))

    *lengths, angles = jax.lax.map(of_vertex, tuple(own), batch_size=min(_VERTICES, len(own[0])))
    seen = counted[:, None] & valid[None, :]  # an image is at distance 0 from itself in both
    b = number_of_rows(own[0], mask, axis_name)

    def mean_of_pairs(values):
        return divide(psum(jnp.sum(jnp.where(seen, values, 0)), axis_name), b * (b - 1))

    in_means = [divide(each, mean_of_pairs(each)) for each in lengths]
    angles = divide(mean_of_rows(angles, mask, axis_name), (b - 1) * (b - 2))
    return distance * mean_of_pairs(optax.huber_loss(*in_means)) + angle * angles


@jit_over("features", "target", "mask")
def pkt_loss(
    features: Float[AnyArray, "b d"],
    target: Float[AnyArray, "b k"],
    *,
    axis_name=None,
    mask: Bool[AnyArray, " b"] | None = None,
) -> Float[Array, ""]:
    """Divergence of similarities between images, read as probabilities (PKT).

        mean_i sum_j p_ij log((p_ij + e) / (q_ij + e)),    e = 1e-7,
        q_ij = (1 + cos(x_i, x_j)) / sum_k (1 + cos(x_i, x_k)),    p_ij of Y likewise

    Features are not centered, so a shift of them counts; the scale of each row does not.

    Args:
      features: [b, d] of the network that is trained.
      target: [b, k] of the same images; no gradient flows into it.
      axis_name: mesh axis that the rows are sharded over, if any.
      mask: [b] rows that count.

    Returns:
      A scalar, 0 or more (less e b); a row of zeros has cosines of 0 and a zero gradient.

    Raises:
      ValueError: inputs that are no floating-point matrices of the same rows, or fewer than 2 rows.

    Example:
      >>> x = jnp.array([[1.0, 0.0], [1.0, 1.0], [-1.0, 2.0]])
      >>> abs(float(pkt_loss(x, 3 * x[:, ::-1]))) < 1e-6
      True
      >>> round(float(pkt_loss(x, jnp.eye(3))), 4)
      0.0497
    """
    _check(features, target, mask, axis_name, 2, "a PKT loss")
    valid = valid_rows(len(features), mask, axis_name)

    def probabilities(x):
        unit = unit_rows(x)
        similar = matmul(unit, gather_rows(unit, axis_name).T) + 1
        similar = jnp.where(valid[None], similar, 0)
        return divide(similar, jnp.sum(similar, axis=1, keepdims=True))

    q, p = map(probabilities, ready(features, target, mask))
    divergence = jnp.sum(p * jnp.log((p + PKT_EPSILON) / (q + PKT_EPSILON)), axis=1)
    return mean_of_rows(divergence, mask, axis_name)


def _check(features, target, mask, axis_name, least: int, what: str) -> None:
    given = {"features": features, "target": target}
    check_pair(given, mask, axis_name, least=least, what=what)


def _rows_of_gram(x: Float[Array, "m d"], axis_name) -> Float[Array, "m b"]:
    """Inner products of local rows with those of all shards, every row over its length."""
    x = divide(x, pmax(jnp.max(jnp.abs(x)), axis_name))
    return unit_rows(matmul(x, gather_rows(x, axis_name).T))
