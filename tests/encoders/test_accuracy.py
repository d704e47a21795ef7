"""Recorded accuracies: of registered encoders only, where they have a head, in percent."""

import json
from importlib import resources

from substrate_jax.encoders import encoder_spec, list_encoders
from substrate_jax.encoders.accuracy import CIFAR, IMAGENET, source_accuracy


def test_published_checkpoints_with_a_head_of_imagenet():
    path = resources.files("substrate_jax.encoders") / "imagenet_top1.json"
    recorded = json.loads(path.read_text())
    assert recorded.keys() <= set(list_encoders())
    for name in recorded:
        spec = encoder_spec(name)
        assert spec.config.num_classes == 1000, name
        kind, accuracy = source_accuracy(spec)
        assert kind == IMAGENET
        assert 60 < accuracy < 91, name
    absent = {
        name
        for name in list_encoders()
        if encoder_spec(name).config.num_classes == 1000 and name not in recorded
    }
    assert not absent


def test_the_mini_panel_has_its_own():
    for name in list_encoders("mini"):
        kind, accuracy = source_accuracy(encoder_spec(name))
        assert kind == CIFAR
        assert 15 < accuracy < 60


def test_what_has_no_head_has_none():
    assert source_accuracy(encoder_spec("clip_base")) is None
