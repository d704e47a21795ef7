"""Losses that compare a network with a fixed target of the same images, for any training loop.

    cka_loss                    1 - CKA: free up to rotation, shift and one scale, at any width
    mse_loss, cosine_loss       a projection of the features predicts the target itself
    similarity_preserving_loss  inner products of images (SP)
    relational_loss             their distances and angles (RKD)
    pkt_loss                    their similarities as probabilities (PKT)
    kd_loss, decoupled_kd_loss  a teacher's logits (KD, DKD)
    variance_loss               no target: keeps features from collapsing (VICReg)

All are pure functions `(features, target, *, axis_name=None, mask=None)` of a batch and give one
number: no gradient flows into the target, half precision is upcast to float32, products run at the
highest precision, `axis_name` makes value and gradient those of the whole batch, rows that `mask`
leaves out may hold anything, gradients are finite wherever inputs are, and NaN in a row that counts
is NaN in the loss. `target.SubstrateTarget` keeps the target of a data set by the ids of images.
"""

from substrate_jax.losses.cka import cka_loss
from substrate_jax.losses.logits import decoupled_kd_loss, kd_loss
from substrate_jax.losses.regression import cosine_loss, mse_loss
from substrate_jax.losses.relations import pkt_loss, relational_loss, similarity_preserving_loss
from substrate_jax.losses.variance import variance_loss

__all__ = [
    "cka_loss",
    "cosine_loss",
    "decoupled_kd_loss",
    "kd_loss",
    "mse_loss",
    "pkt_loss",
    "relational_loss",
    "similarity_preserving_loss",
    "variance_loss",
]
