"""One more encoder for the tests: a vision transformer of a few hundred parameters."""

import dataclasses

from substrate_jax.encoders.networks.vit import ViTConfig
from substrate_jax.encoders.registry import encoder_spec

TINY = "tiny_vit"
VIT = ViTConfig(8, 2, 2, patch_size=4, image_size=8, layer_scale=0.1, num_classes=3)


def tiny_spec():
    """Its record, which no registry holds."""
    return dataclasses.replace(
        encoder_spec("mini_vit_base"),
        name=TINY,
        config=VIT,
        panel=None,
        checkpoint="timm/tiny_vit.none",
    )
