"""Damaged checkpoints and configs: an encoder or one line, soon and in little memory."""

import json
import pathlib
import struct

import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import save

from substrate_jax.encoders.transformers.format import (
    read_transformers_arrays,
    transformers_encoder,
)
from substrate_jax.encoders.weights import (
    abstract_module,
    checkpoint_arrays,
    fill,
    read_safetensors,
)
from tests.data import fuzz
from tests.encoders.networks.modules import arrays_of
from tests.encoders.tiny import VIT
from tests.encoders.transformers.goldens import GOLDENS
from tests.golden.transformers_weights import write_folder


@pytest.fixture(scope="module", autouse=True)
def bounded():
    with fuzz.little_memory():
        yield


ARRAYS = arrays_of(VIT)
WHOLE = save(ARRAYS, {"format": "pt"})
LENGTH = struct.unpack("<Q", WHOLE[:8])[0]
HEADER, BODY = json.loads(WHOLE[8 : 8 + LENGTH]), WHOLE[8 + LENGTH :]


def with_header(header: object, body: bytes = BODY) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def filled(path: pathlib.Path):
    """The network of a file, if it is one."""
    return fill(abstract_module(VIT), read_safetensors(path), source=path.name)


def finite(module) -> bool:
    return all(np.isfinite(value).all() for value in checkpoint_arrays(module).values())


def test_damaged_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"

    @fuzz.tried(150, st.data())
    def check(data):
        kind = data.draw(st.sampled_from(["bytes", "header", "body"]))
        if kind == "bytes":
            path.write_bytes(data.draw(fuzz.damaged(WHOLE)))
        elif kind == "header":
            path.write_bytes(with_header(data.draw(fuzz.altered(HEADER))))
        else:
            path.write_bytes(with_header(HEADER, data.draw(fuzz.damaged(BODY))))
        module = fuzz.attempt(lambda: filled(path), "w.safetensors")
        assert module is None or finite(module)

    check()


DTYPES = ["F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "C64", "X9"]
SIZES = st.sampled_from([0, 1, 3, 8, 2**20, 2**40, 2**62, 2**64, -1])


def test_any_header(tmp_path):
    path = tmp_path / "w.safetensors"
    entry = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(DTYPES),
            "shape": st.lists(SIZES, max_size=4),
            "data_offsets": st.lists(SIZES, min_size=2, max_size=2),
        }
    )

    @fuzz.tried(
        200, st.dictionaries(st.sampled_from([*HEADER, "module.x", "\0", "é"]), entry, max_size=4)
    )
    def check(header):
        path.write_bytes(with_header(header))
        fuzz.attempt(lambda: filled(path), "w.safetensors")

    check()


@pytest.fixture
def folder(tmp_path):
    """Where a test writes checkpoints in transformers' format."""
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


@pytest.mark.parametrize("case", sorted(GOLDENS))
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_damaged_configs(case, name, folder):
    write_folder(folder, GOLDENS[case])
    path = folder / name
    whole = path.read_bytes()

    def load():
        spec, arrays = transformers_encoder(folder, "hf:m")
        return fill(abstract_module(spec.config), arrays, source="model.safetensors")

    @fuzz.tried(8, st.data())
    def check(data):
        if data.draw(st.integers(0, 3)) == 0:
            path.write_bytes(data.draw(fuzz.damaged(whole)))
        else:
            path.write_text(json.dumps(data.draw(fuzz.altered(json.loads(whole)))))
        module = fuzz.attempt(load)
        assert module is None or finite(module)

    check()


def test_damaged_indices_of_shards(folder):
    write_folder(folder, GOLDENS["vit"], shards=2)
    path = folder / "model.safetensors.index.json"
    whole = path.read_bytes()
    want = read_transformers_arrays(folder).keys()

    @fuzz.tried(60, st.data())
    def check(data):
        if data.draw(st.booleans()):
            path.write_bytes(data.draw(fuzz.damaged(whole)))
        else:
            path.write_text(json.dumps(data.draw(fuzz.altered(json.loads(whole)))))
        arrays = fuzz.attempt(lambda: read_transformers_arrays(folder), str(folder))
        assert arrays is None or arrays.keys() == want

    check()


def test_a_name_that_no_file_can_have_is_missing(folder):
    """Found by the long form: such a name is an error to the system, not an absent file."""
    write_folder(folder, GOLDENS["vit"], shards=2)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["classifier.bias"] = "a" * 300
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match="lacks aaa"):
        read_transformers_arrays(folder)
