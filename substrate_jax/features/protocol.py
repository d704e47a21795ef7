"""What extraction asks of an encoder: a short record, and a pure function of images.

A registered encoder fits as it is, and so does whatever else makes one row per image: several
layers side by side, hand-crafted features, plain pixels. Given together they share one decode pass,
one store and one order of rows.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array

from substrate_jax.data.modality import AnyPreprocess


@runtime_checkable
class ExtractorSpec(Protocol):
    """What extraction reads of an extractor's record; that of a registered encoder has more."""

    @property
    def name(self) -> str:
        """The key of its features."""
        ...

    @property
    def width(self) -> int:
        """Features per image."""
        ...

    @property
    def preprocess(self) -> AnyPreprocess:
        """Resize, crop and normalization of images, spectrogram of sounds, tokens of texts."""
        ...


@dataclasses.dataclass(frozen=True)
class PlainSpec:
    """The record of an extractor that is no registered encoder: nothing beyond `ExtractorSpec`.

    Attributes:
        name: the key of its features.
        width: features per image.
        preprocess: resize, crop and normalization of the images it is given.

    Example:
        >>> from substrate_jax.data import Preprocess
        >>> PlainSpec("pixels", 3072, Preprocess(32)).width
        3072
    """

    name: str
    width: int
    preprocess: AnyPreprocess


@runtime_checkable
class Extractor(Protocol):
    """What `extract` takes: an encoder, or anything that gives one row per image."""

    @property
    def spec(self) -> ExtractorSpec:
        """Name, width and preprocessing."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the output: definition, weights, arithmetic."""
        ...

    @property
    def dtype(self) -> Any:
        """Of the arithmetic; features are float32 always."""
        ...

    def functional(self) -> tuple[Callable[[Any, Array], Array], Any]:
        """`(function, state)` with `function(state, images)` -> [n, width], and no side effects.

        Images are float32 [n, h, w, 3], already normalized; spectrograms of sounds
        and tokens of texts are what their preprocessing gives. The state is an argument, so that
        weights are no constants of the program. The function must not change during the
        extractor's life: its compiled program is kept with it, from one source to the next.
        """
        ...
