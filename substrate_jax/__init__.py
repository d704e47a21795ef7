"""Compare vision encoders in JAX: encoders, features, kernels, and the substrate of a panel.

Names are imported when they are first used, so that importing the package, or its kernels alone,
costs little more than importing JAX.
"""

import importlib
from typing import TYPE_CHECKING

from substrate_jax.version import __version__

if TYPE_CHECKING:
    from substrate_jax import losses, plot
    from substrate_jax.analyses.cka.compare import compare_encoders
    from substrate_jax.analyses.detector.detector import DomainDetector
    from substrate_jax.data.domains import open_source
    from substrate_jax.encoders import list_encoders, load_encoder
    from substrate_jax.features import Features, extract
    from substrate_jax.losses.target import SubstrateTarget
    from substrate_jax.mesh import make_mesh
    from substrate_jax.substrate import Substrate, pcka

_MODULES = {
    "DomainDetector": "analyses.detector.detector",
    "Features": "features",
    "Substrate": "substrate",
    "SubstrateTarget": "losses.target",
    "compare_encoders": "analyses.cka.compare",
    "extract": "features",
    "list_encoders": "encoders",
    "load_encoder": "encoders",
    "make_mesh": "mesh",
    "open_source": "data.domains",
    "pcka": "substrate",
}

__all__ = [
    "DomainDetector",
    "Features",
    "Substrate",
    "SubstrateTarget",
    "__version__",
    "compare_encoders",
    "extract",
    "list_encoders",
    "load_encoder",
    "losses",
    "make_mesh",
    "open_source",
    "pcka",
    "plot",
]


def __getattr__(name: str):
    if name in ("losses", "plot"):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
