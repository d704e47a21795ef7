"""Compare vision encoders in JAX."""

from substrate_jax.encoders import list_encoders, load_encoder
from substrate_jax.version import __version__

__all__ = ["__version__", "list_encoders", "load_encoder"]
