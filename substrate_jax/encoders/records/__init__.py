"""Registers every encoder, family by family; the order is that of `list_encoders`."""

# ruff: noqa: F401, I001
from substrate_jax.encoders.records import resnet, regnet, efficientnet, convnext
from substrate_jax.encoders.records import mobilevit, maxvit, vit, swin, beit, mini
from substrate_jax.encoders.records import sounds
