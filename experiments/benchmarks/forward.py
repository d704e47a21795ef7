"""Images per second of the forward pass of the encoders, beside timm's networks where installed.

Weights are random, the same for both, and the two are timed turn by turn: eager float32 on CPU,
torch.compile in the chosen dtype on a GPU, where ten batches are started before the last is waited
for, as extraction does with its own.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .measure import median_seconds, timed
from .results import ForwardRate, Torch

CALLS = 10  # batches in flight on an accelerator


def measure_encoders(
    names: list[str], *, batch_size: int, dtype: str, repeats: int, seed: int
) -> Iterator[ForwardRate]:
    """The rate of each encoder, as it is measured."""
    import jax

    for name in names:
        yield measure(prepare(name, batch_size, dtype, seed), repeats)
        jax.clear_caches()


@dataclasses.dataclass(frozen=True)
class Forward:
    """The compiled forward pass of an encoder, and timm's where that is installed.

    A call starts a batch, and gives features that `np.asarray` and `peer_features` wait for.
    """

    name: str
    batch_size: int
    compile_seconds: float
    call: Callable[[], Any]
    peer: Callable[[], Any] | None


def prepare(name: str, batch_size: int, dtype: str, seed: int) -> Forward:
    """Both programs of an encoder, compiled and run once."""
    import jax
    import jax.numpy as jnp

    from substrate_jax.data.modality import image_preprocess
    from substrate_jax.encoders import encoder_spec, weights
    from substrate_jax.encoders.encoder import Encoder

    spec = encoder_spec(name)
    size = image_preprocess(spec).size
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((batch_size, size, size, 3), np.float32)
    network = timm_network(spec)
    if network is None:
        shapes = weights.inventory(weights.abstract_module(spec.config))
        arrays = {key: 0.02 * rng.standard_normal(s, np.float32) for key, s in shapes.items()}
        arrays |= {key: np.ones_like(a) for key, a in arrays.items() if key.endswith("_var")}
    else:
        arrays = {key: value.numpy() for key, value in network.state_dict().items()}
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
    seconds = time.perf_counter() - start
    peer = None if network is None else timm_forward(network, images, dtype)
    forward = Forward(name, batch_size, seconds, lambda: program(state, placed), peer)
    np.asarray(forward.call())
    if peer is not None:
        peer_features(peer())
    return forward


def measure(forward: Forward, repeats: int) -> ForwardRate:
    """Images per second, ours and timm's turn by turn."""
    import jax

    calls = 1 if jax.default_backend() == "cpu" else CALLS
    images = calls * forward.batch_size

    def ours():
        return np.asarray([forward.call() for _ in range(calls)][-1])

    peer = forward.peer
    if peer is None:
        seconds, _ = median_seconds(ours, repeats)
        return ForwardRate(forward.name, forward.compile_seconds, images / seconds)

    def theirs():
        return peer_features([peer() for _ in range(calls)][-1])

    features, reference = ours(), theirs()
    times = [(timed(ours)[0], timed(theirs)[0]) for _ in range(repeats)]
    mine, their = np.median(times, axis=0)
    error = np.linalg.norm(features - reference) / np.linalg.norm(reference)
    return ForwardRate(
        forward.name,
        forward.compile_seconds,
        images / mine,
        images / their,
        ratio=their / mine,
        difference=float(error),
    )


def timm_network(spec):
    """timm's network of a checkpoint's architecture at our image size; None without timm."""
    try:
        from tests.golden.timm_import import create_network

        return create_network(spec).eval()
    except ImportError:
        return None


def timm_forward(network, images: np.ndarray, dtype: str) -> Callable[[], Any]:
    """A call that starts a batch and gives its features."""
    import torch  # pyright: ignore[reportMissingImports]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)
    network = network.to(device)
    if device == "cuda":
        options = {"dtype": getattr(torch, dtype), "memory_format": torch.channels_last}
        pixels, network = pixels.to(**options), network.to(**options)

    def features(pixels):
        return network.forward_head(network.forward_features(pixels), pre_logits=True)

    if device == "cuda":
        torch.compiler.reset()  # one function for all networks: after eight it would run uncompiled
        features = torch.compile(features)

    def call():
        with torch.inference_mode():
            return features(pixels)

    return call


def peer_features(features) -> np.ndarray:
    """torch's features as float32 NumPy, once they are there."""
    return features.float().cpu().numpy()


def peer_versions() -> Torch | None:
    """Versions of torch and timm and torch's device; None where they are not installed."""
    try:
        from importlib.metadata import version

        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else "cpu"
    return Torch(torch.__version__, version("timm"), device, torch.get_num_threads())
