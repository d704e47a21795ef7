"""Architectures as Flax NNX modules, and the layers that they share."""
