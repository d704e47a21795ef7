"""The substrate of a panel on a domain, and its agreement between domains (PCKA)."""

from substrate_jax.substrate.components import COMPONENTS
from substrate_jax.substrate.fitted import Substrate
from substrate_jax.substrate.sharded import pairwise_pcka, pcka

__all__ = ["COMPONENTS", "Substrate", "pairwise_pcka", "pcka"]
