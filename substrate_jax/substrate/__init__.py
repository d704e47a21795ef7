"""The substrate of a panel on a domain, and its agreement between domains (PCKA)."""

from substrate_jax.substrate.fitted import COMPONENTS, Substrate, pairwise_pcka, pcka

__all__ = ["COMPONENTS", "Substrate", "pairwise_pcka", "pcka"]
