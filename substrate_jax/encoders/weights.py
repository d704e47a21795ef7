"""Checkpoints to parameters and back, every key accounted for.

A checkpoint is a safetensors file in timm's naming. Each of its keys must fill exactly one
parameter of the module and each parameter must be filled, with equal shapes and finite values of
floating point; otherwise loading raises and lists what is unused, missing, misshapen or damaged.
Two kinds of key are passed over: `num_batches_tracked`, a counter that inference never reads, and
a classifier that is absent or of another size, as features need none: the network then has none.
Prefixes of wrappers are taken off (see `wrappers`). Nothing is ever unpickled.
"""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from substrate_jax.data.paths import first_of, one_line, readable, special_kind
from substrate_jax.data.tensors import tensor_bytes
from substrate_jax.encoders.networks.layers import constant_rngs
from substrate_jax.encoders.networks.network import Config, Network
from substrate_jax.encoders.wrappers import check_dtypes, check_values, other_prefix, unwrapped

COUNTER = "num_batches_tracked"
# As safetensors calls them: those that weights come in, and those of tables beside them.
_READ = frozenset(
    "F16 BF16 F32 F64 BOOL I8 I16 I32 I64 U8 U16 U32 U64 C64".split()  # noqa: SIM905
)
NetworkType = TypeVar("NetworkType", bound=Network)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file.

    Raises:
        ValueError: no such file, its header or length is broken, or it holds 8-bit floats.
    """
    if not path.is_file():
        what = special_kind(path)
        fault = "no such file" + (f" but {what}" if what else "")
        raise ValueError(f"weights {readable(str(path))!r}: {fault}; give a safetensors file")
    try:
        with safe_open(path, framework="np") as file:
            dtypes = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
        odd = {key: dtype for key, dtype in dtypes.items() if dtype not in _READ}
        if not odd:
            return load_file(path)
    except (SafetensorError, OSError) as error:
        said = f"is not a whole safetensors file ({one_line(error)}); fetch it again"
        raise ValueError(f"weights {readable(str(path))!r} {said}") from error
    check_dtypes(odd, readable(path.name))
    raise AssertionError  # which refuses each of them


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoint_arrays(module: nnx.Module) -> dict[str, np.ndarray]:
    """The module's parameters and running statistics under timm's names and layouts, float32.

    Example:
        >>> from substrate_jax.encoders.networks.layers import Linear
        >>> arrays = checkpoint_arrays(Linear(3, 5, rngs=nnx.Rngs(0)))
        >>> {key: array.shape for key, array in arrays.items()}
        {'bias': (5,), 'weight': (5, 3)}
    """
    arrays = {}
    for key, variable in _leaves(module).items():
        value = np.asarray(variable.get_value(), np.float32)
        order = getattr(type(variable), "to_checkpoint", None)
        arrays[key] = value if order is None else np.ascontiguousarray(value.transpose(order))
    return arrays


def inventory(module: nnx.Module) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter and running statistic under timm's names and layouts."""
    shapes = {}
    for key, variable in _leaves(module).items():
        shape = variable.get_value().shape
        order = getattr(type(variable), "to_checkpoint", None)
        shapes[key] = shape if order is None else tuple(shape[axis] for axis in order)
    return shapes


def fill(
    module: NetworkType,
    arrays: dict[str, np.ndarray],
    *,
    source: str,
    optional_keys: tuple[str, ...] = (),
    dtype: jnp.dtype = jnp.float32,
) -> NetworkType:
    """The module with its parameters taken from checkpoint arrays, as NumPy arrays.

    Without the arrays of its classifier, or with those of another size, the module is returned
    without a classifier.

    Args:
        module: a network, concrete or abstract (`abstract_module`).
        arrays: timm's keys to arrays in timm's layouts, float16, bfloat16, float32 or float64.
        source: what to call the arrays in errors.
        optional_keys: parameters that may be absent: weights are then 1, biases 0.
        dtype: dtype of the parameters.

    Raises:
        ValueError: keys unused, missing or of another shape, values of another dtype or not
            finite, variances below zero, or several copies of the weights; the first are listed.
    """
    arrays = unwrapped(arrays, source)
    arrays = {key: value for key, value in arrays.items() if not key.endswith(COUNTER)}
    module, arrays = _with_the_head_that_fits(module, arrays)
    expected = inventory(module)
    used = {key: value for key, value in arrays.items() if key in expected}
    check_dtypes({key: value.dtype.name for key, value in used.items()}, source)
    arrays = module.adapt_checkpoint(arrays)
    for key in optional_keys:
        if key not in arrays:
            arrays[key] = np.full(expected[key], float(key.endswith("weight")), np.float32)
    problems = {
        "unused": sorted(arrays.keys() - expected.keys()),
        "missing": sorted(expected.keys() - arrays.keys()),
        "misshapen": [
            f"{key} {arrays[key].shape} instead of {shape}"
            for key, shape in sorted(expected.items())
            if key in arrays and arrays[key].shape != shape
        ],
    }
    if any(problems.values()):
        lists = "; ".join(
            f"{len(keys)} {kind}: {first_of(keys)}" for kind, keys in problems.items() if keys
        )
        prefix = other_prefix(problems["missing"], problems["unused"])
        fix = f"; most of them are there under {prefix!r}: save them without it" if prefix else ""
        raise ValueError(f"weights {source!r} do not fit {type(module).__name__}: {lists}{fix}")

    graph, state = nnx.split(module)
    filled, values = [], {}
    for path, variable in nnx.to_flat_state(state):
        order = getattr(variable.type, "from_checkpoint", None)
        value = arrays[_key(path)]
        value = value if order is None else value.transpose(order)
        # NumPy: weights lie on a device only while they are used. Copied, so that the file's own
        # arrays can go.
        with np.errstate(over="ignore"):  # numbers beyond the dtype are refused below
            values[_key(path)] = np.array(value, dtype, order="C")
        filled.append((path, variable.replace(values[_key(path)])))
    check_values(values, source)
    return nnx.merge(graph, nnx.from_flat_state(filled))


def _with_the_head_that_fits(
    module: NetworkType, arrays: dict[str, np.ndarray]
) -> tuple[NetworkType, dict[str, np.ndarray]]:
    """The module and the arrays, both without a classifier where the two do not agree on it."""
    keys = {f"{head}.{leaf}" for head in module.classifiers for leaf in ("weight", "bias")}
    wanted = {key: shape for key, shape in inventory(module).items() if key in keys}
    found = {key: arrays[key].shape for key in keys & arrays.keys()}
    if wanted == found:
        return module, arrays
    if wanted:
        config = dataclasses.replace(module.config, num_classes=0)
        module = cast(NetworkType, abstract_module(config))
    return module, {key: value for key, value in arrays.items() if key not in keys}


@functools.lru_cache
def abstract_module(config: Config) -> Network:
    """The module of a config with shapes in place of arrays: no memory, no initialization.

    The answer is kept and shared: `fill` makes a module of it and leaves it as it is.
    """
    return nnx.eval_shape(lambda: config.build(constant_rngs(None)))


def serialize(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Arrays as float16 safetensors bytes."""
    return tensor_bytes({key: value.astype(np.float16) for key, value in arrays.items()}, metadata)


def fingerprint(config: Config, weights_sha256: str, dtype: jnp.dtype) -> str:
    """Hash of all that decides an encoder's output: architecture, weights, arithmetic."""
    record = [type(config).__name__, repr(config), weights_sha256, jnp.dtype(dtype).name]
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def parameter_count(config: Config) -> int:
    """Number of parameters, running statistics left out."""
    state = nnx.state(abstract_module(config), nnx.Param)
    return sum(leaf.size for leaf in jax.tree.leaves(state))


def _leaves(module: nnx.Module) -> dict[str, nnx.Variable]:
    state = nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))
    return {_key(path): variable for path, variable in nnx.to_flat_state(state)}


def _key(path) -> str:
    return ".".join(map(str, path))
