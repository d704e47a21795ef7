"""Networks as they are before training, for controls: the architecture alone."""

import dataclasses
import zlib

import jax.numpy as jnp
import numpy as np

from substrate_jax.encoders import weights as checkpoints
from substrate_jax.encoders.encoder import Encoder
from substrate_jax.encoders.networks.layers import constant_rngs
from substrate_jax.encoders.registry import EncoderSpec, Paradigm

UNTRAINED: Paradigm = "untrained"


def untrained_spec(spec: EncoderSpec, seed: int = 0) -> EncoderSpec:
    """The record of `untrained`: another name, trained on nothing, and in no group."""
    name = f"{spec.name}-{UNTRAINED}-{seed}"
    return dataclasses.replace(spec, name=name, paradigm=UNTRAINED, shared=False)


def untrained(spec: EncoderSpec, seed: int = 0, *, dtype: jnp.dtype = jnp.float32) -> Encoder:
    """An encoder's architecture with the weights its modules start from before training.

    Convolutions are drawn from He's normal distribution, linear maps and position embeddings from
    a normal one of deviation 0.02 cut at two, biases are 0, and batch normalization has mean 0 and
    variance 1. The draws depend on the seed and the encoder's name, so two encoders of one shape
    differ; name and fingerprint say so, and no store takes it for the trained. NumPy draws them, as
    JAX would compile an initializer for every shape.

    Args:
        spec: record of the trained one, whose preprocessing is kept.
        seed: of the weights.
        dtype: float32 or bfloat16.

    Example:
        >>> from substrate_jax.encoders import encoder_spec
        >>> encoder = untrained(encoder_spec("mini_vit_base"), 3)
        >>> encoder.name, encoder.sha256
        ('mini_vit_base-untrained-3', 'untrained-3-mini_vit_base')
    """
    label = f"{UNTRAINED}-{seed}"
    rng = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    module = spec.config.build(constant_rngs(rng))
    arrays = checkpoints.checkpoint_arrays(module)
    module = checkpoints.fill(module, arrays, source=label, dtype=dtype)
    module.eval()
    sha256 = f"{label}-{spec.name}"
    return Encoder(untrained_spec(spec, seed), module, source=label, sha256=sha256, dtype=dtype)
