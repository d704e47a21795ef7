"""Encoders of images and sounds as Flax NNX modules, and the registry of their checkpoints."""

import substrate_jax.encoders.records  # noqa: F401  registers every encoder
from substrate_jax.encoders.encoder import Encoder, load_encoder
from substrate_jax.encoders.find import find_spec, is_at_hand
from substrate_jax.encoders.registry import (
    GROUPS,
    EncoderSpec,
    encoder_spec,
    list_encoders,
    register_encoder,
    select_encoders,
)
from substrate_jax.encoders.untrained import untrained

__all__ = [
    "GROUPS",
    "Encoder",
    "EncoderSpec",
    "encoder_spec",
    "find_spec",
    "is_at_hand",
    "list_encoders",
    "load_encoder",
    "register_encoder",
    "select_encoders",
    "untrained",
]
