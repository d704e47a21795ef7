"""Encoders small enough to compute by hand, and sources made of noise."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np

from substrate_jax.data.preprocess import Preprocess
from substrate_jax.data.sources import Source, UnreadableImage
from substrate_jax.features import forward
from substrate_jax.features.plan import make_plan
from substrate_jax.features.protocol import PlainSpec


class LinearEncoder:
    """features = (flattened normalized pixels) W, or a 3 x 3 convolution before it."""

    def __init__(self, name="linear", width=5, size=8, seed=0, conv=False, preprocess=None):
        rng = np.random.default_rng(seed)
        preprocess = preprocess or Preprocess(size, 1.0)
        self.size = preprocess.size
        self.spec = PlainSpec(name, width, preprocess)
        self.fingerprint = f"{name}-{width}-{seed}-{conv}"
        self.dtype = jnp.dtype(jnp.float32)
        self.traces = 0
        weights = rng.normal(size=(self.size * self.size * 3, width)) / self.size
        self.state = {"weights": jnp.asarray(weights, jnp.float32)}
        if conv:
            kernel = rng.normal(size=(3, 3, 3, 3)) / 5
            self.state["kernel"] = jnp.asarray(kernel, jnp.float32)

        def function(state, images):
            self.traces += 1
            if "kernel" in state:
                images = jax.lax.conv_general_dilated(
                    images,
                    state["kernel"],
                    (1, 1),
                    "SAME",
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                    precision="highest",
                )
            rows = images.reshape(len(images), -1)
            return jnp.matmul(rows, state["weights"], precision="highest")

        self._function = function

    def functional(self):
        return self._function, self.state


def noise_source(n=37, size=8, bad=(), on_read=None, name="noise", seed=0):
    """n images of noise with ids "r000", ...; rows in `bad` cannot be read. Counts its reads."""
    pixels = np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), np.uint8)
    reads = Counter()

    def read(row):
        reads[row] += 1
        if on_read:
            on_read(row)
        if row in bad:
            raise UnreadableImage(f"r{row:03d}: truncated")
        return pixels[row]

    source = Source(
        name, tuple(f"r{i:03d}" for i in range(n)), np.arange(n) % 3, f"{name}-{n}-{seed}", read
    )
    object.__setattr__(source, "reads", reads)
    object.__setattr__(source, "pixels", pixels)
    return source


def oracle(encoder, pixels):
    """Float64 features of images that need no resizing; linear encoders only."""
    spec = encoder.spec.preprocess
    rows = (pixels / 255.0 - np.array(spec.mean)) / np.array(spec.std)
    return rows.reshape(len(rows), -1) @ np.asarray(encoder.state["weights"], np.float64)


def panel():
    """Three encoders of two image sizes."""
    return [
        LinearEncoder("a"),
        LinearEncoder("b", width=7, seed=1, conv=True),
        LinearEncoder("c", seed=2, preprocess=Preprocess(6, 0.75)),
    ]


def same_bits(one, two):
    """Whether features have the same rows and blocks, bit for bit."""
    assert one.ids == two.ids
    return all(np.asarray(one[name]).tobytes() == two[name].tobytes() for name in two)


def needs(encoders, source, mesh, batch_size):
    """Bytes of a device that each encoder takes, by name."""
    plan = make_plan(
        encoders,
        source,
        mesh=mesh,
        store=None,
        batch_size=batch_size,
        gather=True,
        skip_bad=False,
    )
    return {name: forward.device_bytes(plan, name) for name in plan.encoders}
