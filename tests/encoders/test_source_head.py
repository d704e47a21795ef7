"""What an encoder's own classifier says, from features alone."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from substrate_jax.encoders import load_encoder
from substrate_jax.encoders.find import find_weights
from substrate_jax.encoders.source_head import class_probabilities, reason_without_classes


@pytest.mark.parametrize(
    ("name", "key"),
    [("mini_resnet50", "fc"), ("mini_swin_tiny", "head.fc"), ("mini_vit_base", "head")],
)
def test_probabilities_are_the_softmax_of_the_checkpoints_linear_map(name, key):
    encoder = load_encoder(name)
    arrays = load_file(find_weights(encoder.spec))
    x = np.random.default_rng(0).normal(size=(5, encoder.spec.width)).astype(np.float32)
    logits = x.astype(np.float64) @ arrays[f"{key}.weight"].T + arrays[f"{key}.bias"]
    want = np.exp(logits - logits.max(axis=1, keepdims=True))
    found = class_probabilities(encoder, x)
    assert found.dtype == np.float64
    # Logits are sums of `width` float32 products of size up to |x| |w|.
    size = np.linalg.norm(x, axis=1).max() * np.linalg.norm(arrays[f"{key}.weight"], axis=1).max()
    limit = 8 * np.finfo(np.float32).eps * size
    np.testing.assert_allclose(found, want / want.sum(axis=1, keepdims=True), atol=limit)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mini_clip_base", "not trained on classes (image text)"),
        ("mini_dinov2_base", "not trained on classes (self supervised)"),
        ("mini_mae_base", "not trained on classes (masked reconstruction)"),
    ],
)
def test_heads_of_no_classes_are_none(name, reason):
    encoder = load_encoder(name)
    assert reason in reason_without_classes(encoder)
    with pytest.raises(ValueError, match=f"{name} has no classes: it was not trained"):
        class_probabilities(encoder, np.ones((2, encoder.spec.width), np.float32))


def test_a_classifier_that_the_weights_lack_is_none(monkeypatch):
    encoder = load_encoder("mini_vit_base")
    bare = type("Config", (), {"num_classes": 0})()
    monkeypatch.setattr(encoder.module, "config", bare)
    assert reason_without_classes(encoder) == "its weights hold no classifier"
