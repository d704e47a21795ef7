"""Plain pixels and hand-crafted features, read like the features of an encoder.

`image_readers` dresses the pixels of 32 x 32 images and the features of `features.handcrafted` as
extractors: given to `extract` beside a panel they share its one decode pass, its store and its row
order. `image_features` reads them alone.

Cost: 12 KiB per image for the pixels, 236 bytes for the hand-crafted features.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from substrate_jax.data.sources import Source, digest
from substrate_jax.features.extract import extract
from substrate_jax.features.handcrafted import (
    FEATURE_NAMES,
    PREPROCESS,
    SIZE,
    VERSION,
    describe,
    filters,
)
from substrate_jax.features.protocol import PlainSpec
from substrate_jax.features.store import FeatureStore

PIXELS_SIZE = 32


@dataclasses.dataclass(frozen=True, eq=False)
class ImageReader:
    """A fixed function of pixels, as an encoder that `extract` takes.

    Attributes:
        spec: name, width and preprocessing.
        fingerprint: hash of the definition.
        function: (state, images float32 [n, s, s, 3] in [0, 1]) -> [n, width].
        state: its constants.
    """

    spec: PlainSpec
    fingerprint: str
    function: Callable[[Any, Array], Array]
    state: Any
    dtype = jnp.dtype(jnp.float32)

    def functional(self) -> tuple[Callable, Any]:
        """`(state, images) -> [n, width]`, and the state."""
        return self.function, self.state


@functools.lru_cache
def image_readers() -> tuple[ImageReader, ImageReader]:
    """The readers `pixels` (32 x 32 x 3, row by row) and `handcrafted`.

    Example:
        >>> [(reader.spec.name, reader.spec.width) for reader in image_readers()]
        [('pixels', 3072), ('handcrafted', 59)]
    """

    def flat(state, images):
        return images.reshape(len(images), -1)

    def reader(name: str, width: int, size: int, function, state) -> ImageReader:
        spec = PlainSpec(name, width, dataclasses.replace(PREPROCESS, size=size))
        return ImageReader(spec, digest(name, str(VERSION)), function, state)

    return (
        reader("pixels", 3 * PIXELS_SIZE**2, PIXELS_SIZE, flat, {}),
        reader("handcrafted", len(FEATURE_NAMES), SIZE, describe, filters()),
    )


def image_features(
    source: Source,
    ids: Sequence[str] | None = None,
    *,
    names: Sequence[str] = ("pixels", "handcrafted"),
    store: FeatureStore | str | os.PathLike | None = None,
    **extraction,
) -> dict[str, Float32[np.ndarray, "n _"]]:
    """Pixels and hand-crafted features of a source's images.

    Args:
        source: the images.
        ids: rows to read, in this order, such as the `ids` of a panel's features; all by default.
        names: which of the two.
        store: where to keep and look up the features, see `extract`.
        extraction: mesh, batch_size, skip_bad, workers, progress, of `extract`.

    Returns:
        `pixels` [n, 3072] in [0, 1] and `handcrafted` [n, 59], as far as they are asked for.

    Raises:
        ValueError: an id that the source does not have, or images that cannot be read.
    """
    if ids is not None and tuple(ids) != source.ids:
        places = {row_id: row for row, row_id in enumerate(source.ids)}
        if unknown := [row_id for row_id in ids if row_id not in places]:
            raise ValueError(
                f"ids hold {unknown[0]!r}, which {source.name} does not have: give its ids"
            )
        source = source.select([places[row_id] for row_id in ids])
    readers = [reader for reader in image_readers() if reader.spec.name in names]
    found = extract(readers, source, store=store, **extraction)
    return {name: np.asarray(block) for name, block in found.items()}


def image_energy(pixels: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
    """Mean squared pixel value of each image, pixels in [0, 1]."""
    return np.mean(np.square(np.asarray(pixels, np.float64)), axis=1)
