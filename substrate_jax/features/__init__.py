"""Features: extraction from images, and the store that keeps them."""

from substrate_jax.features.extract import Features, extract
from substrate_jax.features.store import FeatureStore

__all__ = ["FeatureStore", "Features", "extract"]
