"""Layers in float64 NumPy, from a checkpoint's arrays `p` in torch's layouts and a layer's name."""

import numpy as np
import scipy.special

from substrate_jax.encoders.networks.convolutions import pad_widths
from substrate_jax.encoders.weights import checkpoint_arrays


def float64(module):
    """The module's checkpoint."""
    return {key: value.astype(np.float64) for key, value in checkpoint_arrays(module).items()}


def relu(x):
    return np.maximum(x, 0)


def silu(x):
    return x * scipy.special.expit(x)


def gelu(x):
    return x * scipy.special.ndtr(x)


def linear(x, p, name):
    """A linear map, or a 1 x 1 convolution."""
    weight = p[f"{name}.weight"]
    return x @ weight.reshape(weight.shape[:2]).T + p.get(f"{name}.bias", 0.0)


def mlp(x, p, name):
    return linear(gelu(linear(x, p, f"{name}.fc1")), p, f"{name}.fc2")


def layer_norm(x, p, name, eps=1e-6, axes=-1):
    x = x - x.mean(axes, keepdims=True)
    x = x / np.sqrt((x**2).mean(axes, keepdims=True) + eps)
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]


def batch_norm(x, p, name, eps=1e-5):
    """Evaluation mode."""
    scale = p[f"{name}.weight"] / np.sqrt(p[f"{name}.running_var"] + eps)
    return (x - p[f"{name}.running_mean"]) * scale + p[f"{name}.bias"]


def squeeze_excite(x, p, reduce, expand, activation):
    gate = linear(activation(linear(x.mean((1, 2)), p, reduce)), p, expand)
    return x * scipy.special.expit(gate)[:, None, None]


def convolution(x, weight, stride=1, padding=0, groups=1):
    """2-D convolution by a kernel in torch's layout, one kernel entry at a time."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    outputs, channels, size, _ = weight.shape
    x = np.pad(x, ((0, 0), *pad_widths(padding, x.shape[1:3], size, stride), (0, 0)))
    rows, columns = ((side - size) // stride + 1 for side in x.shape[1:3])
    out = np.zeros((len(x), rows, columns, outputs))
    each = outputs // groups
    for i, j in np.ndindex(size, size):
        window = x[:, i:, j:][:, ::stride, ::stride][:, :rows, :columns]
        for g in range(groups):
            own = slice(g * each, (g + 1) * each)
            seen = window[..., g * channels : (g + 1) * channels]
            out[..., own] += seen @ weight[own, :, i, j].T
    return out
