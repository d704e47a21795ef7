"""What transformers and LiteRT computed on sounds (tests/golden/make_sound_golden.py)."""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "golden" / "sounds"
CLAP = ("clap", "clap_audio_model", "clap_fused")


def golden(name: str) -> dict:
    """The arrays of a golden, and of CLAP's the config, preprocessor and inventory."""
    arrays = dict(np.load(FOLDER / f"{name}.npz"))
    if "about" in arrays:
        arrays |= json.loads(str(arrays.pop("about")))
    return arrays
