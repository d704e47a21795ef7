"""The tiny encoder, registered and with a file of weights."""

import pytest
from safetensors.numpy import save_file

from substrate_jax.encoders import register_encoder, registry
from tests.encoders.networks.modules import arrays_of
from tests.encoders.tiny import TINY, VIT, tiny_spec


@pytest.fixture
def tiny(monkeypatch):
    """Its record, in a registry of this test's own."""
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    return register_encoder(tiny_spec())


@pytest.fixture
def file(tmp_path, tiny):
    """Its weights."""
    path = tmp_path / f"{TINY}.safetensors"
    save_file(arrays_of(VIT), path)
    return path
