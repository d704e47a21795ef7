"""What else tells the domains apart: sizes and colors, small pictures, single encoders, everything.

An accuracy near 100% says little if the size of the images or their mean color gives it too. Every
input is fitted on the same rows and measured on the same held-out rows as the substrate:

    size and color      height, width and their ratio; share of gray pixels; mean and standard
                        deviation of red, green, blue, and of what is left beside gray:
                        what is known without looking at a picture's content
    8 x 8 thumbnail     192 numbers, means over blocks of the 32 x 32 picture
    PCA-16 of pixels    leading components of the 32 x 32 x 3 pixels
    PCA-16 of encoders  of each alone, as the substrate takes them of all
    all features        standardized, side by side; the classifier is ridge regression there, for
                        logistic regression of thousands of features takes minutes

The others have the substrate's classifier, `classify.fit_classifier`.

Cost: reading every image once more for size and color, and a fit for each input. All features: one
Cholesky factor of order min(n, d) for each strength and fold, and n^2 numbers where n < d.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy import linalg

from substrate_jax.analyses.detector.classify import FOLDS, fit_classifier
from substrate_jax.analyses.detector.metrics import Estimate, paired_difference, wilson
from substrate_jax.analyses.detector.parts import Parts
from substrate_jax.analyses.probe.inputs import all_encoders, principal_input
from substrate_jax.analyses.transferability.scores.inputs import classes_of
from substrate_jax.analyses.transferability.scores.probe import stratified_folds
from substrate_jax.data.sources import Source
from substrate_jax.features.image_readers import PIXELS_SIZE, image_features
from substrate_jax.substrate.domains import Panel

THUMBNAIL = 8
MOST_SIDE = 256  # of the pixels that colors are taken of, every so many rows and columns
IMAGES, ENCODER, EVERYTHING = "images", "encoder", "everything"
STATISTICS = (
    "height",
    "width",
    "width / height",
    "gray pixels",
    *(f"{channel} {moment}" for moment in ("mean", "std") for channel in ("red", "green", "blue")),
    "color mean",
    "color std",
)
RIDGE = (1e-3, 1e-1)  # in units of the mean of the eigenvalues


@dataclasses.dataclass(frozen=True)
class Control:
    """How well another input tells the domains apart.

    Attributes:
        name: of the input.
        kind: "images" where no network sees them, "encoder" for one alone, "everything".
        width: numbers per image.
        accuracy: on the held-out rows, with Wilson's interval over rows.
        lead: of the substrate's accuracy over it, on the same rows, with a paired interval.
    """

    name: str
    kind: str
    width: int
    accuracy: Estimate
    lead: Estimate


@dataclasses.dataclass(frozen=True, eq=False)
class ImageNumbers:
    """Numbers of the images themselves, rows of all domains one after another.

    Attributes:
        pixels: [n, 3072] of 32 x 32 pixels in [0, 1].
        statistics: [n, s] in the order of `STATISTICS`.
    """

    pixels: Float[np.ndarray, "n p"]
    statistics: Float64[np.ndarray, "n s"]

    @classmethod
    def join(cls, parts: "Sequence[ImageNumbers]") -> "ImageNumbers":
        """Rows of several domains, one after another."""
        return cls(*(np.concatenate(x) for x in zip(*map(dataclasses.astuple, parts), strict=True)))


def read_numbers(
    source: Source,
    ids: Sequence[str],
    progress: Callable[[int, int], object] = lambda done, total: None,
    **extraction,
) -> ImageNumbers:
    """Pixels, sizes and colors of images.

    Args:
        source: the images.
        ids: of the rows, all in the source and readable.
        progress: called with (images read, twice the images).
        extraction: store, mesh, workers, as `features.extract` takes them; for the pixels.

    Example:
        >>> source = Source("black", "a", None, "0", lambda row: np.zeros((2, 4, 3), np.uint8))
        >>> read_numbers(source, "a").pixels.shape
        (1, 3072)
    """
    n = len(ids)
    found = image_features(
        source,
        ids,
        names=("pixels",),
        progress=lambda done, total: progress(done, 2 * n),
        **extraction,
    )
    sizes = image_statistics(source, ids, lambda done, total: progress(n + done, 2 * n))
    return ImageNumbers(found["pixels"], sizes)


def image_statistics(
    source: Source,
    ids: Sequence[str],
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Float64[np.ndarray, "n s"]:
    """Size and color of images, read whole.

    Args:
        source: the images.
        ids: of the rows, all in the source and readable.
        progress: called with (images done, images).

    Example:
        >>> source = Source("black", "a", None, "0", lambda row: np.zeros((2, 4, 3), np.uint8))
        >>> dict(zip(STATISTICS[:4], image_statistics(source, "a")[0].tolist()))
        {'height': 2.0, 'width': 4.0, 'width / height': 2.0, 'gray pixels': 1.0}
    """
    place = {row_id: row for row, row_id in enumerate(source.ids)}

    def one(row_id: str) -> list[float]:
        return _statistics(source[place[row_id]].image)

    found = []
    with concurrent.futures.ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 2)) as pool:
        for row in pool.map(one, ids):
            found.append(row)
            progress(len(found), len(ids))
    return np.array(found)


def _statistics(image: np.ndarray) -> list[float]:
    height, width = image.shape[:2]
    step = -(-max(height, width) // MOST_SIDE)
    red, green, blue = (image[::step, ::step, channel] for channel in range(3))
    low = np.minimum(np.minimum(red, green), blue)
    color = np.maximum(np.maximum(red, green), blue) - low
    (*means, colored), (*deviations, spread) = zip(
        *map(_moments, (red, green, blue, color)), strict=True
    )
    gray = float((color == 0).mean())
    return [height, width, width / height, gray, *means, *deviations, colored, spread]


def _moments(channel: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of values from 0 to 255, as shares of 255."""
    share = np.bincount(channel.ravel(), minlength=256) / channel.size
    values = np.arange(256) / 255
    mean = float(share @ values)
    return mean, float(np.sqrt(share @ (values - mean) ** 2))


def thumbnails(pixels: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n t"]:
    """8 x 8 pictures as means over blocks of 32 x 32 ones.

    Example:
        >>> thumbnails(np.ones((1, 3072))).shape
        (1, 192)
    """
    step = PIXELS_SIZE // THUMBNAIL
    blocks = pixels.reshape(len(pixels), THUMBNAIL, step, THUMBNAIL, step, 3)
    return blocks.mean(axis=(2, 4)).reshape(len(pixels), -1)


def measure_controls(
    features: Panel,
    parts: Parts,
    right: Bool[np.ndarray, " h"],
    images: ImageNumbers | None,
    *,
    k: int,
    seed: int = 0,
    pool: concurrent.futures.Executor,
) -> Iterator[Control]:
    """Accuracy of every other input.

    Args:
        features: encoder -> [n, d] of all rows.
        parts: of the rows.
        right: whether the substrate's answer to each held-out row is right.
        images: of the same rows; None leaves out what needs images.
        k: components of each PCA, at most as many as the input has.
        seed: of the folds.
        pool: that fits, an input at a time.

    Returns:
        In the order of the module, each when it is fitted.
    """

    def measured(name: str, kind: str, make: Callable[[], np.ndarray]) -> Control:
        x = make()
        predict = ridge_answers if kind == EVERYTHING else _answers
        here = predict(x, parts, seed) == parts.codes[parts.held_out]
        accuracy = wilson(int(here.sum()), len(here))
        return Control(name, kind, x.shape[1], accuracy, paired_difference(right, here))

    return pool.map(lambda one: measured(*one), _inputs(features, parts, images, k))


def _inputs(
    features: Panel, parts: Parts, images: ImageNumbers | None, k: int
) -> Iterator[tuple[str, str, Callable[[], np.ndarray]]]:
    pool = np.flatnonzero(parts.fit)

    def components(panel: Mapping[str, np.ndarray], name: str, count: int):
        return lambda: principal_input(panel, name, pool, k=count).features

    if images is not None:
        pixels = {"pixels": np.asarray(images.pixels)}
        sizes = {"sizes": images.statistics}
        yield "size and color", IMAGES, lambda: all_encoders(sizes, pool).features
        small = f"{THUMBNAIL} × {THUMBNAIL} thumbnail"
        yield small, IMAGES, lambda: thumbnails(pixels["pixels"])
        yield f"PCA-{k} of pixels", IMAGES, components(pixels, "pixels", k)
    hosts = {name: np.asarray(block) for name, block in features.items()}
    for name, block in hosts.items():
        count = min(k, block.shape[1])
        yield f"PCA-{count} of {name}", ENCODER, components(hosts, name, count)
    yield "all features", EVERYTHING, lambda: all_encoders(hosts, pool).features


def _answers(x: Float[np.ndarray, "n d"], parts: Parts, seed: int) -> Int[np.ndarray, " h"]:
    fitted = fit_classifier(x[parts.fit], parts.codes[parts.fit], seed=seed)
    return fitted.logits(x[parts.held_out]).argmax(axis=1)


def ridge_answers(x: Float[np.ndarray, "n d"], parts: Parts, seed: int) -> Int[np.ndarray, " h"]:
    """Answers of ridge regression of the domains, its strength chosen by left-out folds.

    Args:
        x: standardized features of all rows.
        parts: of the rows.
        seed: of the folds.

    Returns:
        Number of the domain of each held-out row.
    """
    rows, codes = np.asarray(x[parts.fit], np.float64), parts.codes[parts.fit]
    fold = stratified_folds(classes_of(codes, len(rows), "the detector"), FOLDS, seed)
    inner = rows @ rows.T if len(rows) < rows.shape[1] else None
    right = np.zeros(len(RIDGE))
    for number in range(FOLDS):
        kept, out = fold != number, fold == number
        if inner is None:
            found = _primal(rows[kept], codes[kept], rows[out], RIDGE)
        else:
            found = _dual(inner[np.ix_(kept, kept)], codes[kept], inner[np.ix_(out, kept)], RIDGE)
        right += [np.sum(answers == codes[out]) for answers in found]
    strongest = len(RIDGE) - 1 - int(right[::-1].argmax())  # of those that tie
    chosen, new = RIDGE[strongest : strongest + 1], np.asarray(x[parts.held_out], np.float64)
    if inner is None:
        return _primal(rows, codes, new, chosen)[0]
    return _dual(inner, codes, new @ rows.T, chosen)[0]


def _primal(
    x: Float64[np.ndarray, "n d"],
    codes: Int[np.ndarray, " n"],
    new: Float64[np.ndarray, "m d"],
    strengths: Sequence[float],
) -> list[Int[np.ndarray, " m"]]:
    """Answers for each strength, from X'X."""
    mean, target, share = x.mean(axis=0), *_targets(codes)
    centered = x - mean
    gram, moment = centered.T @ centered, centered.T @ target
    weights = _solved(gram, moment, strengths)
    return [((new - mean) @ weight + share).argmax(axis=1) for weight in weights]


def _dual(
    inner: Float64[np.ndarray, "n n"],
    codes: Int[np.ndarray, " n"],
    new: Float64[np.ndarray, "m n"],
    strengths: Sequence[float],
) -> list[Int[np.ndarray, " m"]]:
    """The same from inner products XX' of the rows and of new ones with them."""
    target, share = _targets(codes)
    mean = inner.mean(axis=0)
    gram = inner - mean[:, None] - mean[None, :] + mean.mean()
    beside = new - new.mean(axis=1, keepdims=True) - mean[None, :] + mean.mean()
    weights = _solved(gram, target, strengths)
    return [(beside @ weight + share).argmax(axis=1) for weight in weights]


def _targets(codes: Int[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    one_hot = np.eye(codes.max() + 1)[codes]
    share = one_hot.mean(axis=0)
    return one_hot - share, share


def _solved(
    gram: Float64[np.ndarray, "k k"], moment: Float64[np.ndarray, "k C"], strengths: Sequence[float]
) -> Iterator[Float64[np.ndarray, "k C"]]:
    unit = max(np.trace(gram) / len(gram), np.finfo(np.float64).tiny)
    for strength in strengths:
        shifted = gram.copy()
        shifted.flat[:: len(gram) + 1] += strength * unit
        factor = linalg.cho_factor(shifted, overwrite_a=True, check_finite=False)
        yield linalg.cho_solve(factor, moment, check_finite=False)
