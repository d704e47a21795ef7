"""Statistics of mel spectrograms, through extraction, against NumPy."""

import numpy as np

from substrate_jax.data import open_source
from substrate_jax.data.sound_pictures import SPECTROGRAM
from substrate_jax.data.spectrogram import decibels
from substrate_jax.features import extract
from substrate_jax.features.log_mel import LogMel


def test_extraction_gives_means_and_deviations_of_bands():
    source = open_source("tones:digits").select(range(0, 500, 100))
    found = extract([LogMel()], source, batch_size=8)["log_mel"]
    for row, features in enumerate(found):
        samples = SPECTROGRAM.prepare(source[row].sound).astype(np.float64)
        levels = decibels(samples, SPECTROGRAM, np).astype(np.float64)
        want = np.concatenate([levels.mean(axis=0), levels.std(axis=0)])
        # Decibels of float32 spectra: far bands lie 1e-7 of the loudest in amplitude.
        np.testing.assert_allclose(features, want, atol=0.05)
