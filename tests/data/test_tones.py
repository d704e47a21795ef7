"""Synthetic tones: what is in them, and their pictures."""

import numpy as np
import pytest

from substrate_jax import data
from substrate_jax.data import tones
from substrate_jax.data.sound_pictures import SPECTROGRAM, picture_of, pictures_of
from substrate_jax.data.sounds import Sound
from substrate_jax.data.spectrogram import mel_filters


def strongest(samples):
    """Hz of the strongest frequency."""
    power = np.abs(np.fft.rfft(samples))
    return np.fft.rfftfreq(len(samples), 1 / tones.RATE)[power.argmax()]


def test_a_sound_depends_on_its_id_alone():
    source = data.open_source("tones:digits")
    assert source.select([321])[0].sound.samples.tobytes() == source[321].sound.samples.tobytes()
    assert len({source[row].sound.samples.tobytes() for row in range(0, 500, 7)}) == 72
    assert np.bincount(source.labels).tolist() == [50] * 10
    assert len(set(source.ids)) == 500


@pytest.mark.parametrize("speaker", range(tones.SPEAKERS))
def test_pitch_says_the_digit(speaker):
    """Two digits five apart are an octave apart, but for what a take moves the pitch."""
    pitch = [np.median([strongest(tones.tone(d, speaker, t)) for t in range(9)]) for d in (2, 7)]
    assert abs(np.log2(pitch[1] / pitch[0]) - 1) < 4 * 0.03  # standard error .03 x 1.25 x 2^.5 / 3


def test_rhythm_says_the_digit():
    """Of all speakers 0 has four short beats and 15's bits would be four long ones."""
    for speaker in range(tones.SPEAKERS):
        short, long = (len(tones.tone(digit, speaker, 0)) for digit in (0, 7))
        assert 1.4 < long / short < 2.3  # three beats 2.2 times as long, pauses as they are


def test_what_is_no_set_of_tones():
    with pytest.raises(ValueError, match="there is tones:digits"):
        data.open_source("tones:words")


def test_a_picture_is_light_where_the_tone_is():
    time = np.arange(8000) / 8000
    bands = mel_filters(SPECTROGRAM)
    for hertz in (300.0, 1000.0, 3000.0):
        sound = Sound(0.01 * np.sin(2 * np.pi * hertz * time).astype(np.float32), 8000)
        picture = picture_of(sound)
        row = 63 - int(bands[round(hertz / 20)].argmax())  # 20 Hz from one frequency to the next
        assert set(picture[:, 32, 0].argmax(axis=0, keepdims=True)) <= {row - 1, row, row + 1}
        assert picture.max() == 255
        louder = picture_of(Sound(100 * sound.samples, 8000))
        assert np.abs(louder.astype(int) - picture).max() <= 1


def test_silence_and_images():
    assert not picture_of(Sound(np.zeros(10, np.float32), 8000)).min() < 255
    with pytest.raises(ValueError, match="holds images: give a source of sounds"):
        pictures_of(data.open_source("digits"))
