"""Features: extraction from images, and the store that keeps them."""

from substrate_jax.features.extract import extract
from substrate_jax.features.features import Features, StoredRows
from substrate_jax.features.store import FeatureStore

__all__ = ["FeatureStore", "Features", "StoredRows", "extract"]
