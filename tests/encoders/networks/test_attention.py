"""Attention against float64, and which of it goes to cuDNN."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.encoders.networks import attention
from tests.helpers import relative_error, tolerance


@pytest.mark.parametrize("biased", [False, True])
def test_attend_is_what_it_says(biased):
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((2, t, 3, 4)).astype(np.float32) for t in (5, 6, 6))
    bias = rng.standard_normal((1, 3, 5, 6)).astype(np.float32) if biased else None
    scores = np.einsum("nqhd,nkhd->nhqk", query.astype(np.float64), key) / 2
    weights = np.exp(scores + (bias if biased else 0))
    weights /= weights.sum(-1, keepdims=True)
    want = np.einsum("nhqk,nkhd->nqhd", weights, value).reshape(2, 5, 12)
    got = jax.jit(attention.attend)(query, key, value, bias)
    assert relative_error(got, want) <= tolerance(30)


@pytest.mark.parametrize(
    ("query", "keys", "dtype", "platform", "suits"),
    [
        ((2, 197, 3, 64), 197, jnp.bfloat16, "cuda 13", True),
        ((2, 197, 3, 64), 197, jnp.float32, "cuda 13", False),
        ((2, 49, 3, 64), 49, jnp.bfloat16, "cuda 13", False),
        ((2, 1, 3, 64), 196, jnp.bfloat16, "cuda 13", False),
        ((2, 4, 196, 3, 64), 196, jnp.bfloat16, "cuda 13", False),
        ((2, 197, 3, 64), 197, jnp.bfloat16, "rocm 7", False),
    ],
    ids=["tokens", "float32", "window", "pooling", "windows", "another GPU"],
)
def test_what_suits_cudnn(monkeypatch, query, keys, dtype, platform, suits):
    client = types.SimpleNamespace(platform_version=platform)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(client=client)])
    key = jax.ShapeDtypeStruct((*query[:-3], keys, *query[-2:]), dtype)
    assert attention._suits_cudnn(jax.ShapeDtypeStruct(query, dtype), key) == suits


def test_on_cpu_nothing_does():
    tokens = jax.ShapeDtypeStruct((2, 197, 3, 64), jnp.bfloat16)
    assert not attention._suits_cudnn(tokens, tokens)
