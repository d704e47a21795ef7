"""Checkpoints to parameters and back, every key accounted for.

A checkpoint is a safetensors file in timm's naming. Each of its keys must fill exactly one
parameter of the module and each parameter must be filled, with equal shapes; otherwise loading
raises and lists what is unused, missing or misshapen. The one key always passed over is
`num_batches_tracked`, a counter that inference never reads. Nothing is ever unpickled.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from substrate_jax.encoders.networks.layers import constant_rngs
from substrate_jax.encoders.networks.network import Config, Network

COUNTER = "num_batches_tracked"
NetworkType = TypeVar("NetworkType", bound=Network)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file.

    Raises:
        ValueError: no such file, or its header or length is broken.
    """
    if not path.is_file():
        raise ValueError(f"weights {str(path)!r}: no such file; give a safetensors file")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"weights {str(path)!r} is not a whole safetensors file ({error}); fetch it again"
        ) from error


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

    Args:
        module: a network, concrete or abstract (`abstract_module`).
        arrays: timm's keys to arrays in timm's layouts, any floating dtype.
        source: what to call the arrays in errors.
        optional_keys: parameters that may be absent: weights are then 1, biases 0.
        dtype: dtype of the parameters.

    Raises:
        ValueError: keys unused, missing or of another shape; all of them are listed.
    """
    arrays = module.adapt_checkpoint(arrays)
    arrays = {key: value for key, value in arrays.items() if not key.endswith(COUNTER)}
    expected = inventory(module)
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
            f"{len(keys)} {kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys
        )
        raise ValueError(f"weights {source!r} do not fit {type(module).__name__}: {lists}")

    graph, state = nnx.split(module)
    filled = []
    for path, variable in nnx.to_flat_state(state):
        order = getattr(variable.type, "from_checkpoint", None)
        value = arrays[_key(path)]
        value = value if order is None else value.transpose(order)
        # NumPy: weights lie on a device only while they are used. Copied, so that the file's own
        # arrays can go.
        filled.append((path, variable.replace(np.array(value, dtype, order="C"))))
    return nnx.merge(graph, nnx.from_flat_state(filled))


@functools.lru_cache
def abstract_module(config: Config) -> Network:
    """The module of a config with shapes in place of arrays: no memory, no initialization.

    The answer is kept and shared: `fill` makes a module of it and leaves it as it is.
    """
    return nnx.eval_shape(lambda: config.build(constant_rngs(None)))


def serialize(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Arrays as float16 safetensors bytes."""
    return save({key: value.astype(np.float16) for key, value in arrays.items()}, metadata)


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
