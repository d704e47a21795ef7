"""Sounds made on the spot: tones whose pitch and rhythm say a digit, `tones:digits`.

Ten digits by five speakers, ten takes each, at 8,000 samples a second. A digit d is four beats at
the pitch 200 x 2^(d / 5) Hz, of which those are long whose bit is set in d. A speaker has a timbre
(how fast harmonics fade), a transposition by up to a third of an octave, a tempo and a noise; a
take moves pitch, tempo and loudness a little and has a noise of its own. So both the digit and the
speaker are in the sound. They stand in for recordings to show a method, and say nothing of speech.

Cost: about a millisecond a sound. Every sound depends on its id alone.
"""

import numpy as np
from jaxtyping import Float32

from substrate_jax.data.sounds import Sound
from substrate_jax.data.sources import Source, digest

RATE = 8_000
DIGITS, SPEAKERS, TAKES = 10, 5, 10
VERSION = 1  # of the sounds: features of others are computed anew
BEAT, LONG = 0.07, 2.2  # seconds of a short beat, and how much longer a long one is


def open_tones() -> Source:
    """All tones, under ids "3/speaker1/07" for the eighth take of the digit 3 by speaker 1.

    Example:
      >>> source = open_tones()
      >>> len(source), source.modality, source[0].id, source[0].label, source[0].sound.rate
      (500, 'sound', '0/speaker0/00', 0, 8000)
      >>> 0.4 < len(source[499].sound.samples) / RATE < 1
      True
    """
    keys = [(d, s, t) for d in range(DIGITS) for s in range(SPEAKERS) for t in range(TAKES)]
    return Source(
        name="tones:digits",
        ids=tuple(f"{d}/speaker{s}/{t:02d}" for d, s, t in keys),
        labels=np.array([digit for digit, _, _ in keys]),
        fingerprint=digest("tones:digits", str(VERSION)),
        read=lambda row: Sound(tone(*keys[row]), RATE),
        label_names=tuple(map(str, range(DIGITS))),
        modality="sound",
        rates=(RATE,),
    )


def tone(digit: int, speaker: int, take: int) -> Float32[np.ndarray, " n"]:
    """One sound.

    Args:
      digit: 0 to 9.
      speaker: from 0.
      take: from 0.

    Example:
      >>> bool(np.all(np.abs(tone(7, 2, 0)) < 1))
      True
    """
    voice = np.random.default_rng([VERSION, speaker])
    fading, transposed, tempo, noise = (
        voice.uniform(*ends) for ends in ((0.4, 2.0), (-0.33, 0.33), (0.8, 1.25), (0.01, 0.1))
    )
    own = np.random.default_rng([VERSION, speaker, digit, take])
    pitch = 200 * 2 ** (digit / 5 + transposed + own.normal(0, 0.03))
    tempo *= np.exp(own.normal(0, 0.05))
    loudness = 0.3 * np.exp(own.normal(0, 0.2))
    harmonics = np.arange(1, 9)
    harmonics = harmonics[harmonics * pitch < RATE / 2]
    weights = harmonics**-fading / np.sum(harmonics**-fading)
    beats = []
    for beat in range(4):
        seconds = BEAT / tempo * (LONG if digit >> beat & 1 else 1)
        time = np.arange(int(RATE * seconds)) / RATE
        waves = np.sin(2 * np.pi * pitch * np.outer(harmonics, time) + own.uniform(0, 2 * np.pi))
        swell = np.sin(np.pi * np.linspace(0, 1, len(time))) ** 0.5
        beats += [weights @ waves * swell, np.zeros(int(RATE * 0.03 / tempo))]
    sound = loudness * np.concatenate(beats)
    sound = sound + noise * loudness * own.normal(size=len(sound))
    return np.clip(sound, -0.999, 0.999).astype(np.float32)
