"""k nearest neighbors by cosine, weighted by similarity.

The k labeled rows of largest cosine s_i vote with weights exp(s_i / T); the share of a class is its
probability. T = 0.07 and votes of up to 20 are those of DINOv2's evaluation.

Features are used as they are given. A row of zeros has cosine 0 with every other. Among rows of
equal cosine those that come first in the episode are taken.

Cost: 2 m n d flops per episode, and m n similarities in memory.

References: M. Oquab et al. (2023), "DINOv2", arXiv:2304.07193; Z. Wu et al. (2018), "Unsupervised
feature learning via non-parametric instance discrimination", arXiv:1805.01978 (the weights).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

from substrate_jax.analyses.probe.heads.batch import Batch
from substrate_jax.analyses.transferability.scores.inputs import in_float64
from substrate_jax.kernels.arithmetic import divide, matmul

TEMPERATURE = 0.07
NEIGHBORS = 20


def nearest_neighbors(
    batch: Batch, k: int = NEIGHBORS, temperature: float = TEMPERATURE
) -> Float64[np.ndarray, "E m C"]:
    """Probabilities of the classes of the held-out rows.

    Args:
        batch: labeled rows.
        k: neighbors; all labeled rows where there are fewer.
        temperature: T > 0 of the weights.

    Returns:
        Shares that sum to 1 over the classes.

    Raises:
        ValueError: k below 1, or a temperature that is not positive.

    Example:
        >>> from substrate_jax.analyses.probe.heads.batch import make_batch
        >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.1], [0.1, 3.0]])
        >>> batch = make_batch(x, np.array([0, 1, 0, 1]), np.array([[0, 1]]), np.array([2, 3]))
        >>> nearest_neighbors(batch, k=1)[0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}: use 20, say")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}: use 0.07, say")
    fewest = int(batch.counts.sum(axis=1).min())
    found = _votes(batch.train, batch.one_hot, batch.test, np.float64(temperature), min(k, fewest))
    return np.asarray(found)[:, : batch.tested, : batch.classes]


@in_float64
@partial(jax.jit, static_argnums=4)
def _votes(train, one_hot, test, temperature, k):
    def unit(x):
        return divide(x, jnp.sqrt(jnp.sum(x**2, axis=-1, keepdims=True)))

    judged = unit(test)

    def of_episode(one):
        rows, classes = one
        similarity = matmul(judged, unit(rows).T)
        similarity = jnp.where(jnp.sum(classes, axis=1)[None] > 0, similarity, -jnp.inf)
        nearest, index = jax.lax.top_k(similarity, k)
        weight = jax.nn.softmax(nearest / temperature, axis=1)
        return jnp.einsum("mk,mkc->mc", weight, classes[index])

    return jax.lax.map(of_episode, (train, one_hot))
