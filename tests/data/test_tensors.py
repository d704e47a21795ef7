"""Safetensors with the same bytes for the same content, which the library still reads."""

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load

from substrate_jax.data.tensors import tensor_bytes, write_tensors

ARRAYS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(5, np.float16)}
METADATA = {"ids": '["é", "\\u0001", "\\"q\\"", "\\\\"]', "zeta": "1", "alpha": "日本\n\t\x7f"}


def test_equal_content_has_equal_bytes():
    """Left to the library, three keys come in one of six orders each time."""
    (content,) = {tensor_bytes(ARRAYS, METADATA) for _ in range(40)}
    (backwards,) = {tensor_bytes(ARRAYS, dict(reversed(METADATA.items()))) for _ in range(40)}
    assert backwards == content
    found = load(content)
    assert found.keys() == ARRAYS.keys()
    assert all((found[name] == value).all() for name, value in ARRAYS.items())


def test_a_file_has_these_bytes_and_its_metadata(tmp_path):
    for metadata in (METADATA, {}, None):
        path = tmp_path / "a.safetensors"
        write_tensors(path, ARRAYS, metadata)
        assert path.read_bytes() == tensor_bytes(ARRAYS, metadata)
        with safe_open(path, "np") as file:
            assert (file.metadata() or {}) == (metadata or {})
            assert (file.get_tensor("b") == ARRAYS["b"]).all()
