r"""Hand-crafted features of images: edges, textures, colors and frequencies by formulas.

Controls and the reading of components need features that nothing was trained for. An image is
resized and cropped to s x s pixels (s = 64), values in [0, 1]; Y is its luminance, 0.2125 R +
0.7154 G + 0.0721 B, and y = Y - mean Y. The 59 features, in the order of `FEATURE_NAMES`:

    sobel       8   share of the gradient's magnitude by its direction: from rightwards (0) towards
                    downwards, modulo 180 degrees, bins of 22.5 centered at 0, 22.5, ..; opposite
                    directions count alike. Gradient: Sobel filters on Y, border repeated.
    gabor      32   mean of |y * g|^2 over the pixels, g the complex Gabor filter of wavelength 2.5,
                    5, 10 or 20 pixels and 8 directions (angles as above), bandwidth one octave;
                    border reflected. A sinusoid of amplitude a has a^2 / 4 in its own filter.
    hsv         9   mean, standard deviation and skewness of hue, saturation and value in [0, 1];
                    skewness is the signed cube root of the third central moment, in the unit of the
                    channel (Stricker, Orengo 1995). Hue is a number from red (0) to red (1) here,
                    not an angle, and 0 for gray pixels.
    fft         8   part of the variance of Y in each band of spatial frequency, |f| in cycles
                    per pixel, bands of 1/16 from 0 to 1/2, the last with the corners beyond; border
                    periodic. Their sum is the squared contrast.
    luminance   1   mean of Y.
    contrast    1   standard deviation of Y (RMS contrast).

An image of one color has zeros for sobel, gabor, fft, contrast, deviations and skewnesses. What
varies by less than 1e-6 counts as constant: 8-bit pixels cannot vary by less, rounding can.

Gabor filters with a round envelope are separable, g(x, y) = c a(y) b(x), so that a response with
its border is A y B', two s x s matrices, and its energy ||A y B'||^2 does not change if A and B are
replaced by S V' of their singular value decompositions. Coarse filters pass narrow bands: 64, 41,
26 and 16 singular values are above 1e-4 of the first, the others are left out.

Cost: 50 Mflop per image for all 59, most of it in the Gabor filters.

References:
    S. van der Walt et al., scikit-image, PeerJ 2:e453, 2014 (luminance, filters, HSV).
    B. Manjunath, W. Ma, "Texture features for browsing and retrieval of image data", IEEE PAMI 18,
    1996 (four octaves, 0.05 to 0.4 cycles per pixel).
    M. Stricker, M. Orengo, "Similarity of color images", SPIE 2420, 1995 (color moments).
"""

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from substrate_jax.data.preprocess import Preprocess, normalize
from substrate_jax.kernels.arithmetic import HIGHEST, divide

VERSION = 1  # of the definitions: stored features of another are computed anew
SIZE = 64
PREPROCESS = Preprocess(SIZE, mean=(0, 0, 0), std=(1, 1, 1))
ORIENTATIONS = 8
FREQUENCIES = (0.4, 0.2, 0.1, 0.05)  # of the Gabor filters, cycles per pixel
GABOR_CUT = 5  # deviations at which the envelope ends; at 3 the ends ring in all frequencies
BANDS = 8
LUMA = (0.2125, 0.7154, 0.0721)
FLAT = 1e-6

_ANGLES = tuple(180 / ORIENTATIONS * i for i in range(ORIENTATIONS))
_EDGES = np.linspace(0, 0.5, BANDS + 1)
_NAMES = {
    "sobel": [f"sobel {angle:g}°" for angle in _ANGLES],
    "gabor": [f"gabor {1 / f:g} px {angle:g}°" for f in FREQUENCIES for angle in _ANGLES],
    "hsv": [
        f"{channel} {moment}"
        for channel in ("hue", "saturation", "value")
        for moment in ("mean", "std", "skewness")
    ],
    "fft": [f"fft {low:.2f}-{high:.2f}" for low, high in itertools.pairwise(_EDGES)],
    "luminance": ["luminance"],
    "contrast": ["rms contrast"],
}
GROUPS = tuple(_NAMES)
FEATURE_NAMES = tuple(name for names in _NAMES.values() for name in names)
FEATURE_GROUPS = tuple(group for group, names in _NAMES.items() for _ in names)


def handcrafted_features(
    images: UInt8[np.ndarray, f"n {SIZE} {SIZE} 3"],
) -> Float32[np.ndarray, f"n {len(FEATURE_NAMES)}"]:
    """The 59 features of a batch of images, as the module defines them.

    Args:
        images: uint8, resized and cropped already.

    Returns:
        [n, 59] in the order of `FEATURE_NAMES`, finite for every image.

    Raises:
        ValueError: images of another shape or dtype.

    Example:
        >>> found = handcrafted_features(np.full((1, 64, 64, 3), 255, np.uint8))
        >>> {name: round(float(x), 4) for name, x in zip(FEATURE_NAMES, found[0]) if x}
        {'value mean': 1.0, 'luminance': 1.0}
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (SIZE, SIZE, 3):
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)}: give uint8 [n, {SIZE}, {SIZE}, 3]"
        )
    return np.asarray(_of_pixels(filters(), images))


def describe(
    constants: Mapping[str, Any], images: Float[Array, "n s s 3"]
) -> Float[Array, "n features"]:
    """The features of images with values in [0, 1]; `constants` are those of `filters`."""
    luma = jnp.asarray(LUMA, images.dtype)
    luminance = jnp.matmul(images, luma, precision=HIGHEST)
    mean, deviation = _center(luminance)
    contrast = jnp.sqrt(jnp.square(deviation).mean((1, 2)))
    columns = [
        _sobel(luminance),
        *(_gabor(deviation, *factors) for factors in constants["gabor"]),
        *(_moments(channel) for channel in _hsv(images)),
        _bands(deviation, constants["bands"]),
        mean[:, None],
        contrast[:, None],
    ]
    return jnp.concatenate(columns, axis=1)


@jax.jit
def _of_pixels(constants, images: UInt8[Array, "n s s 3"]) -> Float[Array, "n features"]:
    return describe(constants, normalize(images, PREPROCESS))


def _center(values: Float[Array, "n h w"]) -> tuple[Float[Array, " n"], Float[Array, "n h w"]]:
    """Mean of each image, and what is left without it: exactly 0 if the image is constant."""
    mean = values.mean((1, 2))
    flat = values.max((1, 2)) - values.min((1, 2)) < FLAT
    return mean, jnp.where(flat[:, None, None], 0, values - mean[:, None, None])


def _sobel(luminance: Float[Array, "n h w"]) -> Float[Array, "n 8"]:
    edge = jnp.pad(luminance, ((0, 0), (1, 1), (1, 1)), mode="edge")
    smooth_x = (edge[:, :, :-2] + 2 * edge[:, :, 1:-1] + edge[:, :, 2:]) / 4
    smooth_y = (edge[:, :-2] + 2 * edge[:, 1:-1] + edge[:, 2:]) / 4
    down = smooth_x[:, 2:] - smooth_x[:, :-2]
    right = smooth_y[:, :, 2:] - smooth_y[:, :, :-2]
    magnitude = jnp.sqrt(jnp.square(down) + jnp.square(right))
    magnitude = jnp.where(magnitude < FLAT, 0, magnitude)
    number = jnp.round(jnp.arctan2(down, right) * (ORIENTATIONS / np.pi)).astype(jnp.int32)
    total = [
        jnp.where(number % ORIENTATIONS == i, magnitude, 0).sum((1, 2)) for i in range(ORIENTATIONS)
    ]
    histogram = jnp.stack(total, axis=1)
    return divide(histogram, histogram.sum(1, keepdims=True))


def _gabor(
    deviation: Float[Array, "n s s"], along: Float[Array, "o c r s"], down: Float[Array, "o q c s"]
) -> Float[Array, "n o"]:
    """Energies of the filters of one wavelength, c = 2 for real and imaginary parts."""
    once = jnp.einsum("nyx,ocrx->noycr", deviation, along, precision=HIGHEST)
    twice = jnp.einsum("oqcy,noycr->noqr", down, once, precision=HIGHEST)
    return jnp.square(twice).sum((2, 3)) / deviation[0].size


def _hsv(images: Float[Array, "n h w 3"]) -> tuple[Array, Array, Array]:
    red, green, blue = (images[..., i] for i in range(3))
    value, spread = images.max(-1), images.max(-1) - images.min(-1)
    saturation = divide(spread, value)
    sector = jnp.where(
        value == red,
        divide(green - blue, spread),
        jnp.where(value == green, 2 + divide(blue - red, spread), 4 + divide(red - green, spread)),
    )
    hue = jnp.where(spread == 0, 0, jnp.mod(sector / 6, 1))
    return hue, saturation, value


def _moments(channel: Float[Array, "n h w"]) -> Float[Array, "n 3"]:
    mean, deviation = _center(channel)
    square = jnp.square(deviation)
    third = (square * deviation).mean((1, 2))
    return jnp.stack([mean, jnp.sqrt(square.mean((1, 2))), jnp.cbrt(third)], axis=1)


def _bands(
    deviation: Float[Array, "n s s"], bands: Float[Array, "frequencies bands"]
) -> Float[Array, "n bands"]:
    spectrum = jnp.fft.rfft2(deviation)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return jnp.matmul(power.reshape(len(power), -1), bands, precision=HIGHEST)


@functools.lru_cache
def filters() -> dict[str, Any]:
    """The constants of `describe`: Gabor factors by wavelength, and the weights of the FFT bands.

    A frequency that `rfft2` leaves out, being the conjugate of another, doubles the other's weight.
    """
    y, x = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :]
    band = np.minimum(np.hypot(x, y) // (0.5 / BANDS), BANDS - 1)
    weight = np.where((x == 0) | (x == 0.5), 1, 2) / SIZE**4
    weights = weight[..., None] * (band[..., None] == np.arange(BANDS))
    return {
        "gabor": tuple(_gabor_factors(frequency) for frequency in FREQUENCIES),
        "bands": weights.reshape(-1, BANDS).astype(np.float32),
    }


def _gabor_factors(frequency: float) -> tuple[np.ndarray, np.ndarray]:
    """What `_gabor` multiplies by from the right and from the left, for every direction."""
    from skimage.filters import gabor_kernel  # half a second to import

    pairs = []
    for angle in _ANGLES:
        kernel = gabor_kernel(frequency, np.deg2rad(angle), n_stds=GABOR_CUT)
        middle = tuple(side // 2 for side in kernel.shape)
        across, downwards = kernel[middle[0]], kernel[:, middle[1]] / kernel[middle]
        pairs.append([_compressed(_border_matrix(line)) for line in (across, downwards)])
    rank = max(len(factor) for pair in pairs for factor in pair)
    padded = np.array([[np.pad(f, ((0, rank - len(f)), (0, 0))) for f in pair] for pair in pairs])
    along, down = padded[:, 0], padded[:, 1]
    along = np.stack([np.real(along), np.imag(along)], axis=1)
    real, imaginary = np.real(down), np.imag(down)
    # (p + iq)(u + iv) = (pu - qv) + i(qu + pv)
    down = np.concatenate(
        [np.stack([real, -imaginary], axis=2), np.stack([imaginary, real], axis=2)], axis=1
    )
    return along.astype(np.float32), down.astype(np.float32)


def _border_matrix(taps: np.ndarray) -> np.ndarray:
    """[s, s] matrix of a convolution with an odd number of taps, border reflected."""
    half = len(taps) // 2
    matrix = np.zeros((SIZE, SIZE), complex)
    for place, tap in zip(range(-half, half + 1), taps, strict=True):
        source = (np.arange(SIZE) - place) % (2 * SIZE)
        source = np.minimum(source, 2 * SIZE - 1 - source)
        np.add.at(matrix, (np.arange(SIZE), source), tap)
    return matrix


def _compressed(matrix: np.ndarray) -> np.ndarray:
    """Fewer rows R with ||R z||^2 = ||M z||^2 for every z, to 1e-8 of the largest possible."""
    _, values, right = np.linalg.svd(matrix)
    kept = values > 1e-4 * values[0]
    return values[kept, None] * right[kept]
