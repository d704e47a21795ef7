"""Synthetic sounds and speech weights, made alike where the goldens are made and in the tests."""

import numpy as np

from tests.golden import weights


def sound(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    """A chirp with a beat under noise, float32, about -0.5 to 0.5: no two parts are alike."""
    rng = np.random.Generator(np.random.SFC64([20260608, seed]))
    time = np.arange(round(seconds * rate)) / rate
    low, rise = 0.02 * rate * (1 + seed), 0.05 * rate
    chirp = np.sin(2 * np.pi * (low + rise * time / max(seconds, 1e-9)) * time)
    beat = 0.5 + 0.5 * np.sin(2 * np.pi * (3 + seed) * time)
    return (0.4 * beat * chirp + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


def levels(shape) -> np.ndarray:
    """Spectrograms in dB, float32 [n, parts, frames, bands], about -100 to 0, of no sound."""
    rng = np.random.Generator(np.random.SFC64(20260609))
    frames, bands = np.arange(shape[-2])[:, None], np.arange(shape[-1])
    phases = rng.uniform(0, 2 * np.pi, shape[:-2])[..., None, None]
    wave = np.sin(0.1 * frames + 0.5 * bands + phases)
    profile = 20 * rng.standard_normal((*shape[:-2], 1, shape[-1]))
    return (-50 + 10 * wave + profile + 5 * rng.standard_normal(shape)).astype(np.float32)


def speech_arrays(kernels) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights [height, width, in, out] and bias of each convolution of the speech encoder."""
    found = []
    for index, (height, width, inside, outside) in enumerate(kernels):
        weight = weights.tensor(f"convs.{index}.weight", (outside, inside, height, width))
        bias = weights.tensor(f"convs.{index}.bias", (outside,))
        found.append((weight.transpose(2, 3, 1, 0), bias))
    return found
