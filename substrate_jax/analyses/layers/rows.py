"""Layers of encoders: which there are, one row per image, and how to hold them all.

A layer is a tap of `Encoder.taps`. Its activation of one image, [h, w, c], [t, c] or [c], becomes
one row: the mean over positions or tokens ("mean", c features), or everything ("flatten", the
convention of Kornblith et al. for convolutional networks). `LayerRows` puts the rows of several
layers side by side and looks like an encoder to `extract`, which thus brings its decoding, its
mesh, its store and its care for unreadable images.

`plan_layers` decides how n images of E layers are compared, D = sum d_l; the cheaper of the spaces
that fit into `memory` is taken:

    feature: ||X_l' X_m||^2 for all l <= m       n (D^2 + sum d_l^2) flops    4 n D bytes
    gram:    K_l = X_l X_l'                      2 n^2 (D + E^2) flops        8 n^2 E + 4 n d bytes

Averaged layers have hundreds of features: D of a ResNet-50 and a ViT-B is 29,000, so Gram space is
cheaper below some 14,000 images. Flattened ones have up to 800,000 per layer, which leaves only
Gram space. A Gram matrix needs the whole n x d of its layer at one time. All layers are held
together if 4 n D bytes fit; otherwise they take turns in groups, each with a pass over the images
of its own that the compiler cuts off after the group's last layer. (Keeping some rows of all
layers, in place of all rows of some, would take as many passes, none of them cut off.) A ResNet-50
flattened is 22 MiB per image: 4 GiB hold all layers of 180 images, or the largest layer of 1,200.

Not guaranteed: `memory` counts rows and Gram matrices; a batch's activations on the devices and the
weights come on top.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from substrate_jax.data.sources import digest
from substrate_jax.encoders.encoder import Encoder, list_taps
from substrate_jax.features.protocol import PlainSpec
from substrate_jax.mesh import RowBlock

POOLS = ("mean", "flatten")
MEMORY = 4 * 2**30

Layers = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True, eq=False)
class LayerRows:
    """Some layers of an encoder side by side, as an encoder that `extract` takes.

    Attributes:
        encoder: the network.
        layers: name -> shape of one image's activation.
        pool: "mean" or "flatten".

    Example:
        >>> from substrate_jax.encoders import load_encoder
        >>> rows = LayerRows(load_encoder("mini_vit_base"), {"blocks.0": (65, 96)}, "mean")
        >>> rows.spec.name, rows.spec.width
        ('mini_vit_base', 96)
    """

    encoder: Encoder
    layers: Layers
    pool: str

    @property
    def spec(self) -> PlainSpec:
        """Name, width and preprocessing."""
        width = sum(width_of(shape, self.pool) for shape in self.layers.values())
        return PlainSpec(self.encoder.name, width, self.encoder.spec.preprocess)

    @property
    def dtype(self) -> Any:
        """Of the arithmetic; rows are float32."""
        return self.encoder.dtype

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the rows."""
        return digest(self.encoder.fingerprint, self.pool, *self.layers)

    def functional(self) -> tuple[Callable, Any]:
        """`(state, images) -> [n, width]`, and the state."""
        function, state = self.encoder.functional(tuple(self.layers))

        def rows(state, images: Float[Array, "n h w 3"]) -> Float[Array, "n d"]:
            found = function(state, images)
            return jnp.concatenate([pooled(found[name], self.pool) for name in self.layers], axis=1)

        return rows, state

    @property
    def edges(self) -> tuple[int, ...]:
        """Where the columns of each layer but the first begin."""
        widths = [width_of(shape, self.pool) for shape in self.layers.values()]
        return tuple(itertools.accumulate(widths))[:-1]


@dataclasses.dataclass(frozen=True, eq=False)
class GivenLayers:
    """Layers of an encoder whose rows are known, such as from files: no network is run for them.

    Attributes:
        layers: name -> (features of a row,).
        rows: layer, ids of images -> their rows, [n, d].
    """

    layers: Layers
    rows: Callable[[str, Sequence[str]], RowBlock]


@dataclasses.dataclass(frozen=True)
class LayerPlan:
    """How a comparison will be computed.

    Attributes:
        layers: encoder name -> its layers; one encoder is compared with itself.
        pool: "mean" or "flatten".
        n: images.
        space: "gram" or "feature".
        groups: passes over the images, each with the layers it computes by encoder.
        bytes: most held at one time, in the host's and the devices' memory together.
    """

    layers: Mapping[str, Layers]
    pool: str
    n: int
    space: str
    groups: Sequence[Mapping[str, Layers]]
    bytes: int


def pooled(activation: Float[Array, "n ..."], pool: str) -> Float[Array, "n d"]:
    """One row per image: the mean over all axes between the first and the last, or everything."""
    if pool == "flatten":
        return activation.reshape(activation.shape[0], -1)
    return activation.mean(tuple(range(1, activation.ndim - 1)))


def width_of(shape: Sequence[int], pool: str) -> int:
    """Features of a layer whose activation of one image has this shape."""
    return shape[-1] if pool == "mean" else math.prod(shape)


def choose_layers(configs: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Layers]:
    """The layers of each encoder whose whole name matches a regular expression, in their order.

    An array that several of the chosen names stand for is taken once.

    Args:
        configs: encoder name -> architecture.
        patterns: regular expressions; "all" stands for every layer.

    Returns:
        Encoder name -> layer -> shape of one image's activation.

    Raises:
        ValueError: no expression, a malformed one, one that matches nothing, or an encoder
            without a layer.

    Example:
        >>> from substrate_jax.encoders import encoder_spec
        >>> choose_layers({"vit": encoder_spec("mini_vit_base").config}, ["blocks.[03]"])
        {'vit': {'blocks.0': (65, 96), 'blocks.3': (65, 96)}}
    """
    said = ",".join(patterns)
    known = {encoder: list_taps(config) for encoder, config in configs.items()}
    names = "; ".join(f"{encoder} has {', '.join(found)}" for encoder, found in known.items())
    try:
        compiled = [re.compile(".*" if pattern == "all" else pattern) for pattern in patterns]
    except re.error as error:
        raise ValueError(f"layers={said!r} is no regular expression: {error}") from None
    for pattern in compiled:
        if not any(pattern.fullmatch(name) for found in known.values() for name in found):
            raise ValueError(f"layers={said!r}: {pattern.pattern!r} matches no layer; {names}")
    chosen: dict[str, Layers] = {}
    for encoder, found in known.items():
        by_array = {}
        for name, (shape, array) in found.items():
            if any(pattern.fullmatch(name) for pattern in compiled):
                by_array.setdefault(array, (name, shape))
        if not by_array:
            raise ValueError(f"layers={said!r} leaves {encoder} without a layer; {names}")
        chosen[encoder] = dict(by_array.values())
    return chosen


def plan_layers(
    layers: Mapping[str, Layers], n: int, *, pool: str = "mean", memory: int = MEMORY
) -> LayerPlan:
    """The cheaper space that fits into memory, and the passes over the images that it takes.

    Args:
        layers: of `choose_layers`, of one or two encoders.
        n: images, at least 4.
        pool: "mean" or "flatten".
        memory: bytes for rows and Gram matrices.

    Raises:
        ValueError: more than two encoders, too few images, an unknown pool, or neither space fits.

    Example:
        >>> plan = plan_layers({"vit": {"blocks.0": (65, 96), "blocks.1": (65, 96)}}, 100)
        >>> plan.space, len(plan.groups), plan.bytes
        ('gram', 1, 236800)
    """
    if not 1 <= len(layers) <= 2:
        raise ValueError(
            f"encoders={','.join(layers)!r}: give one, to compare it with itself, or two"
        )
    if n < 4:
        raise ValueError(f"n={n} images are too few to compare layers; give 4 or more")
    if pool not in POOLS:
        raise ValueError(f"pool={pool!r}: give one of {', '.join(POOLS)}")
    named = [(e, name, shape) for e, found in layers.items() for name, shape in found.items()]
    widths = [width_of(shape, pool) for *_, shape in named]
    total, count = sum(widths), len(widths)
    flops = {
        "feature": n * (total**2 + sum(width**2 for width in widths)),
        "gram": 2 * n**2 * (total + count**2),
    }
    grams = 8 * n**2 * count
    least = {"feature": 4 * n * total, "gram": grams + 4 * n * max(widths)}
    fitting = [space for space in flops if least[space] <= memory]
    if not fitting:
        raise ValueError(
            f"{count} layers of n={n} images (pool={pool}) need "
            f"{min(least.values()) / 2**30:.2f} GiB, above memory={memory / 2**30:.2f} GiB; "
            "take fewer images or layers, pool='mean', or more memory"
        )
    space = min(fitting, key=lambda space: flops[space])
    room = memory if space == "feature" else memory - grams
    groups: list[dict[str, dict]] = [{}]
    used = most = 0
    for (encoder, name, shape), width in zip(named, widths, strict=True):
        size = 4 * n * width
        if used + size > room:
            groups.append({})
            used = 0
        groups[-1].setdefault(encoder, {})[name] = shape
        used += size
        most = max(most, used)
    held = most + (grams if space == "gram" else 0)
    return LayerPlan(layers, pool, n, space, groups, held)
