"""Modules and checkpoints made of noise from NumPy: initializers would each be compiled."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from substrate_jax.encoders.weights import abstract_module, checkpoint_arrays, fill, inventory


def filled(build, dtype=jnp.float32, seed=3):
    """The module that `build` makes, with noise around 1 (around 0 for biases, means, kernels)."""
    rng = np.random.default_rng(seed)
    graph, state = nnx.split(nnx.eval_shape(build))
    leaves = []
    for path, leaf in nnx.to_flat_state(state):
        if isinstance(leaf, nnx.Variable):
            leaf = leaf.replace(noise(path, leaf.get_value().shape, rng).astype(dtype))
        else:  # a plain array: its values are the caller's to give
            leaf = np.zeros(leaf.shape, leaf.dtype)
        leaves.append((path, leaf))
    return nnx.merge(graph, nnx.from_flat_state(leaves))


def noise(path, shape, rng):
    center = float(path[-1] not in ("bias", "running_mean") and len(shape) == 1)
    return jnp.asarray(center + rng.uniform(-0.5, 0.5, shape), jnp.float32)


def leaves(module):
    """Parameters and running statistics by path."""
    state = nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))
    return {path: np.asarray(leaf.get_value()) for path, leaf in nnx.to_flat_state(state)}


def arrays_of(config, seed=0):
    """A checkpoint's arrays, made of noise; variances are positive."""
    rng = np.random.default_rng(seed)
    shapes = inventory(abstract_module(config))
    arrays = {key: rng.normal(0, 0.1, shape).astype(np.float32) for key, shape in shapes.items()}
    return {key: abs(a) if key.endswith("running_var") else a for key, a in arrays.items()}


def check_round_trip(config):
    """A checkpoint's arrays come back from the module that they fill, as a file takes them."""
    arrays = arrays_of(config)
    again = checkpoint_arrays(fill(abstract_module(config), arrays, source="a"))
    assert again.keys() == arrays.keys()
    for key, want in arrays.items():
        np.testing.assert_array_equal(again[key], want, err_msg=key)
        assert again[key].dtype == np.float32
        assert again[key].flags.c_contiguous


def quick_jit(function):
    """`jax.jit` with little optimization: small networks take longer to compile than to run."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})
