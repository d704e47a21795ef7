"""Registers every encoder, family by family; the order is that of `list_encoders`."""

from substrate_jax.encoders.records import resnet, convnext, vit, mini  # noqa: F401, I001
