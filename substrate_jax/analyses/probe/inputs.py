"""What heads are given: the substrate, single encoders, and what each could be swapped for.

All bases, means and deviations are of the images of the pool only, without their labels, so they
have not seen the images that heads are judged on. The one exception says so in its name: a
transductive basis is fitted on the held-out images too.

Components are those of `substrate.Substrate`: leading principal components of standardized
features, of one encoder for PCA-16, of all side by side for the substrate. Random-16 is the control
for the number of dimensions alone: standardized features times a Gaussian matrix.

Cost: of a pool of p images and D features, p D min(p, D) + min(p, D)^3 per basis on the host where
min(p, D) is at most 1,024, since a program for each shape would take longer to compile; O(p D k)
per pass of `Substrate.fit` elsewhere.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from substrate_jax.analyses.probe.results import Kind
from substrate_jax.analyses.threads import fitting
from substrate_jax.substrate import COMPONENTS, Substrate
from substrate_jax.substrate.domains import check_components, check_domains

Features = Mapping[str, Float[np.ndarray, "n _"]]
_BYTES = 4  # of float32
_HOST = 1024  # rows or features, the fewer, up to which the host finds components
_NOTHING = 8 * np.finfo(np.float32).eps  # of the first component's variance: as Substrate has it


@dataclasses.dataclass(frozen=True, eq=False)
class Input:
    """Features that heads are fitted to.

    Attributes:
        name: what they are.
        features: [n, d] of all images.
        encoders: that must run on an image to make them.
        flops: per image, from the encoders' features to these; encoders do not count.
        model_bytes: of bases and moments that are kept for that, in float32.
        kind: what sort of input it is, by which tables group them.
    """

    name: str
    features: Float[np.ndarray, "n d"]
    encoders: tuple[str, ...]
    flops: int = 0
    model_bytes: int = 0
    kind: Kind = "other"

    @property
    def width(self) -> int:
        """Features per image."""
        return self.features.shape[1]

    @property
    def image_bytes(self) -> int:
        """Of the features of one image in float32."""
        return _BYTES * self.width


def substrate_input(
    features: Features,
    pool: Int[np.ndarray, " p"],
    *,
    k: int = COMPONENTS,
    transductive: bool = False,
) -> Input:
    """The substrate's scores.

    Args:
        features: encoder -> features of all images, rows in the same order.
        pool: rows that the basis is fitted on.
        k: components.
        transductive: fit the basis on all rows, held-out ones too; the name says so.

    Raises:
        ValueError: as `Substrate.fit`, and rows that are not among the images.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
        >>> found = substrate_input({"one": x, "two": x[:, :3]}, np.arange(20), k=2)
        >>> found.name, found.features.shape, found.encoders, found.flops
        ('substrate 2', (40, 2), ('one', 'two'), 54)
    """
    rows = np.arange(_rows(features)) if transductive else pool
    name = f"substrate {k}" + (" (transductive)" if transductive else "")
    kind = "transductive" if transductive else "substrate"
    return _components(name, kind, features, _checked_pool(features, rows), k)


def encoder_input(features: Features, encoder: str) -> Input:
    """One encoder at full width, as it is."""
    return Input(encoder, _host(features[encoder]), (encoder,), kind="encoder")


def principal_input(
    features: Features, encoder: str, pool: Int[np.ndarray, " p"], *, k: int = COMPONENTS
) -> Input:
    """Leading principal components of one encoder; arguments as in `substrate_input`."""
    alone = {encoder: features[encoder]}
    pool = _checked_pool(features, pool)
    return _components(f"PCA-{k} of {encoder}", "principal", alone, pool, k)


def random_input(
    features: Features,
    encoder: str,
    pool: Int[np.ndarray, " p"],
    *,
    k: int = COMPONENTS,
    seed: int = 0,
) -> Input:
    """Standardized features of one encoder times a [d, k] matrix of N(0, 1 / k).

    Example:
        >>> x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
        >>> random_input({"one": x}, "one", np.arange(20), k=2).features.shape
        (40, 2)
    """
    alone = {encoder: features[encoder]}
    standard, width = _standardized(alone, _checked_pool(features, pool))
    matrix = np.random.default_rng(seed).normal(size=(width, k)) / np.sqrt(k)
    projected = standard @ matrix.astype(np.float32)
    name, cost = f"random-{k} of {encoder}", _projection_cost(width, k)
    return Input(name, projected, (encoder,), *cost, kind="random")


def all_encoders(features: Features, pool: Int[np.ndarray, " p"]) -> Input:
    """Standardized features of all encoders side by side: what the substrate is a part of.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
        >>> found = all_encoders({"one": x, "two": 100 * x[:, :3]}, np.arange(40))
        >>> found.features.shape, found.features.std(axis=0).round(3).min().item()
        ((40, 9), 1.0)
    """
    standard, width = _standardized(features, _checked_pool(features, pool))
    cost = 2 * width, 2 * _BYTES * width
    return Input("all encoders", standard, tuple(features), *cost, kind="all")


def standard_inputs(
    features: Features,
    pool: Int[np.ndarray, " p"],
    *,
    pixels: Float[np.ndarray, "n _"] | None = None,
    k: int = COMPONENTS,
    seed: int = 0,
) -> Sequence[Input]:
    """Everything that a probe of few labels is compared on.

    Args:
        features: encoder -> features of all images.
        pool: rows that bases are fitted on.
        pixels: of small images, flattened; adds their principal components.
        k: components.
        seed: of the random matrices.

    Returns:
        Substrate, transductive substrate, each encoder at full width, its principal components and
        random directions (of encoders wider than k), components of pixels, all encoders.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
        >>> found = standard_inputs({"one": x, "two": x[:, :3]}, np.arange(20), k=4)
        >>> [one.name for one in found]  # doctest: +NORMALIZE_WHITESPACE
        ['substrate 4', 'substrate 4 (transductive)', 'one', 'PCA-4 of one', 'random-4 of one',
         'two', 'all encoders']
    """
    principal = partial(principal_input, pool=pool, k=k)
    work = [
        partial(substrate_input, features, pool, k=k, transductive=seen) for seen in (False, True)
    ]
    for number, (encoder, block) in enumerate(features.items()):
        work.append(partial(encoder_input, features, encoder))
        if block.shape[1] > k:
            work.append(partial(principal, features, encoder))
            work.append(partial(random_input, features, encoder, pool, k=k, seed=seed + number))
    if pixels is not None:
        work.append(partial(principal, {"pixels": pixels}, "pixels"))
    work.append(partial(all_encoders, features, pool))
    with fitting("inputs") as threads:
        found = list(threads.map(lambda make: make(), work))
    if pixels is not None:
        found[-2] = dataclasses.replace(found[-2], encoders=(), kind="pixels")
    return found


def _components(name: str, kind: Kind, features: Features, rows: np.ndarray, k: int) -> Input:
    blocks = {one: _host(x) for one, x in features.items()}
    pool = {one: x[rows] for one, x in blocks.items()}
    shapes = check_domains({"pool": pool}, least=2)
    check_components(shapes, k)
    width = sum(shapes.widths)
    if min(len(rows), width) > _HOST:
        scores = np.asarray(Substrate.fit(pool, k).transform(blocks))
    else:
        standard, _ = _standardized(blocks, rows)
        scores = standard @ _leading(standard[rows], k)
    return Input(name, scores, tuple(features), *_projection_cost(width, k), kind=kind)


def _leading(x: Float[np.ndarray, "p D"], k: int) -> Float[np.ndarray, "D k"]:
    """Directions of most variance of centered rows; zeros for those without."""
    wide = x.astype(np.float64)
    rows, width = x.shape
    gram = wide @ wide.T if rows < width else wide.T @ wide
    size = len(gram)
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=[size - k, size - 1])
    held = values > max(_NOTHING * values[-1], 0)
    if rows < width:
        vectors = (wide.T @ vectors) / np.sqrt(np.where(held, values, 1))
    return (vectors * held)[:, ::-1].astype(np.float32)


def _standardized(features: Features, rows: np.ndarray) -> tuple[np.ndarray, int]:
    blocks = []
    for x in map(_host, features.values()):
        fitted = x[rows].astype(np.float64)
        mean, deviation = fitted.mean(axis=0), fitted.std(axis=0)
        # A constant feature leaves rounding, which division would blow up.
        constant = deviation <= 8 * np.finfo(x.dtype).eps * np.abs(fitted).max(axis=0)
        scale = np.where(constant, 0, 1 / np.where(constant, 1, deviation))
        blocks.append(((x - mean) * scale).astype(np.float32))
    stacked = np.concatenate(blocks, axis=1)
    return stacked, stacked.shape[1]


def _projection_cost(width: int, k: int) -> tuple[int, int]:
    """Flops per image of standardizing and projecting; bytes of moments and basis."""
    return 2 * width + 2 * width * k, _BYTES * width * (k + 2)


def _host(x) -> np.ndarray:
    found = np.asarray(x)
    return found if found.dtype == np.float32 else found.astype(np.float32)


def _rows(features: Features) -> int:
    return next(iter(features.values())).shape[0] if features else 0


def _checked_pool(features: Features, pool: np.ndarray) -> np.ndarray:
    rows = _rows(features)
    used = (pool >= 0) & (pool < rows)
    if not used.all():
        raise ValueError(
            f"pool names row {pool[~used][0]} of {rows} images: draw episodes from the labels of "
            "these images"
        )
    return pool
