"""How a network's features agree with a fixed target of the same images, by six measures.

A target is [n, k]: the scores X B of a panel on its substrate, or the same of something else. All
measures are those of `kernels`; each takes the features [n, d] and the target, and what has no
direction is symmetric:

    cka              linear CKA, biased, as arXiv:2606.07882 reports it
    debiased_cka     by the unbiased HSIC, 0 on average for unrelated features
    calibrated_cka   (cka - tau) / (1 - tau) from 0 up, tau the upper alpha quantile under
                     permutation of the images
    procrustes       ||X'Y||_* / (||X||_F ||Y||_F)
    predictivity     held-out R^2 of the target by ridge regression on the features
    mutual_knn       share of 10 nearest neighbors in common; k / (n - 1) by chance

Cost: n^2 d for neighbors and n d^2 for the rest; one program for all steps of all trainings.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from substrate_jax import kernels

NEIGHBORS = 10
TITLES = {
    "debiased_cka": "debiased CKA",
    "cka": "CKA, biased",
    "calibrated_cka": "calibrated CKA",
    "procrustes": "Procrustes similarity",
    "predictivity": "linear predictivity",
    "mutual_knn": "mutual kNN",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """Agreement with one target at T steps, [T] each.

    Attributes:
        debiased_cka: unbounded below, at most 1.
        cka: in [0, 1].
        calibrated_cka: in [0, 1].
        procrustes: in [0, 1].
        predictivity: at most 1; below 0 worse than the mean.
        mutual_knn: in [0, 1].
        tau: of the CKA, its quantile under permutation.
        p_value: of the CKA.
    """

    debiased_cka: Float[np.ndarray, " T"]
    cka: Float[np.ndarray, " T"]
    calibrated_cka: Float[np.ndarray, " T"]
    procrustes: Float[np.ndarray, " T"]
    predictivity: Float[np.ndarray, " T"]
    mutual_knn: Float[np.ndarray, " T"]
    tau: Float[np.ndarray, " T"]
    p_value: Float[np.ndarray, " T"]


def alignment(
    features: Sequence[Float[np.ndarray, "n d"]],
    target: Float[np.ndarray, "n k"],
    *,
    alpha: float = 0.05,
) -> Alignment:
    """Agreement of features at several steps with one target.

    Args:
        features: [n, d] at every step, rows those of the target.
        target: [n, k].
        alpha: level of tau.

    Raises:
        ValueError: other rows, or fewer than 12.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
        >>> found = alignment([x, x[::-1]], x)
        >>> found.debiased_cka.round(2).tolist()[0], found.mutual_knn.tolist()[0]
        (1.0, 1.0)
    """
    rows = {len(x) for x in features} | {len(target)}
    if len(rows) > 1 or min(rows) < NEIGHBORS + 2:
        raise ValueError(
            f"features and target have {sorted(rows)} rows; give the same images to all, "
            f"{NEIGHBORS + 2} or more"
        )
    fixed = jnp.asarray(target, jnp.float32)
    found = [_measures(jnp.asarray(x, jnp.float32), fixed, alpha) for x in features]
    names = [field.name for field in dataclasses.fields(Alignment)]
    return Alignment(
        **{name: np.array([float(one[name]) for one in found], np.float64) for name in names}
    )


@functools.partial(jax.jit, static_argnums=2)
def _measures(
    x: Float[Array, "n d"], target: Float[Array, "n k"], alpha: float
) -> dict[str, Float[Array, ""]]:
    blocks = [x, target]
    calibrated = kernels.calibrate_cka(blocks, alpha=alpha)
    found = {
        "debiased_cka": kernels.pairwise_cka(blocks, debiased=True),
        "cka": calibrated.observed,
        "calibrated_cka": calibrated.score,
        "procrustes": kernels.pairwise_procrustes(blocks),
        "predictivity": kernels.linear_predictivity(blocks),
        "mutual_knn": kernels.mutual_knn(blocks, (NEIGHBORS,)).recall[0],
        "tau": calibrated.tau,
        "p_value": calibrated.p_value,
    }
    return {name: values[0, 1] for name, values in found.items()}
