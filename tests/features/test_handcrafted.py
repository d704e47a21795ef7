"""Hand-crafted features against scikit-image taken literally, their symmetries, and flat images."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import fftconvolve
from skimage import color, data, filters

from substrate_jax.data.preprocess import Preprocess, resize_crop
from substrate_jax.features.handcrafted import (
    FEATURE_GROUPS,
    FEATURE_NAMES,
    FREQUENCIES,
    GABOR_CUT,
    _center,
    handcrafted_features,
)
from tests.helpers import tolerance

S = 64
ANGLES = np.arange(8) * np.pi / 8
SUM = tolerance(S * S)
# A relative error of what is summed, for quantities that are ratios or roots of sums.
LIMIT = 4 * SUM


def wave(frequency: float, angle: float) -> np.ndarray:
    """A gray sinusoid of amplitude 100 levels."""
    y, x = np.mgrid[:S, :S]
    phase = 2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle))
    return np.repeat(np.round(127 + 100 * np.cos(phase))[..., None], 3, axis=2).astype(np.uint8)


def pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    photograph = resize_crop(data.astronaut(), Preprocess(S))
    return {
        "photograph": photograph,
        "tissue": resize_crop(data.immunohistochemistry(), Preprocess(S)),
        "noise": rng.integers(0, 256, (S, S, 3), np.uint8),
        "wave": wave(FREQUENCIES[1], ANGLES[2]),
        "mirrored": photograph[:, ::-1],
        "turned": np.rot90(photograph),
        "dark": photograph // 2,
        "brighter": photograph // 2 + 100,
        "gray": np.repeat(photograph[..., :1], 3, axis=2),
        "black": np.zeros((S, S, 3), np.uint8),
        "white": np.full((S, S, 3), 255, np.uint8),
        "orange": np.full((S, S, 3), (255, 128, 3), np.uint8),
        **{
            f"color {i}": np.full((S, S, 3), rgb, np.uint8)
            for i, rgb in enumerate(rng.integers(0, 256, (20, 3)))
        },
    }


@pytest.fixture(scope="module")
def features():
    """Name -> group -> values."""
    images = pictures()
    rows = handcrafted_features(np.stack(list(images.values())))
    assert rows.shape == (len(images), 59)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    groups = np.array(FEATURE_GROUPS)
    return {
        name: {group: row[groups == group].astype(np.float64) for group in FEATURE_GROUPS}
        for name, row in zip(images, rows, strict=True)
    }


@pytest.mark.parametrize("name", ["photograph", "tissue", "noise", "brighter"])
def test_features_are_those_of_their_definitions(features, name):
    image, got = pictures()[name], features[name]
    luminance = color.rgb2gray(image)
    assert got["luminance"] == pytest.approx(luminance.mean(), rel=SUM)
    assert got["contrast"] == pytest.approx(luminance.std(), rel=LIMIT)

    down, right = filters.sobel_h(luminance), filters.sobel_v(luminance)
    place = np.arctan2(down, right) / (np.pi / 8)
    magnitude = np.hypot(down, right)
    number = np.round(place).astype(int) % 8
    want = np.bincount(number.ravel(), magnitude.ravel(), 8) / magnitude.sum()
    # An angle within rounding of an edge of a bin may fall to either side.
    doubtful = magnitude[np.abs(place % 1 - 0.5) < 1e-4].sum() / magnitude.sum()
    assert doubtful < 0.02
    np.testing.assert_allclose(got["sobel"], want, atol=LIMIT + doubtful)

    hsv = color.rgb2hsv(image).reshape(-1, 3)
    moments = got["hsv"].reshape(3, 3)
    np.testing.assert_allclose(moments[:, 0], hsv.mean(0), atol=SUM)
    np.testing.assert_allclose(moments[:, 1], hsv.std(0), atol=SUM)
    np.testing.assert_allclose(moments[:, 2] ** 3, ((hsv - hsv.mean(0)) ** 3).mean(0), atol=SUM)

    power = np.abs(np.fft.fft2(luminance - luminance.mean())) ** 2 / S**4
    f = np.fft.fftfreq(S)
    band = np.minimum(np.hypot(f[:, None], f[None, :]) * 16, 7).astype(int)
    want = np.bincount(band.ravel(), power.ravel(), 8)
    np.testing.assert_allclose(got["fft"], want, atol=LIMIT * power.sum())


@pytest.mark.parametrize("name", ["photograph", "noise", "wave"])
def test_gabor_energies_are_those_of_the_filtered_image(features, name):
    luminance = color.rgb2gray(pictures()[name])
    deviation = luminance - luminance.mean()
    want = []
    for frequency in FREQUENCIES:
        for angle in ANGLES:
            kernel = filters.gabor_kernel(frequency, angle, n_stds=GABOR_CUT)
            margin = [(side // 2, side // 2) for side in kernel.shape]
            bordered = np.pad(deviation, margin, mode="symmetric")
            want.append((np.abs(fftconvolve(bordered, kernel, mode="valid")) ** 2).mean())
    # Singular values below 1e-4 are left out of either factor: 1e-4 of the norm, twice of energy.
    np.testing.assert_allclose(
        features[name]["gabor"], want, rtol=1e-3, atol=1e-6 * deviation.var()
    )


def test_a_wave_answers_in_its_own_filter(features):
    energies = features["wave"]["gabor"].reshape(4, 8)
    assert np.unravel_index(energies.argmax(), energies.shape) == (1, 2)
    # The border, where the wave is reflected, takes its share.
    assert energies[1, 2] == pytest.approx((100 / 255) ** 2 / 4, rel=0.15)
    bands = features["wave"]["fft"]
    assert bands.argmax() == 3  # 0.2 cycles per pixel lie between 3/16 and 4/16
    assert bands[3] > 0.9 * bands.sum()


def test_bands_add_up_to_the_squared_contrast(features):
    for found in features.values():
        assert found["fft"].sum() == pytest.approx(found["contrast"][0] ** 2, rel=LIMIT)


# What is done to the image, and where the bin of each direction then is.
SYMMETRIES = {"mirrored": (8 - np.arange(8)) % 8, "turned": (np.arange(8) + 4) % 8}


@pytest.mark.parametrize("name", SYMMETRIES)
def test_directions_follow_the_image(features, name):
    got, want, order = features[name], features["photograph"], SYMMETRIES[name]
    # Sums in another order may move an angle at an edge of a bin.
    np.testing.assert_allclose(got["sobel"][order], want["sobel"], atol=1e-3)
    energies = got["gabor"].reshape(4, 8)[:, order]
    np.testing.assert_allclose(energies, want["gabor"].reshape(4, 8), rtol=1e-3)
    for group in ("fft", "luminance", "contrast"):
        np.testing.assert_allclose(got[group], want[group], rtol=LIMIT, atol=LIMIT)
    np.testing.assert_allclose(got["hsv"] ** 3, want["hsv"] ** 3, atol=LIMIT)


def test_brightness_moves_the_luminance_and_nothing_that_is_centered(features):
    got, want = features["brighter"], features["dark"]
    for group in ("gabor", "fft", "contrast"):
        np.testing.assert_allclose(got[group], want[group], rtol=10 * LIMIT, atol=1e-6 * SUM)
    np.testing.assert_allclose(got["sobel"], want["sobel"], atol=1e-3)
    assert got["luminance"] - want["luminance"] == pytest.approx(100 / 255, rel=LIMIT)
    assert got["hsv"][6] - want["hsv"][6] == pytest.approx(100 / 255, rel=LIMIT)


def test_gray_images_have_no_color(features):
    assert not features["gray"]["hsv"][:6].any()
    assert features["gray"]["hsv"][6:].all()


@pytest.mark.parametrize("name", ["black", "white", "orange", *(f"color {i}" for i in range(20))])
def test_images_of_one_color_have_means_and_zeros(features, name):
    image, got = pictures()[name], features[name]
    for group in ("sobel", "gabor", "fft", "contrast"):
        assert not got[group].any(), group
    moments = got["hsv"].reshape(3, 3)
    assert not moments[:, 1:].any()
    np.testing.assert_allclose(moments[:, 0], color.rgb2hsv(image)[0, 0], atol=SUM)
    np.testing.assert_allclose(got["luminance"], color.rgb2gray(image)[0, 0], rtol=SUM)


def test_rounding_of_a_mean_is_no_deviation():
    # Sums of 64 x 64 equal numbers are exact in pairs; those of 50 x 50 are not.
    values = jnp.linspace(0.1, 1, 30)[:, None, None] * jnp.ones((1, 50, 50))
    assert (values != values.mean((1, 2))[:, None, None]).any()
    mean, deviation = _center(values)
    assert not deviation.any()
    np.testing.assert_allclose(mean, np.linspace(0.1, 1, 30), rtol=SUM)


def test_names_are_unique_and_grouped_in_order():
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES) == len(FEATURE_GROUPS) == 59
    counts = {group: FEATURE_GROUPS.count(group) for group in FEATURE_GROUPS}
    want = {"sobel": 8, "gabor": 32, "hsv": 9, "fft": 8, "luminance": 1, "contrast": 1}
    assert list(counts.items()) == list(want.items())
    assert FEATURE_NAMES[8 + 8 + 2] == "gabor 5 px 45°"


@pytest.mark.parametrize("images", [np.zeros((2, 32, 32, 3), np.uint8), np.zeros((1, S, S, 3))])
def test_images_of_another_kind_are_refused(images):
    with pytest.raises(ValueError, match=r"give uint8 \[n, 64, 64, 3\]"):
        handcrafted_features(images)
