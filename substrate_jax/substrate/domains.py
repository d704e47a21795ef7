"""Domains as every analysis of several takes them, and the one check that they fit together."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Array, Float

from substrate_jax import kernels
from substrate_jax.mesh import RowBlock

Block = Float[np.ndarray, "_ _"] | Float[Array, "_ _"] | RowBlock  # [n, d]
Panel = Mapping[str, Block]  # encoder -> features, of the same images
Domains = Mapping[str, Panel]  # by name


@dataclasses.dataclass(frozen=True)
class DomainShapes:
    """What domains seen by one panel have in common, and how many images each has.

    Attributes:
        names: of the domains.
        counts: images of each.
        encoders: names, in the order of every domain.
        widths: features of each encoder.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    encoders: tuple[str, ...]
    widths: tuple[int, ...]


def check_domains(domains: Domains, *, least: int = 4) -> DomainShapes:
    """The shapes of domains seen by one panel, after a check that they fit together.

    Args:
        domains: name -> encoder -> [n, d], an array or what gives arrays when sliced; n may differ
            between domains, encoders and widths may not.
        least: images that every domain must have.

    Returns:
        Names, and numbers of images and features.

    Raises:
        ValueError: no domain or no encoder; other encoders, another order or other widths than in
            the first domain; encoders of one domain with different numbers of rows; fewer than
            `least` rows; NaN or infinity.

    Example:
        >>> domains = {"a": {"one": np.ones((5, 2))}, "b": {"one": np.ones((4, 2))}}
        >>> check_domains(domains)
        DomainShapes(names=('a', 'b'), counts=(5, 4), encoders=('one',), widths=(2,))
        >>> check_domains(domains, least=5)
        Traceback (most recent call last):
            ...
        ValueError: domain 'b' has 4 images: give 5 or more, or leave the domain out
    """
    if not domains:
        raise ValueError("there is no domain: give a dict of name -> encoder -> [n, d] features")
    first, widths, counts = "", {}, []
    for name, features in domains.items():
        shapes = {encoder: tuple(block.shape) for encoder, block in features.items()}
        if not shapes:
            raise ValueError(f"domain {name!r} has no encoder: give the features of one or more")
        if flat := [encoder for encoder, shape in shapes.items() if len(shape) != 2]:
            raise ValueError(
                f"domain {name!r}: {flat[0]} has shape {shapes[flat[0]]}: give [images, features]"
            )
        found = {encoder: shape[1] for encoder, shape in shapes.items()}
        if not counts:
            first, widths = name, found
        if list(found.items()) != list(widths.items()):
            raise ValueError(
                f"domain {name!r} has encoders of widths {found}, domain {first!r} has {widths}: "
                "give the same encoders in the same order"
            )
        rows = {encoder: shape[0] for encoder, shape in shapes.items()}
        n = next(iter(rows.values()))
        if set(rows.values()) != {n}:
            raise ValueError(
                f"domain {name!r} has encoders with {rows} rows: give the same images to all"
            )
        if n < least:
            raise ValueError(
                f"domain {name!r} has {n} images: give {least} or more, or leave the domain out"
            )
        kernels.check_finite(list(features.values()), [f"domain {name}, {e}" for e in features])
        counts.append(n)
    return DomainShapes(tuple(domains), tuple(counts), tuple(widths), tuple(widths.values()))


def check_components(shapes: DomainShapes, k: int) -> None:
    """Raise ValueError unless every domain has k components: 1 <= k <= D, and k < n.

    Args:
        shapes: of the domains, D features in all and n images each.
        k: components of a substrate.

    Example:
        >>> check_components(DomainShapes(("a",), (3,), ("one",), (9,)), 3)
        Traceback (most recent call last):
            ...
        ValueError: domain 'a' has 3 images: k=3 components need 4 or more; add images or lower k
    """
    if not 1 <= k <= sum(shapes.widths):
        raise ValueError(f"k={k}: give 1 to {sum(shapes.widths)}, the features of the panel")
    for name, n in zip(shapes.names, shapes.counts, strict=True):
        if n <= k:
            raise ValueError(
                f"domain {name!r} has {n} images: k={k} components need {k + 1} or more; "
                "add images or lower k"
            )
