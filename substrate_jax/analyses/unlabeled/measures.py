"""What features say of a pretrained network: whether they collapsed, and whom they agree with.

Cost: one decomposition of n x d in float64, n d min(n, d).
"""

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from substrate_jax.analyses.emergence.spectrum import spectrum
from substrate_jax.analyses.unlabeled.results import Pretrained
from substrate_jax.data.preprocess import Preprocess, normalize
from substrate_jax.encoders.networks.network import Network
from substrate_jax.losses import cka_loss
from substrate_jax.training.loop import Fitted

FLAT = 1e-3  # of the largest deviation: below it a feature counts as constant
_cka_loss = jax.jit(cka_loss)


class Features(nnx.Module):
    """Images to the pooled features of a network.

    Args:
        network: in evaluation mode.
        preprocess: gives mean and standard deviation of the pixels.
    """

    def __init__(self, network: Network, preprocess: Preprocess):
        self.network = network
        self.preprocess = preprocess

    def __call__(self, images: UInt8[Array, "b s s 3"]) -> Float[Array, "b d"]:
        """Features."""
        return self.network.features(normalize(images, self.preprocess))


def measure(
    name: str,
    seed: int,
    features: Float[np.ndarray, "n d"],
    target: Float[np.ndarray, "n k"] | None,
    fitted: Fitted | None,
) -> Pretrained:
    """What features say of a pretrained network.

    Args:
        name: of the way.
        seed: of it.
        features: of images that it was pretrained on.
        target: that alignment is with.
        fitted: what came of the training.

    Example:
        >>> x = np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0], [2.0, 5.0]])
        >>> found = measure("scratch", 0, x, None, None)
        >>> found.constant, round(found.effective_rank, 3), found.variation < 0.05
        (0.5, 1.0, True)
    """
    x = np.asarray(features, np.float64)
    deviations = x.std(axis=0)
    square = float(np.square(x).sum(axis=1).mean())
    found = spectrum(features)
    return Pretrained(
        pretraining=name,
        seed=seed,
        loss=fitted.records[-1]["loss"] if fitted and fitted.records else float("nan"),
        alignment=float("nan") if target is None else 1 - float(_cka_loss(features, target)),
        rankme=found.rankme,
        effective_rank=found.effective_rank,
        deviation=float(np.median(deviations)),
        variation=float(np.square(deviations).sum() / square) if square else 0.0,
        constant=float(np.mean(deviations <= FLAT * deviations.max())),
        images_per_second=fitted.rows_per_second if fitted else float("nan"),
        memory=fitted.memory if fitted else 0,
    )
