"""Synthetic checkpoints and images, made alike everywhere from names and shapes.

The generator of a tensor is seeded with the SHA-256 of its name, so a checkpoint is known from its
inventory (name -> shape) alone: what made the goldens in torch and what tests them in JAX share
this file and no data. NumPy only; vit_large (304 M values) takes some four seconds.

The scales keep features sharp. Residual branches are damped, so that depth neither explodes nor
erases the input. The residual stream of the networks with LayerNorm has variance near 0.02, where
an epsilon of 1e-5 in place of 1e-6 shows. No scale is one and no bias zero, so a parameter that is
dropped or swapped shows as well.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

# The first pattern found in a name gives its gain: weights have deviation gain / sqrt(fan in) and
# biases BIAS * gain.
GAINS = (
    (r"patch_embed\.proj|stem\.0|stages\.\d\.downsample\.1", 0.1),
    (r"attn\.proj|mlp\.fc2", 0.05),
    (r"attn\.out_proj", 0.3),
    (r"conv3_1x1\.conv", 2.0),
    (r"conv3|bn3", 0.3),
    (r"attn\.qkv", 1.5),
    (r"downsample\.reduction", 0.1),
)
DEFAULT_GAIN = math.sqrt(2)  # keeps the mean square through a ReLU

# Last part of the name -> range of a uniform draw.
RANGES = {
    "running_var": (0.5, 2.0),
    "gamma": (0.1, 1.0),
    "gamma_1": (0.1, 1.0),
    "gamma_2": (0.1, 1.0),
}
NORM_SCALE = (0.5, 1.5)

# Last part of the name -> standard deviation of a normal draw.
DEVIATIONS = {
    "running_mean": 0.2,
    "cls_token": 0.1,
    "dist_token": 0.1,
    "reg_token": 0.1,
    "latent": 1.0,
    "pos_embed": 0.1,
    "relative_position_bias_table": 0.5,
    "q_bias": 0.1,
    "v_bias": 0.1,
}
BIAS = 0.1
RESPONSE_NORM = 0.5  # GRN's weight, which is trained from zero and takes both signs


def _gain(name: str, default: float) -> float:
    return next((gain for pattern, gain in GAINS if re.search(pattern, name)), default)


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The parameter or statistic `name`: float32, or int64 for a counter of batches.

    Example:
        >>> tensor("fc.bias", (2,)).dtype
        dtype('float32')
        >>> bool((tensor("bn1.running_var", (64,)) > 0.4).all())
        True
    """
    leaf = name.rsplit(".", 1)[-1]
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    rng = np.random.Generator(np.random.SFC64(seed))
    if leaf == "num_batches_tracked":
        return rng.integers(1, 100_000, size=shape, dtype=np.int64)

    response_norm = name.endswith("grn.weight")
    norm_scale = leaf == "weight" and len(shape) == 1 and not response_norm
    if norm_scale or leaf in RANGES:
        low, high = NORM_SCALE if norm_scale else RANGES[leaf]
        return np.float32(low) + np.float32(high - low) * rng.random(shape, dtype=np.float32)

    if leaf in DEVIATIONS:
        deviation = DEVIATIONS[leaf]
    elif response_norm:
        deviation = RESPONSE_NORM
    elif leaf == "bias":
        deviation = BIAS * _gain(name, 1.0)
    elif leaf == "weight":
        deviation = _gain(name, DEFAULT_GAIN) / math.sqrt(math.prod(shape[1:]))
    else:
        raise ValueError(f"name={name!r} has no rule; add its last part to RANGES or DEVIATIONS")
    values = rng.standard_normal(shape, dtype=np.float32)
    values *= np.float32(deviation)
    return values


def write_safetensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Writes the checkpoint with these names and shapes, holding one tensor at a time.

    The format: length of the header (8 bytes, little endian), the header in JSON, the raw values.
    """
    header, offset = {}, 0
    for name, shape in shapes.items():
        counter = name.endswith("num_batches_tracked")
        size = math.prod(shape) * (8 if counter else 4)
        header[name] = {
            "dtype": "I64" if counter else "F32",
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            file.write(np.ascontiguousarray(tensor(name, shape)).data.cast("B"))


def images(size: int = 224) -> np.ndarray:
    """Two unlike pictures, [2, size, size, 3] float32, as after normalization (about -2.5 to 2.5).

    Waves of other frequencies and brightness for each channel, tilted, under noise: every position
    and channel counts, so a flip, transpose or swap shows.
    """
    rng = np.random.Generator(np.random.SFC64(20260607))
    row, column = np.meshgrid(*[np.linspace(0, 1, size)] * 2, indexing="ij")
    looks = (
        # slope, cycles, brightness by channel, noise
        (0.3, (1, 2, 3), (0.9, 0.3, -0.6), 0.05),
        (-0.8, (9, 6, 2), (-0.9, -0.2, 1.1), 0.5),
    )
    pictures = []
    for slope, cycles, brightness, noise in looks:
        waves = [np.sin(2 * np.pi * c * (row + slope * column)) for c in cycles]
        tilt = (row - 0.5)[:, :, None] * column[:, :, None]
        picture = np.stack(waves, axis=-1) + tilt + np.array(brightness)
        pictures.append(picture + noise * rng.standard_normal(picture.shape))
    return np.stack(pictures).astype(np.float32)
