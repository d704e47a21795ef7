"""Images a second of the forward pass of the encoders, beside timm's networks where installed.

Weights are random, the same for both, and the two are timed turn by turn: eager float32 on CPU,
torch.compile in the chosen dtype on a GPU.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from experiments.benchmarks.measure import median_seconds, timed


def measure_encoders(
    names: list[str], *, batch_size: int, dtype: str, repeats: int, seed: int
) -> Iterator[dict[str, Any]]:
    """A row for each encoder, as it is measured."""
    import jax

    for name in names:
        yield measure_encoder(name, batch_size, dtype, repeats, seed)
        jax.clear_caches()


def measure_encoder(
    name: str, batch_size: int, dtype: str, repeats: int, seed: int
) -> dict[str, Any]:
    """Images a second of one encoder, and of timm's network where that is installed."""
    import jax
    import jax.numpy as jnp

    from substrate_jax.encoders import encoder_spec, weights
    from substrate_jax.encoders.encoder import Encoder

    spec = encoder_spec(name)
    size = spec.config.image_size
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((batch_size, size, size, 3), np.float32)
    peer = timm_network(spec)
    if peer is None:
        shapes = weights.inventory(weights.abstract_module(spec.config))
        arrays = {key: 0.02 * rng.standard_normal(s, np.float32) for key, s in shapes.items()}
        arrays |= {key: np.ones_like(a) for key, a in arrays.items() if key.endswith("_var")}
    else:
        arrays = {key: value.numpy() for key, value in peer.state_dict().items()}
    module = weights.fill(
        weights.abstract_module(spec.config),
        arrays,
        source=name,
        optional_keys=spec.optional_keys,
        dtype=jnp.dtype(dtype),
    )
    module.eval()
    encoder = Encoder(spec, module, source=name, sha256="", dtype=jnp.dtype(dtype))
    function, state = encoder.functional()
    state, placed = jax.device_put((state, images))
    start = time.perf_counter()
    program = jax.jit(function).lower(state, placed).compile()
    row = {"encoder": name, "compile_seconds": time.perf_counter() - start}

    def ours():
        return jax.block_until_ready(program(state, placed))

    if peer is None:
        seconds, _ = median_seconds(ours, repeats)
        return row | {"images_per_second": batch_size / seconds}
    theirs = timm_forward(peer, images, dtype)
    features, reference = ours(), theirs()
    times = [(timed(ours)[0], timed(theirs)[0]) for _ in range(repeats)]
    mine, their = np.median(times, axis=0)
    error = np.linalg.norm(np.asarray(features) - reference) / np.linalg.norm(reference)
    return row | {
        "images_per_second": batch_size / mine,
        "timm_images_per_second": batch_size / their,
        "ratio": their / mine,
        "difference": error,
    }


def timm_network(spec):
    """timm's network of a checkpoint's architecture at our image size; None without timm."""
    try:
        from tests.golden.timm_import import create_network

        return create_network(spec).eval()
    except ImportError:
        return None


def timm_forward(network, images: np.ndarray, dtype: str) -> Callable[[], np.ndarray]:
    """A call that gives the features as float32 NumPy, the device's work done."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)
    network = network.to(device)
    if device == "cuda":
        options = {"dtype": getattr(torch, dtype), "memory_format": torch.channels_last}
        pixels, network = pixels.to(**options), network.to(**options)

    def features(pixels):
        return network.forward_head(network.forward_features(pixels), pre_logits=True)

    if device == "cuda":
        features = torch.compile(features)

    def call():
        with torch.inference_mode():
            return features(pixels).float().cpu().numpy()

    return call


def peer_versions() -> dict[str, Any]:
    """Versions of torch and timm and torch's device, where installed."""
    try:
        from importlib.metadata import version

        import torch
    except ImportError:
        return {}
    cuda = torch.cuda.is_available()
    return {
        "torch": torch.__version__,
        "timm": version("timm"),
        "torch_device": torch.cuda.get_device_name() if cuda else "cpu",
        "torch_threads": torch.get_num_threads(),
    }
