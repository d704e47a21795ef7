"""The classes an encoder was trained on, as it sees them in images: its own classifier's output.

A classifier is a linear map of the pooled features, so features that were extracted are all that it
needs. The head of an image and text encoder is linear too, but its outputs are no classes.

Cost: 2 n d S flops for S classes.
"""

import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Float

from substrate_jax.encoders.encoder import Encoder


def reason_without_classes(encoder: Encoder) -> str | None:
    """Why an encoder has no probabilities of classes; None where it has.

    Example:
        >>> from substrate_jax.encoders import load_encoder
        >>> reason_without_classes(load_encoder("mini_clip_base"))
        'it was not trained on classes (image text)'
    """
    if encoder.spec.paradigm != "supervised":
        return f"it was not trained on classes ({encoder.spec.paradigm.replace('_', ' ')})"
    if not encoder.module.config.num_classes:
        return "its weights hold no classifier"
    return None


def class_probabilities(
    encoder: Encoder, features: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "n S"]:
    """Softmax of the classifier's outputs, in float64.

    Args:
        encoder: trained on classes.
        features: its own, of n images.

    Raises:
        ValueError: an encoder without classes.

    Example:
        >>> from substrate_jax.encoders import load_encoder
        >>> encoder = load_encoder("mini_vit_base")
        >>> found = class_probabilities(encoder, np.ones((2, 96), np.float32))
        >>> found.shape, found.sum(axis=1).round(12).tolist()
        ((2, 100), [1.0, 1.0])
    """
    if reason := reason_without_classes(encoder):
        raise ValueError(f"{encoder.name} has no classes: {reason}; leave it out")
    logits = encoder.module.classify(jnp.asarray(features, encoder.dtype))
    return scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
