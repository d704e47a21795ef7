"""Synthetic checkpoints in transformers' naming, made alike in torch and in the tests.

The draws of tests/golden/weights.py, seeded by name, with rules for the names that only
transformers gives. NumPy only.
"""

import json
import math
import re

import numpy as np
from safetensors.numpy import save_file

from tests.golden import weights

# Last part of the name -> a name of weights.py whose rule fits, seeded apart by the full name.
ALIKE = {
    "lambda1": "gamma",
    "lambda_1": "gamma",
    "lambda_2": "gamma",
    "layer_scale_parameter": "gamma",
    "position_embeddings": "pos_embed",
    "decoder_pos_embed": "pos_embed",
    "class_embedding": "cls_token",
    "mask_token": "cls_token",
    "distillation_token": "cls_token",
    "register_tokens": "cls_token",
    "probe": "cls_token",
    "logit_scale": "cls_token",
    "logit_bias": "cls_token",
    "logit_scale_a": "cls_token",
    "logit_scale_t": "cls_token",
    "in_proj_bias": "bias",
    "relative_position_bias_table": "pos_embed",
}
# The first pattern found in a name multiplies its weights; a convolution before SiLU loses half.
GAINS = (
    (r"^efficientnet\..*squeeze_excite", 1.0),
    (r"^efficientnet\..*conv\w*\.weight", 1.25),
    (r"^mobilevitv2\..*convolution\.weight", 1.25),
)
# Buffers that older versions of transformers saved: no parameters, nothing to draw.
INDICES = ("position_ids", "token_type_ids", "relative_position_index")


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The parameter, statistic or index `name`."""
    stem, _, leaf = name.rpartition(".")
    if leaf in INDICES:
        return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    if leaf == "in_proj_weight":
        return weights.tensor(f"{name}.weight", shape)
    if name.endswith("position_embedding.weight"):
        return weights.tensor(f"{stem}.pos_embed", shape)
    value = weights.tensor(f"{name}.{ALIKE[leaf]}" if leaf in ALIKE else name, shape)
    gain = next((gain for pattern, gain in GAINS if re.search(pattern, name)), None)
    return value if gain is None else value * np.float32(gain)


def arrays(inventory: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """The whole checkpoint of these names and shapes."""
    return {name: tensor(name, tuple(shape)) for name, shape in inventory.items()}


def photograph() -> np.ndarray:
    """An image as cameras give them, uint8 [60, 90, 3]: what preprocessing is compared on."""
    return np.clip(50 * weights.images(90)[1, :60] + 128, 0, 255).astype(np.uint8)


def block_means(pixels: np.ndarray) -> np.ndarray:
    """[side, side, 3] -> [8, 8, 3], the mean of each block; side is a multiple of 8."""
    block = len(pixels) // 8
    return pixels.reshape(8, block, 8, block, 3).mean((1, 3))


def write_folder(folder, golden, *, shards=1):
    """A checkpoint laid out as on the hub."""
    (folder / "config.json").write_text(json.dumps(golden["config"]))
    (folder / "preprocessor_config.json").write_text(json.dumps(golden["preprocessor"]))
    tensors = arrays(golden["inventory"])
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    names = {key: f"model-{i % shards + 1:05d}-of-{shards:05d}" for i, key in enumerate(tensors)}
    weight_map = {key: f"{name}.safetensors" for key, name in names.items()}
    for shard in set(weight_map.values()):
        part = {key: value for key, value in tensors.items() if weight_map[key] == shard}
        save_file(part, folder / shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
