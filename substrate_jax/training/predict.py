"""What a trained module says of images, batch by batch; modules of one shape share a program."""

import functools
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int, UInt8

Images = UInt8[np.ndarray, "n s s 3"]


@functools.partial(jax.jit, static_argnums=0)
def _call(graph, state, images):
    return nnx.merge(graph, state)(images)


def outputs(module: Any, images: Images, batch_size: int) -> Float[np.ndarray, "n d"]:
    """What a module gives for images.

    Args:
        module: maps uint8 [b, s, s, 3] to [b, d]; in evaluation mode.
        images: uint8 [n, s, s, 3], at least one.
        batch_size: images at once; the last batch is filled up.
    """
    graph, state = nnx.split(module)
    found = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padded = np.resize(batch, (batch_size, *batch.shape[1:]))
        found.append(np.asarray(_call(graph, state, padded))[: len(batch)])
    return np.concatenate(found)


def predict(module: Any, images: Images, batch_size: int) -> Int[np.ndarray, " n"]:
    """The likeliest class of each image, by a module that gives logits; see `outputs`."""
    return outputs(module, images, batch_size).argmax(-1)


def accuracy(module: Any, images: Images, labels: Int[np.ndarray, " n"], batch_size: int) -> float:
    """Percent of images whose likeliest class is theirs; NaN of none."""
    if not len(images):
        return float("nan")
    return float(100 * (predict(module, images, batch_size) == labels).mean())
