"""Published weights, where at hand: known pictures are told as their publishers' networks do."""

from pathlib import Path

import jax
import numpy as np
import pytest
import skimage.data

from substrate_jax.encoders import load_encoder

FOLDER = Path(__file__).parents[3] / "shared" / "weights"
# Class of ImageNet and its probability by timm 1.0, in two digits.
TOLD = {
    "tf_efficientnet_lite0": {"chelsea": (282, 0.39), "coffee": (967, 0.95), "camera": (872, 0.94)},
    "tf_efficientnet_lite2": {"chelsea": (285, 0.60), "coffee": (967, 0.89), "camera": (872, 0.62)},
}


@pytest.mark.parametrize("name", TOLD)
def test_pictures_are_told_as_timm_does(name):
    if not (FOLDER / f"{name}.safetensors").is_file():
        pytest.skip("published weights are absent")
    encoder = load_encoder(name, FOLDER)
    pictures = [getattr(skimage.data, picture)() for picture in TOLD[name]]
    colored = [p if p.ndim == 3 else np.stack([p] * 3, axis=-1) for p in pictures]
    features = encoder(encoder.preprocess(colored))
    found = np.asarray(jax.nn.softmax(encoder.module.classify(features)))
    assert found.argmax(axis=1).tolist() == [label for label, _ in TOLD[name].values()]
    # The figures are rounded to two digits.
    assert found.max(axis=1) == pytest.approx([p for _, p in TOLD[name].values()], abs=0.0051)
