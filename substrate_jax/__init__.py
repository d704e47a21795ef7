"""Compare vision encoders in JAX: encoders, features, kernels, and the substrate of a panel."""

from substrate_jax.analyses.cka.compare import compare_encoders
from substrate_jax.data import open_source
from substrate_jax.encoders import list_encoders, load_encoder
from substrate_jax.features import Features, extract
from substrate_jax.mesh import make_mesh
from substrate_jax.substrate.fitted import Substrate, pcka
from substrate_jax.version import __version__

__all__ = [
    "Features",
    "Substrate",
    "__version__",
    "compare_encoders",
    "extract",
    "list_encoders",
    "load_encoder",
    "make_mesh",
    "open_source",
    "pcka",
]
